"""Which folders and files are a cache's own. Nothing else that lies in or next to them is ever
removed.

`<cache>/<namespace>/<segment>.npy` and `.keys` are the cache's where
`<cache>/<namespace>/segments.txt` lists the segment, which it does before the segment is written.
Older versions kept no list: of theirs, a segment whose first row agrees with its checksum is
entered in it. A new cache also has a CACHEDIR.TAG, which keeps backups out of it
(https://bford.info/cachedir/).
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError
from mismatch.io.outputs import refuse_model_folder
from mismatch.io.reading import check_regular, read_bytes
from mismatch.io.retries import SHORTAGES

__all__ = [
    "KEY_BYTES",
    "LIST",
    "TAG",
    "Namespace",
    "cache_folder",
    "checksum",
    "map_segment",
    "namespaces",
    "part_of",
    "segment_keys",
]

Array = NDArray[np.float32]
Item = TypeVar("Item")
KEY_BYTES = 16  # a BLAKE2b hash; two of 10⁹ contents collide with a chance of 10⁻²¹
# seconds; a file that has been written for longer belongs to a writer that was killed
STALE = 86_400
MAX_ROWS = 2**20  # a segment's; a writer makes one of some thousand
MAX_LIST = 2**23  # bytes of a list, which are 250,000 segments
TAG = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# Embeddings of mismatch; may be removed at any"
    " time.\n"
)
LIST = "segments.txt"
SUBFOLDER = "mismatch-cache"  # the cache lies there in a folder that holds other things
NAMESPACE = re.compile(r"[0-9a-f]{1,32}")
SEGMENT = re.compile(r"[0-9a-f]{32}")
# removed in this order: without keys nobody looks for the rest
ENDINGS = (".keys", ".npy")


def cache_folder(folder: Path) -> Path:
    """Return where the cache of this name lies, and make it.

    It is `folder` itself where that is new, empty or a cache, else a folder of the cache's own in
    it: a project's folder may be named without harm. CheckpointError where it can't be made, or
    lies in a model's folder.
    """
    refuse_model_folder(folder, "`cache`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_cache(folder):
            return folder
        subfolder = folder / SUBFOLDER
        subfolder.mkdir(exist_ok=True)
        if _is_cache(subfolder):
            return subfolder
    except OSError as error:
        raise CheckpointError(
            f"the cache folder {folder} can't be created: {error.strerror}; choose another with"
            " `cache`"
        ) from error
    raise CheckpointError(
        f"{folder} and {subfolder} hold other things than a cache; choose another folder with"
        " `cache`"
    )


def _is_cache(folder: Path) -> bool:
    """Return whether it is one, of this version or an older one; an empty folder becomes one."""
    with contextlib.suppress(OSError):
        if read_bytes(folder / TAG, len(TAG_TEXT)) == TAG_TEXT.encode():
            return True
    others = [name for name in os.listdir(folder) if not name.startswith(f".{TAG}.")]
    if others:
        return any(True for _ in namespaces(folder))
    part = folder / f".{TAG}.{uuid.uuid4().hex}"
    part.write_text(TAG_TEXT, encoding="utf-8")
    part.replace(folder / TAG)
    return True


def namespaces(folder: Path) -> Iterator[Namespace]:
    """Yield those of a cache in which there is a segment of its own."""
    for path in sorted(folder.iterdir()):
        if NAMESPACE.fullmatch(path.name) and path.is_dir():
            namespace = Namespace(path)
            if namespace.segments():
                yield namespace


class Namespace:
    """A folder of segments, and the list of those that a cache wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._list = folder / LIST

    def segments(self) -> list[str]:
        """Return the names that are listed; where there is no list, those that prove themselves,
        which are listed from then on.
        """
        with contextlib.suppress(OSError):
            lines = read_bytes(self._list, MAX_LIST).decode("ascii", "replace").splitlines()
            return [line for line in dict.fromkeys(lines) if SEGMENT.fullmatch(line)]
        names = sorted(path.stem for path in self.folder.glob("*.keys"))
        proven = [
            name
            for name in names
            if SEGMENT.fullmatch(name) and _is_proven(self.folder / f"{name}.keys")
        ]
        if proven and not os.path.lexists(self._list):
            with contextlib.suppress(OSError):  # a cache that can only be read has no use for it
                self._enter(proven)
        return proven

    def new_segment(self) -> Path:
        """Enter a name into the list; return the path of its keys. OSError where that can't be
        written.
        """
        self.segments()
        name = uuid.uuid4().hex
        self._enter([name])
        return self.folder / f"{name}.keys"

    def remove(self, name: str) -> None:
        """Remove a listed segment; OSError where somebody reads it and the system minds."""
        for ending in ENDINGS:
            (self.folder / f"{name}{ending}").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that were killed have begun of listed segments."""
        for name in self.segments():
            for ending in ENDINGS:
                path = part_of(self.folder / f"{name}{ending}")
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE:
                        path.unlink()

    def _enter(self, names: Sequence[str]) -> None:
        if self._list.exists():
            check_regular(self._list)
        with self._list.open("ab") as file:
            file.write("".join(f"{name}\n" for name in names).encode())


def part_of(path: Path) -> Path:
    """Return what a segment's file is called while it is written."""
    return path.with_name(f".{path.name}.part{path.suffix}")


