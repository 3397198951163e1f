"""Files and texts become rows of one array of embeddings, what a cache knows without running a
tower: how training reads its data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import ImageError, InputError
from mismatch.io.remote import Remote
from mismatch.runtime.cache import EmbeddingCache, HashedFile, hash_file, text_key
from mismatch.runtime.pipeline import NO_NUMBER, Pipeline

__all__ = ["embed_images", "embed_texts"]

Array = NDArray[np.float32]
Item = TypeVar("Item")
# embeddings encoded between two writes: what an interruption can cost; a multiple of every batch,
# see `_embed`
SEGMENT_ROWS = 2048
READ_ROWS = 65_536  # embeddings that are fetched together
Problems = dict[int, InputError]  # position → why there is no embedding
# N positions → an embedding each, or why there is none
Encode = Callable[[Sequence[int]], Iterable[Array | InputError]]
Progress = Callable[[int], object]  # called with the number of items just done


def embed_images(
    pipeline: Pipeline,
    paths: Sequence[Path | Remote],
    *,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
) -> tuple[Array, Problems]:
    """Embed N image files → (N, image_width) embeddings with their features, and why some rows of
    it are nan. A cache encodes each content once, ever.
    """
    files, problems = _hash_files(paths, pipeline.workers)

    def encode(positions: Sequence[int]) -> Iterable[Array | InputError]:
        return pipeline.images([paths[i] for i in positions])

    def changed(positions: Sequence[int]) -> list[int]:
        return [
            i
            for i, same in zip(
                positions,
                _are_unchanged([files[i] for i in positions], pipeline.workers),
                strict=True,
            )
            if not same
        ]

    keys = [None if file is None else file.key for file in files]
    return _embed(keys, problems, encode, pipeline.engine.image_width, cache, progress, changed)


def embed_texts(
    pipeline: Pipeline,
    texts: Sequence[str],
    *,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
) -> tuple[Array, Problems]:
    """Embed N texts, or pieces of long ones (`Pipeline.pieces`), → (N, text_width) embeddings with
    their features, and why some rows of it are nan.
    """
    keys: list[bytes | None] = [text_key(text) for text in texts]

    def encode(positions: Sequence[int]) -> Iterable[Array | InputError]:
        return pipeline.texts([texts[i] for i in positions])

    return _embed(keys, {}, encode, pipeline.engine.text_width, cache, progress)


def _nothing_changed(positions: Sequence[int]) -> list[int]:
    return []


def _embed(
    keys: Sequence[bytes | None],
    problems: Problems,
    encode: Encode,
    width: int,
    cache: EmbeddingCache | None,
    progress: Progress | None,
    changed: Callable[[Sequence[int]], list[int]] = _nothing_changed,
) -> tuple[Array, Problems]:
    """Embed what the cache lacks, a segment at a time. What is encoded together, and with it the
    last digits, is the same whether or not the work was cut short in between, as only whole
    segments are kept and the next one begins where it would have.

    `changed`: those of N positions whose content is no longer that of their key. Their embeddings
    stand for nothing else: neither in the cache nor here.
    """
    result = np.full((len(keys), width), np.nan, np.float32)
    # the first of equal contents stands for all
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key is not None}
    cached = _read(cache, first, result) if cache is not None else set()
    missing = sorted(i for key, i in first.items() if key not in cached)
    if progress is not None:
        progress(len(keys) - len(missing))
    stale: set[bytes | None] = set()  # keys whose first file has changed
    for chosen in _slices(missing, SEGMENT_ROWS):
        _encode_into(result, problems, chosen, encode, progress)
        stale |= {keys[i] for i in changed(chosen)}
        if cache is not None:
            encoded = ((keys[i], result[i]) for i in chosen if i not in problems)
            cache.put_many(
                {key: row for key, row in encoded if key is not None and key not in stale}
            )
    alone = [i for i, key in enumerate(keys) if key in stale and first[key or b""] != i]
    for chosen in _slices(alone, SEGMENT_ROWS):
        _encode_into(result, problems, chosen, encode)
    _repeat([None if key in stale else key for key in keys], first, result, problems)
    return result, problems


def _encode_into(
    result: Array,
    problems: Problems,
    chosen: Sequence[int],
    encode: Encode,
    progress: Progress | None = None,
) -> None:
    """Fill the chosen rows of `result` (N, D), or note why they stay nan."""
    for i, value in zip(chosen, encode(chosen), strict=True):
        if isinstance(value, InputError):
            problems[i] = value
        elif not np.isfinite(value).all():
            problems[i] = InputError(NO_NUMBER)
        else:
            result[i] = value
        if progress is not None:
            progress(1)


def _read(cache: EmbeddingCache, first: Mapping[bytes, int], result: Array) -> set[bytes]:
    """Copy what the cache has into its rows of `result` (N, D); returns the keys of those rows."""
    cached: set[bytes] = set()
    for keys in _slices(list(first), READ_ROWS):
        for key, value in cache.get_many(keys, result.shape[1]).items():
            result[first[key]] = value
            cached.add(key)
    return cached


def _repeat(
    keys: Sequence[bytes | None], first: Mapping[bytes, int], result: Array, problems: Problems
) -> None:
    """Copy what became of the first of equal contents to the others."""
    for i, key in enumerate(keys):
        if key is None or first[key] == i:
            continue
        if first[key] in problems:
            problems[i] = problems[first[key]]
        else:
            result[i] = result[first[key]]


def _hash_files(
    paths: Sequence[Path | Remote], workers: int
) -> tuple[list[HashedFile | None], Problems]:
    files: list[HashedFile | None] = []
    problems: Problems = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="mismatch-hash") as pool:
        for chosen in _slices(paths, SEGMENT_ROWS):
            for value in pool.map(hash_file, chosen):
                if isinstance(value, ImageError):
                    problems[len(files)] = value
                files.append(value if isinstance(value, HashedFile) else None)
    return files, problems


def _are_unchanged(files: Sequence[HashedFile | None], workers: int) -> list[bool]:
    with ThreadPoolExecutor(workers, thread_name_prefix="mismatch-hash") as pool:
        return list(pool.map(_is_unchanged, files))


def _is_unchanged(file: HashedFile | None) -> bool:
    return file is not None and file.is_unchanged()


def _slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
