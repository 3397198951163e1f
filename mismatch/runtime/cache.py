"""Embeddings on disk, so that no image and no text is encoded twice with the same weights.

A cache folder holds one folder per namespace (a fingerprint of weights, specs, engine and
precision); in it lie segments that never change once written: `<name>.npy`, (N, D + 1) float32, of
which the last is a checksum of its row, and `<name>.keys`, N content hashes. They are mapped only
while they are read, since each map holds one of the process's few file descriptors. Each writer
adds segments of its own, so several may write at once. What is removed is only what the cache lists
as its own, see cache_folder.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mismatch.data.embedded.names import container_of
from mismatch.errors import CheckpointError, ImageError, without_traceback
from mismatch.io.remote import Remote
from mismatch.io.retries import reason, retried
from mismatch.runtime.cache_folder import (
    KEY_BYTES,
    Namespace,
    cache_folder,
    checksum,
    map_segment,
    namespaces,
    part_of,
    segment_keys,
)
from mismatch.runtime.preprocess import open_image_file

__all__ = ["EmbeddingCache", "HashedFile", "bytes_key", "hash_file", "text_key"]

Array = NDArray[np.float32]
MAX_BYTES = 8 * 2**30  # a whole cache folder has no more; the oldest segments go
# before 2, special tokens that a text spells out were tokens: what is stored by such a key is of
# another text
TEXT = b"text-2"
SETTLED_NS = 2 * 10**9  # after which a change gives a file another time: FAT counts in two seconds


class EmbeddingCache:
    """The embeddings of one namespace. Thread-safe."""

    def __init__(self, folder: str | Path, namespace: str, *, max_bytes: int = MAX_BYTES) -> None:
        """Open a cache. `folder`: shared by all namespaces, `max_bytes` large at most; `namespace`:
        hex. In a folder of other things the cache has a folder of its own.
        """
        self.root = cache_folder(Path(folder))
        self.folder = self.root / namespace[:32]
        self.max_bytes = max_bytes
        self._namespace = Namespace(self.folder)
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"the cache folder {self.root} can't be created: {error.strerror}; choose another"
                " with `cache`"
            ) from error
        self._namespace.sweep()
        stats = [(_stat(keys), keys) for keys in self.folder.glob("*.keys")]
        oldest_first = sorted((stat.st_mtime_ns, keys) for stat, keys in stats if stat)
        segments = [(keys, segment_keys(keys)) for _, keys in oldest_first]
        self._index = Index([(keys, names) for keys, names in segments if names])

    def __len__(self) -> int:
        return len(self._index.names)

    def get_many(self, keys: Iterable[bytes], width: int | None = None) -> dict[bytes, Array]:
        """Return those of `keys` that are known and undamaged, each with its embedding (D,),
        copied. One segment is open at a time. `width`: of those embeddings that count as undamaged.
        """
        wanted: dict[Path, list[tuple[bytes, int]]] = {}
        with self._lock:
            places = self._index.find(list(keys))
        for key, (segment, row) in places.items():
            wanted.setdefault(segment, []).append((key, row))
        embeddings: dict[bytes, Array] = {}
        for segment, chosen in wanted.items():
            array = map_segment(segment)
            # another writer has trimmed it since, or wrote something else there
            if array is None or array.ndim != 2:
                continue
            if width is not None and array.shape[1] != width + 1:
                continue
            embeddings.update(
                _intact([key for key, _ in chosen], np.asarray(array[[row for _, row in chosen]]))
            )
        return embeddings

    def put_many(self, embeddings: Mapping[bytes, Array]) -> None:
        """Write one segment. A crash leaves either all of it or nothing that is read."""
        if not embeddings:
            return
        try:
            keys = self._namespace.new_segment()
            _write(keys.with_suffix(".npy"), _npy(_with_checksums(embeddings)))
            _write(keys, b"".join(embeddings))
        except OSError as error:
            raise CheckpointError(
                f"the cache {self.root} can't be written: {reason(error)}; make room or choose"
                " another with `cache`"
            ) from error
        with self._lock:
            self._index.add(keys, b"".join(embeddings))
        self._trim(keep=keys)

    def _trim(self, keep: Path) -> None:
        """Delete the oldest segments of all namespaces beyond `max_bytes`; who looks for one of
        them later encodes again.
        """
        segments = sorted(_sizes(self.root), key=lambda segment: (segment[0], segment[2]))
        excess = sum(size for _, size, _, _ in segments) - self.max_bytes
        for _, size, name, namespace in segments:
            if excess <= 0 or name == keep.stem:
                continue
            # Windows deletes no file that somebody reads
            with contextlib.suppress(PermissionError):
                namespace.remove(name)
            excess -= size


def _sizes(root: Path) -> Iterator[tuple[float, int, str, Namespace]]:
    """Yield when each listed segment was written, its bytes, its name and its namespace."""
    for namespace in namespaces(root):
        for name in namespace.segments():
            if stat := _stat(namespace.folder / f"{name}.npy"):
                yield stat.st_mtime, stat.st_size, name, namespace


class Index:
    """Where each key's embedding is, in sorted arrays: 24 bytes a key, where a dict takes 250, and
    a catalogue has millions.
    """

    def __init__(self, segments: Sequence[tuple[Path, bytes]]) -> None:
        """Index `segments`: the oldest first, with their keys. The older of
        two embeddings of one content counts: who has read it has to read it again.
        """
        self.segments = [segment for segment, _ in segments]
        every = _names(b"".join(names for _, names in segments))
        self.names, first = np.unique(every, return_index=True)
        counts = [len(names) // KEY_BYTES for _, names in segments]
        places = [
            np.stack([np.full(count, i, np.int32), np.arange(count, dtype=np.int32)], axis=1)
            for i, count in enumerate(counts)
        ]
        # (N, 2): segment, row in it
        self.places = np.concatenate([np.empty((0, 2), np.int32), *places])[first]

    def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Path, int]]:
        """Return those of `keys` that are known, each with its segment and its row there."""
        positions, is_listed = self._search(_names(b"".join(keys)))
        return {
            keys[i]: (
                self.segments[self.places[positions[i], 0]],
                int(self.places[positions[i], 1]),
            )
            for i in np.flatnonzero(is_listed).tolist()
        }

    def add(self, segment: Path, keys: bytes) -> None:
        """Enter a new segment; it replaces what is known of its keys, as who writes them again has
        not found them.
        """
        names, rows = np.unique(_names(keys), return_index=True)
        places = np.stack(
            [np.full(len(rows), len(self.segments), np.int32), rows.astype(np.int32)], axis=1
        )
        self.segments.append(segment)
        positions, is_listed = self._search(names)
        self.places[positions[is_listed]] = places[is_listed]
        self.names = np.insert(self.names, positions[~is_listed], names[~is_listed])
        self.places = np.insert(self.places, positions[~is_listed], places[~is_listed], axis=0)

    def _search(self, names: NDArray[np.bytes_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return where each name is or would be, and whether it is there."""
        positions = np.searchsorted(self.names, names)
        is_listed = np.zeros(len(names), np.bool_)
        inside = positions < len(self.names)
        is_listed[inside] = self.names[positions[inside]] == names[inside]
        return positions, is_listed


