"""Embeddings on disk, so that no image and no text is encoded twice with the same weights.

A cache folder holds one folder per namespace (a fingerprint of weights, specs, engine and precision); in it lie segments that never change once written:
`<name>.npy`, (N, D) float32, and `<name>.keys`, N content hashes. They are mapped only while they are read, since each map holds one of
the process's few file descriptors. Each writer adds segments of its own, so several may write at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mismatch.data.audit import untraced
from mismatch.errors import CheckpointError, ImageError, InputError
from mismatch.runtime.pipeline import NO_NUMBER, Pipeline
from mismatch.runtime.preprocess import open_image_file

__all__ = ["EmbeddingCache", "embed_images", "embed_texts"]

Array = NDArray[np.float32]
Item = TypeVar("Item")
KEY_BYTES = 16  # of BLAKE2b; two of 10⁹ contents collide with a chance of 10⁻²¹
SEGMENT_ROWS = 2048  # embeddings encoded between two writes: what an interruption can cost; a multiple of every batch, see `_embed`
READ_ROWS = 65_536  # embeddings that are fetched together
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # of this process or machine: they say nothing of the segment
MAX_BYTES = 8 * 2**30  # of a whole cache folder; beyond it the oldest segments go


class EmbeddingCache:
    """The embeddings of one namespace."""

    def __init__(self, folder: str | Path, namespace: str, *, max_bytes: int = MAX_BYTES) -> None:
        """`folder`: shared by all namespaces, `max_bytes` large at most; `namespace`: hex."""
        self.root = Path(folder)
        self.folder = self.root / namespace[:32]
        self.max_bytes = max_bytes
        self._where: dict[bytes, tuple[Path, int]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"the cache folder {self.root} can't be created: {error.strerror}; choose another with --cache") from error
        segments = sorted((stat.st_mtime_ns, keys) for keys in self.folder.glob("*.keys") if (stat := _stat(keys)))
        for _, keys in segments:
            self._where = _open(keys) | self._where  # of two embeddings of one content the older counts: who has read it shall read it again

    def __len__(self) -> int:
        return len(self._where)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Array]:
        """Those of `keys` that are known, each with its embedding (D,), copied; one segment is open at a time."""
        wanted: dict[Path, list[tuple[bytes, int]]] = {}
        for key in keys:
            if place := self._where.get(key):
                wanted.setdefault(place[0], []).append((key, place[1]))
        found: dict[bytes, Array] = {}
        for segment, chosen in wanted.items():
            array = _map(segment)
            if array is None:  # another writer has trimmed it since
                continue
            found.update(zip((key for key, _ in chosen), array[[row for _, row in chosen]], strict=True))
        return found

    def put_many(self, embeddings: Mapping[bytes, Array]) -> None:
        """Write one segment. A crash leaves either all of it or nothing that is read."""
        if not embeddings:
            return
        keys = self.folder / f"{uuid.uuid4().hex}.keys"
        try:
            _write(keys.with_suffix(".npy"), lambda part: np.save(part, np.stack(list(embeddings.values())).astype(np.float32)))
            _write(keys, lambda part: part.write_bytes(b"".join(embeddings)))
        except OSError as error:
            raise CheckpointError(f"the cache {self.root} can't be written: {error.strerror}; make room or choose another with --cache") from error
        self._where |= _open(keys)
        self._trim(keep=keys)

    def _trim(self, keep: Path) -> None:
        """Delete the oldest segments of all namespaces beyond `max_bytes`; who looks for one of them later encodes anew."""
        segments = sorted((stat.st_mtime, path, stat.st_size) for path in self.root.glob("*/*.npy") if (stat := _stat(path)))
        excess = sum(size for _, _, size in segments) - self.max_bytes
        for _, path, size in segments:
            if excess <= 0 or path == keep.with_suffix(".npy"):
                continue
            with contextlib.suppress(PermissionError):  # Windows deletes no file that somebody reads
                path.with_suffix(".keys").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            excess -= size


def _write(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.part{path.suffix}")  # np.save appends .npy to other names
    try:
        write(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _open(keys: Path) -> dict[bytes, tuple[Path, int]]:
    """Where each of a segment's embeddings is; a segment that is damaged counts as empty."""
    array, names = _map(keys), _unless_damaged(keys.read_bytes)
    if array is None or names is None or array.ndim != 2 or len(names) != KEY_BYTES * len(array):
        return {}
    return {names[i * KEY_BYTES : (i + 1) * KEY_BYTES]: (keys, i) for i in range(len(array))}


def _map(keys: Path) -> Array | None:
    """A segment's embeddings (N, D), mapped for as long as the array lives; None for one that is damaged or gone."""
    return _unless_damaged(lambda: np.load(keys.with_suffix(".npy"), mmap_mode="r", allow_pickle=False))