def segment_keys(keys: Path) -> bytes:
    """Return the keys of a segment, one behind the other; none of one that is damaged."""
    array = map_segment(keys)
    names = _unless_damaged(lambda: read_bytes(keys, KEY_BYTES * MAX_ROWS))
    if (
        array is None
        or names is None
        or array.ndim != 2
        or array.dtype != np.float32
        or len(names) != KEY_BYTES * len(array)
    ):
        return b""
    return names


def map_segment(keys: Path) -> Array | None:
    """Return a segment's embeddings (N, D + 1), mapped for as long as the array lives; None for one
    that is damaged or gone.
    """
    return _unless_damaged(lambda: _mapped(keys.with_suffix(".npy")))


def _mapped(path: Path) -> Array:
    """Map an array of numbers. NumPy's own reader warns of some damaged heads, and a filter for its
    warning would be one for all threads.
    """
    check_regular(path)
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("a version of NumPy's format that is not written here")
        head = _literal(file.read(int.from_bytes(file.read(2), "little")))
        kind = np.dtype(str(head["descr"]))
        if kind.hasobject or head["fortran_order"]:
            raise ValueError("a kind of array that is not written here")
        start = file.tell()
    array: Array = np.memmap(path, kind, mode="r", offset=start, shape=tuple(head["shape"]))
    return array


def _literal(head: bytes) -> dict[str, Any]:
    """Return what the head of an array says; ValueError where it can't be that."""
    try:
        content = ast.literal_eval(head.decode("latin-1"))
        return {name: content[name] for name in ("descr", "fortran_order", "shape")}
    except (SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("a damaged head of an array") from error


def checksum(key: bytes, row: Array) -> int:
    """Return a row's CRC-32; 1 µs for 512 numbers."""
    return zlib.crc32(np.ascontiguousarray(row).data, zlib.crc32(key))


def _is_proven(keys: Path) -> bool:
    """Return whether a cache wrote this segment: its first row agrees with its checksum."""
    names = segment_keys(keys)
    array = map_segment(keys)
    if array is None or not names or array.shape[1] < 2:
        return False
    row = np.array(array[0])  # (D + 1,)
    return checksum(names[:KEY_BYTES], row[:-1]) == int(row[-1:].view(np.uint32)[0])


def _unless_damaged(read: Callable[[], Item]) -> Item | None:
    try:
        return read()
    except (EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in SHORTAGES:
            raise CheckpointError(
                f"the cache can't be read: {error.strerror} ({error.filename}); close other files"
                " or raise `ulimit -n`"
            ) from error
        return None
    # numpy reads the head of an array as Python
    except (SyntaxError, TypeError, OverflowError, RecursionError, TokenError):
        return None