def _names(keys: bytes) -> NDArray[np.bytes_]:
    return np.frombuffer(keys, f"S{KEY_BYTES}")


def _with_checksums(embeddings: Mapping[bytes, Array]) -> Array:
    """Put each embedding's checksum behind it: (N, D + 1)."""
    rows = np.ascontiguousarray(np.stack(list(embeddings.values())), np.float32)
    sums = np.array(
        [checksum(key, row) for key, row in zip(embeddings, rows, strict=True)], np.uint32
    )
    return np.concatenate([rows, sums.view(np.float32)[:, None]], axis=1)


def _intact(keys: Sequence[bytes], array: Array) -> Iterator[tuple[bytes, Array]]:
    """Yield, of (N, D + 1) rows, those that are as they were written. A wrong bit would be a wrong
    score, now and later.
    """
    rows = array[:, :-1]
    sums = np.ascontiguousarray(array[:, -1]).view(np.uint32)
    yield from (
        (key, row)
        for key, row, expected in zip(keys, rows, sums.tolist(), strict=True)
        if checksum(key, row) == expected
    )


def _npy(array: Array) -> memoryview:
    """Return the bytes of a .npy file. NumPy's own writing to a file hides why the system refused
    it.
    """
    file = io.BytesIO()
    np.save(file, array)
    return file.getbuffer()


def _write(path: Path, data: bytes | memoryview) -> None:
    part = part_of(path)
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):  # another writer may have trimmed it
        return path.stat()
    return None


# a file's device, inode, bytes, when its content and when its entry changed
Version = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class HashedFile:
    """An image file, or object, as it was when it was hashed."""

    path: Path | str | Remote
    key: bytes  # hash of its content
    version: Version | None  # None where only another hash tells whether it is the same still

    def is_unchanged(self) -> bool:
        """Return whether the file holds what was hashed, so that an embedding made in between is of
        that; False where it can't be read any more.
        """
        if self.version is not None:
            with contextlib.suppress(OSError, ValueError):
                return _version(self.path) == self.version
            return False
        current = hash_file(self.path)
        return isinstance(current, HashedFile) and current.key == self.key


def hash_file(path: Path | str | Remote) -> HashedFile | ImageError:
    """Return the key of an image file's content, or why it can't be read."""
    try:
        return retried(lambda: _hash_file(path))
    except ImageError as error:
        return without_traceback(error)
    except OSError as error:
        return ImageError(f"image '{path}' can't be read: {reason(error)}")


def _hash_file(path: Path | str | Remote) -> HashedFile:
    version = None
    with contextlib.suppress(OSError, ValueError):  # opening it says what is wrong
        version = _version(path)
    with open_image_file(path) as file:
        key = hashlib.file_digest(file, lambda: _hasher(b"image")).digest()
    return HashedFile(path, key, version)


def _version(path: Path | str | Remote) -> Version | None:
    """Return what differs once the file is written or replaced. None of an object, and of a file so
    new that the next change may give it the same times.
    """
    if isinstance(path, Remote):
        return None
    stat = os.stat(container_of(os.fspath(path)))
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < SETTLED_NS:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def bytes_key(content: bytes) -> bytes:
    """Return the key of an encoded image: that of a file with this content."""
    return _hash(b"image", content)


def text_key(text: str) -> bytes:
    """Return the key of a text, or of a piece of one."""
    return _hash(TEXT, text.encode("utf-8", "surrogatepass"))


def _hash(kind: bytes, content: bytes) -> bytes:
    hasher = _hasher(kind)
    hasher.update(content)
    return hasher.digest()


def _hasher(kind: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=KEY_BYTES, person=kind)