def _unless_damaged(read: Callable[[], Item]) -> Item | None:
    try:
        return read()
    except (EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in SHORTAGES:
            raise CheckpointError(f"the cache can't be read: {error.strerror} ({error.filename}); close other files or raise `ulimit -n`") from error
        return None


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):  # another writer may have trimmed it
        return path.stat()
    return None


Problems = dict[int, InputError]  # position → why there is no embedding
Progress = Callable[[int], object]  # called with the number of items just done


def embed_images(pipeline: Pipeline, paths: Sequence[Path], *, cache: EmbeddingCache | None = None, progress: Progress | None = None) -> tuple[Array, Problems]:
    """N image files → (N, image_width) embeddings with their features, and why some rows of it are nan. A cache encodes each content once, ever."""
    keys, problems = _hash_files(paths, pipeline.workers)

    def encode(positions: Sequence[int]) -> Iterable[Array | InputError]:
        return pipeline.images([paths[i] for i in positions])

    return _embed(keys, problems, encode, pipeline.engine.image_width, cache, progress)


def embed_texts(pipeline: Pipeline, texts: Sequence[str], *, cache: EmbeddingCache | None = None, progress: Progress | None = None) -> tuple[Array, Problems]:
    """N texts, or pieces of long ones (`Pipeline.pieces`), → (N, text_width) embeddings with their features, and why some rows of it are nan."""
    keys: list[bytes | None] = [_hash(b"text", text.encode("utf-8", "surrogatepass")) for text in texts]

    def encode(positions: Sequence[int]) -> Iterable[Array | InputError]:
        return pipeline.texts([texts[i] for i in positions])

    return _embed(keys, {}, encode, pipeline.engine.text_width, cache, progress)


def _embed(
    keys: Sequence[bytes | None],
    problems: Problems,
    encode: Callable[[Sequence[int]], Iterable[Array | InputError]],
    width: int,
    cache: EmbeddingCache | None,
    progress: Progress | None,
) -> tuple[Array, Problems]:
    """Embed what the cache lacks, a segment at a time. What is encoded together, and with it the last digits, is the same whether or not the work was
    cut short in between, as only whole segments are kept and the next one begins where it would have.
    """
    result = np.full((len(keys), width), np.nan, np.float32)
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key is not None}  # of equal contents, the first stands for all
    known = _read(cache, first, result) if cache is not None else set()
    missing = sorted(i for key, i in first.items() if key not in known)
    if progress is not None:
        progress(len(keys) - len(missing))
    for chosen in _slices(missing, SEGMENT_ROWS):
        fresh: dict[bytes, Array] = {}
        for i, value in zip(chosen, encode(chosen), strict=True):
            if isinstance(value, InputError):
                problems[i] = value
            elif not np.isfinite(value).all():
                problems[i] = InputError(NO_NUMBER)
            else:
                result[i] = fresh[keys[i] or b""] = value
            if progress is not None:
                progress(1)
        if cache is not None:
            cache.put_many(fresh)
    _repeat(keys, first, result, problems)
    return result, problems


def _read(cache: EmbeddingCache, first: Mapping[bytes, int], result: Array) -> set[bytes]:
    """Copy what the cache has into its rows of `result` (N, D); returns the keys of those rows."""
    known: set[bytes] = set()
    for keys in _slices(list(first), READ_ROWS):
        for key, value in cache.get_many(keys).items():
            result[first[key]] = value
            known.add(key)
    return known


def _repeat(keys: Sequence[bytes | None], first: Mapping[bytes, int], result: Array, problems: Problems) -> None:
    """What became of the first of equal contents becomes of the others too."""
    for i, key in enumerate(keys):
        if key is None or first[key] == i:
            continue
        if first[key] in problems:
            problems[i] = problems[first[key]]
        else:
            result[i] = result[first[key]]


def _hash_files(paths: Sequence[Path], workers: int) -> tuple[list[bytes | None], Problems]:
    keys: list[bytes | None] = []
    problems: Problems = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="mismatch-hash") as pool:
        for chosen in _slices(paths, SEGMENT_ROWS):
            for value in pool.map(_hash_file, chosen):
                if isinstance(value, ImageError):
                    problems[len(keys)] = value
                keys.append(value if isinstance(value, bytes) else None)
    return keys, problems


def _hash_file(path: Path) -> bytes | ImageError:
    try:
        with open_image_file(path) as file:
            return hashlib.file_digest(file, lambda: _hasher(b"image")).digest()
    except ImageError as error:
        return untraced(error)
    except OSError as error:
        return ImageError(f"image '{path}' can't be read: {error.strerror}")


def _hash(kind: bytes, content: bytes) -> bytes:
    hasher = _hasher(kind)
    hasher.update(content)
    return hasher.digest()


def _hasher(kind: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=KEY_BYTES, person=kind)


def _slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
