"""The files of rows that images are read from: each opened once a process, and again once it has
changed.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from mismatch.data.embedded.arrow import ArrowImages
from mismatch.data.embedded.columns import chosen_column
from mismatch.data.embedded.names import split_member
from mismatch.data.embedded.parquet import ParquetImages
from mismatch.data.embedded.tar import TarSamples
from mismatch.data.readers.arrow_values import import_pyarrow
from mismatch.errors import ImageError, ImageNotFoundError, InputError, MissingExtraError

__all__ = ["open_encoded", "open_member", "open_table", "open_tar"]

MAX_OPEN = 16  # files of a process; an index of ten thousand samples takes some megabytes
PLAIN = 4  # bytes of a pixel, uncompressed
Table = ParquetImages | ArrowImages
Container = Table | TarSamples
Version = tuple[int, int, int, int, int]


class _Open:
    """Files that are open, the one that was used last at the end. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin without files, as a forked process has to: nobody would give back its locks."""
        self.files: OrderedDict[str, tuple[Version, Container]] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, path: str) -> Container:
        """Return a file as it is now; OSError where there is none, InputError for a wrong one."""
        status = os.stat(path)
        version = (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        with self.lock:
            entry = self.files.get(path)
            if entry is not None and entry[0] == version:
                self.files.move_to_end(path)
                return entry[1]
            container = _opened(path)
            self.files[path] = (version, container)
            while len(self.files) > MAX_OPEN:
                self.files.popitem(last=False)
            return container


def open_member(path: str | Path) -> io.BytesIO | None:
    """Return the encoded image that a path names in a file of rows; None where it names none, as of
    any other path.

    ImageNotFoundError where the file or its row is not there, ImageError for damage; what may pass
    is an OSError.
    """
    parts = split_member(path)
    if parts is None:
        return None
    container, key = parts
    name = f"image '{path}'"
    try:
        opened = _OPEN.get(container)
        if isinstance(opened, TarSamples):
            return io.BytesIO(opened.image(key, _max_bytes(), name))
        return io.BytesIO(_cell(opened, key, name))
    except (ImageError, MissingExtraError):
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ImageNotFoundError(
            f"{name} not found: there is no file {container}; check the path, and the folder that"
            " it is relative to"
        ) from None
    except InputError as error:
        raise ImageError(f"{name} can't be read: {error}") from error


def open_encoded(path: str | Path) -> io.BufferedReader | io.BytesIO:
    """Open the file of an image, or an image that stands in a file of rows; OSError or ImageError
    where there is none.
    """
    try:
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        member = open_member(path)
        if member is None:
            raise
        return member


def open_tar(path: str | Path) -> TarSamples:
    """Return an archive's samples; InputError for what is none, OSError where it can't be read."""
    opened = _OPEN.get(str(path))
    if not isinstance(opened, TarSamples):
        raise InputError(f"{path} is no tar archive")
    return opened


def open_table(path: str | Path) -> Table:
    """Return the images of a Parquet or Arrow file; see `open_tar`."""
    opened = _OPEN.get(str(path))
    if isinstance(opened, TarSamples):
        raise InputError(f"{path} is a tar archive")
    return opened


def _opened(path: str) -> Container:
    ending = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):
        raise InputError(f"{path} is a folder, a pipe or a device")
    if ending == ".tar":
        return TarSamples(path)
    pa, pq = import_pyarrow("reading images that stand in Parquet or Arrow")
    return ArrowImages(path, pa) if ending == ".arrow" else ParquetImages(path, pa, pq)


def _cell(table: Table, key: str, name: str) -> bytes:
    """Return the image of a row; the key is its number, after a column's name and a colon where it
    is not the usual one.
    """
    asked, _, number = key.rpartition(":")
    column = chosen_column(table.columns, asked)
    is_number = number.isascii() and number.isdigit() and len(number) < 19
    if column is None or not is_number or not 1 <= int(number) <= table.count:
        what = f"column {asked!r} of images" if column is None else f"row {number}"
        raise ImageNotFoundError(
            f"{name} not found: {table.path} has no {what}; it has {table.count:,} rows"
        )
    value = table.value(column, int(number) - 1)
    if value is None:
        raise ImageNotFoundError(f"{name} not found: the row holds no image")
    if len(value) > (max_bytes := _max_bytes()):
        raise ImageError(f"{name} has more than {max_bytes:,} bytes; make it smaller")
    return value


def _max_bytes() -> int:
    """Return how many bytes a picture of as many pixels as are allowed takes at most."""
    return 2**63 - 2 if Image.MAX_IMAGE_PIXELS is None else PLAIN * Image.MAX_IMAGE_PIXELS


_OPEN = _Open()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_OPEN.forget)
