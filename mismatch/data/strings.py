"""Strings on disk, written by one process and read by all: each by its number, through a map of the
file, so that nobody holds them in memory.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError
from mismatch.io.atomic import explained
from mismatch.io.retries import reason

__all__ = ["Stored", "StringFile", "StringWriter"]

Indices = NDArray[np.int64]
T = TypeVar("T", covariant=True)
WIDTH = 8  # bytes of an offset


class StringWriter:
    """Writes a file of strings: all of them as UTF-8, one behind the other, then where each begins,
    and the last ends, as int64. CheckpointError where the disk is full or the folder can't be
    written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ends = array("q", [0])

    def __enter__(self) -> StringWriter:
        with explained(self.path, self.path):
            self.file = self.path.open("wb")
        return self

    def __len__(self) -> int:
        return len(self.ends) - 1

    def add(self, text: str) -> int:
        """Write one more; returns its number, from 0."""
        data = text.encode("utf-8", "surrogatepass")
        with explained(self.path, self.path):
            self.file.write(data)
        self.ends.append(self.ends[-1] + len(data))
        return len(self) - 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with explained(self.path, self.path), self.file as file:
            file.write(b"\0" * (-self.ends[-1] % WIDTH))
            self.ends.tofile(file)


class StringFile:
    """What a `StringWriter` has written, mapped. CheckpointError where it can't be seen."""

    def __init__(self, path: Path, count: int) -> None:
        """Map the file; `count`: how many strings there are."""
        try:
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(
                f"{path}, which another process of this run has written, can't be read:"
                f" {reason(error)}"
            ) from error
        self.count = count
        self.offsets = np.frombuffer(
            self.map, np.int64, count + 1, len(self.map) - WIDTH * (count + 1)
        )

    def __getitem__(self, number: int) -> str:
        return self.map[self.offsets[number] : self.offsets[number + 1]].decode(
            "utf-8", "surrogatepass"
        )


class Stored(Sequence[T], Generic[T]):
    """Strings of several files, each made into what is wanted when it is asked for."""

    def __init__(
        self, files: Sequence[StringFile], places: Indices, make: Callable[[str], T]
    ) -> None:
        """Take `places`: (N,) numbers of the strings, counted through all files."""
        self.files = files
        self.places = places
        self.make = make
        self.ends = list(accumulate(file.count for file in files))

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Stored[T]: ...

    def __getitem__(self, index: int | slice) -> T | Stored[T]:
        if isinstance(index, slice):
            return Stored(self.files, self.places[index], self.make)
        place = int(self.places[index])
        at = bisect_right(self.ends, place)
        return self.make(self.files[at][place - self.ends[at] + self.files[at].count])

    def take(self, chosen: Indices) -> Stored[T]:
        """Return those at these places, (n,) in 0..N."""
        return Stored(self.files, self.places[chosen], self.make)
