"""Embeddings on disk, so that no image and no text is encoded twice with the same weights.

A cache folder holds one folder per namespace (a fingerprint of weights, specs, engine and precision); in it lie segments that never change once written:
`<name>.npy`, (N, D) float32, memory-mapped, and `<name>.keys`, N content hashes. Each writer adds segments of its own, so several may write at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError, ImageNotFoundError, InputError
from mismatch.runtime.pipeline import Pipeline

__all__ = ["EmbeddingCache", "embed_images", "embed_texts"]

Array = NDArray[np.float32]
KEY_BYTES = 16  # of BLAKE2b; two of 10⁹ contents collide with a chance of 10⁻²¹
SEGMENT_ROWS = 2048  # embeddings encoded between two writes: what an interruption can cost
MAX_BYTES = 8 * 2**30  # of a whole cache folder; beyond it the oldest segments go


class EmbeddingCache:
    """The embeddings of one namespace."""

    def __init__(self, folder: str | Path, namespace: str, *, max_bytes: int = MAX_BYTES) -> None:
        """`folder`: shared by all namespaces, `max_bytes` large at most; `namespace`: hex."""
        self.root = Path(folder)
        self.folder = self.root / namespace[:32]
        self.max_bytes = max_bytes
        self._where: dict[bytes, tuple[Path, int]] = {}
        self._arrays: dict[Path, Array] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"the cache folder {self.root} can't be created: {error.strerror}; choose another with --cache") from error
        for keys in sorted(self.folder.glob("*.keys")):
            self._open(keys)

    def __len__(self) -> int:
        return len(self._where)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Array]:
        """Those of `keys` that are known, each with its embedding (D,)."""
        return {key: self._arrays[place[0]][place[1]] for key in keys if (place := self._where.get(key))}

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
        self._open(keys)
        self._trim(keep=keys)

    def _open(self, keys: Path) -> None:
        """Index a segment; one that is damaged counts as absent."""
        try:
            names = keys.read_bytes()
            array = np.load(keys.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return
        if array.ndim != 2 or len(names) != KEY_BYTES * len(array):
            return
        self._arrays[keys] = array
        self._where |= {names[i * KEY_BYTES : (i + 1) * KEY_BYTES]: (keys, i) for i in range(len(array))}

    def _trim(self, keep: Path) -> None:
        """Delete the oldest segments of all namespaces beyond `max_bytes`; who has them mapped keeps them until done."""
        segments = sorted((stat.st_mtime, path, stat.st_size) for path in self.root.glob("*/*.npy") if (stat := _stat(path)))
        excess = sum(size for _, _, size in segments) - self.max_bytes
        for _, path, size in segments:
            if excess <= 0 or path == keep.with_suffix(".npy"):
                continue
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


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):  # another writer may have trimmed it
        return path.stat()
    return None


Problems = dict[int, InputError]  # position → why there is no embedding
Progress = Callable[[int], object]  # called with the number of items just done


def embed_images(pipeline: Pipeline, paths: Sequence[Path], *, cache: EmbeddingCache | None = None, progress: Progress | None = None) -> tuple[Array, Problems]:
    """N image files → (N, image_dim) embeddings, and why some rows of it are nan. Each content is encoded once, ever, where there is a cache."""
    keys, problems = _hash_files(paths)

    def encode(positions: Sequence[int]) -> Iterable[Array | InputError]:
        return pipeline.images([paths[i] for i in positions])

    return _embed(keys, problems, encode, pipeline.engine.image_dim, cache, progress)


def embed_texts(pipeline: Pipeline, texts: Sequence[str], *, cache: EmbeddingCache | None = None, progress: Progress | None = None) -> tuple[Array, Problems]:
    """N texts → (N, text_dim) embeddings, and why some rows of it are nan."""
    keys: list[bytes | None] = [_hash(b"text", text.encode("utf-8", "surrogatepass")) for text in texts]

    def encode(positions: Sequence[int]) -> Iterable[Array | InputError]:
        return pipeline.texts([texts[i] for i in positions])

    return _embed(keys, {}, encode, pipeline.engine.text_dim, cache, progress)


def _embed(
    keys: Sequence[bytes | None],
    problems: Problems,
    encode: Callable[[Sequence[int]], Iterable[Array | InputError]],
    width: int,
    cache: EmbeddingCache | None,
    progress: Progress | None,
) -> tuple[Array, Problems]:
    known = cache.get_many(key for key in keys if key is not None) if cache is not None else {}
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key is not None}  # of equal contents, the first stands for all
    missing = sorted(i for key, i in first.items() if key not in known)
    if progress is not None:
        progress(len(keys) - len(missing))
    failed: dict[bytes, InputError] = {}
    for chosen in _slices(missing, SEGMENT_ROWS):
        fresh: dict[bytes, Array] = {}
        for i, value in zip(chosen, encode(chosen), strict=True):
            key = keys[i] or b""
            if isinstance(value, InputError):
                failed[key] = value
            else:
                fresh[key] = value
            if progress is not None:
                progress(1)
        known |= fresh
        if cache is not None:
            cache.put_many(fresh)
    return _gather(keys, known, problems, failed, width)


def _gather(
    keys: Sequence[bytes | None], known: Mapping[bytes, Array], problems: Problems, failed: Mapping[bytes, InputError], width: int
) -> tuple[Array, Problems]:
    result = np.full((len(keys), width), np.nan, np.float32)
    for i, key in enumerate(keys):
        if key is None:
            continue
        if key in failed:
            problems[i] = failed[key]
        else:
            result[i] = known[key]
    return result, problems


def _hash_files(paths: Sequence[Path]) -> tuple[list[bytes | None], Problems]:
    keys: list[bytes | None] = []
    problems: Problems = {}
    for i, path in enumerate(paths):
        try:
            keys.append(_hash(b"image", path.read_bytes()))
        except OSError as error:
            keys.append(None)
            problems[i] = ImageNotFoundError(f"image {str(path)!r} can't be read: {error.strerror}")
    return keys, problems


def _hash(kind: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES, person=kind).digest()


def _slices(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
