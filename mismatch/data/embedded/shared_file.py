"""A file that several threads read at once, each where it needs to."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["SharedFile"]


class SharedFile:
    """A file that is open for reading until nobody has it any more."""

    def __init__(self, path: str | Path) -> None:
        """Open the file; OSError where that can't be."""
        self._descriptor = -1
        self._lock = threading.Lock()
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags)
        self.size = os.fstat(self._descriptor).st_size  # bytes

    def __del__(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start`; fewer where the file ends before that."""
        data = self._read_once(start, size)
        if len(data) == size or not data:
            return data
        pieces = [data]
        left = size - len(data)
        while left and data:
            data = self._read_once(start + size - left, left)
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill `view` from `start`; OSError where the file ends before that."""
        done = 0
        while done < len(view):
            if hasattr(os, "preadv"):
                count = os.preadv(self._descriptor, [view[done:]], start + done)
            else:
                data = self._read_once(start + done, len(view) - done)
                count = len(data)
                view[done : done + count] = data
            if not count:
                raise OSError(f"it ends before byte {start + len(view):,}")
            done += count

    def _read_once(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, start)
        with self._lock:  # Windows has one place a file
            os.lseek(self._descriptor, start, os.SEEK_SET)
            return os.read(self._descriptor, size)
