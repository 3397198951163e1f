"""Pillow images whose file is read when their pixels are first asked for, by several threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from PIL import Image

__all__ = ["reading"]

COUNT = 64


class _Locks:
    def __init__(self) -> None:
        self.make()

    def make(self) -> None:
        self.of_pictures = [threading.RLock() for _ in range(COUNT)]
        self.of_shared_files = threading.RLock()


_locks = _Locks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.make)


@contextmanager
def reading(image: Image.Image) -> Iterator[None]:
    """Let one thread at a time read the file of a picture, and its EXIF data. Pillow has no lock of
    its own: two threads would each get half of the bytes.
    """
    # pictures that were opened from one archive read one file
    is_shared = getattr(image, "fp", None) is not None and not getattr(
        image, "_exclusive_fp", False
    )
    lock = _locks.of_pictures[(id(image) >> 4) % COUNT]  # objects lie 16 bytes apart
    with lock, _locks.of_shared_files if is_shared else nullcontext():
        yield
