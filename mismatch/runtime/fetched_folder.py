"""A folder of images that were fetched, by their URLs: the cache of `fetch_images`, and what
`mismatch fetch` writes.

`images/ab/<digest of the bytes>.jpg` is an image, and `urls.sqlite3` says which one a URL had, and
its ETag. An image takes its name whole and is entered after that, so a run that was killed leaves
nothing that a later one could take for an image. URLs themselves, which may hold permissions, are
not written down, only their digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError, MachineError
from mismatch.io.outputs import refuse_model_folder
from mismatch.io.reading import read_bytes
from mismatch.runtime.foreign_formats import image_suffix

__all__ = ["FetchedFolder", "FetchedImage", "default_folder", "url_key"]

MARK = "mismatch-images.json"
MARK_TEXT = json.dumps({"format": "images of mismatch by URL", "format_version": 1}) + "\n"
INDEX = "urls.sqlite3"
PARTS = ".parts"  # folder of images that are being written
STALE = 3_600  # seconds; no image takes so long to write
MAX_FIELD = 1_024  # characters of an ETag or a date
BUSY = 60.0  # seconds that another process may take to enter a URL
NAME = re.compile(r"images/[0-9a-f]{2}/[0-9a-f]{32}\.[a-z0-9]{1,5}")
TABLE = (
    "create table if not exists urls"
    " (key text primary key, name text, size integer, etag text, last_modified text) without rowid"
)


@dataclass(frozen=True)
class FetchedImage:
    """What is known of a URL's image."""

    name: str  # below the folder, parted by /
    size: int  # bytes
    etag: str = ""
    last_modified: str = ""  # as the host wrote it


def default_folder() -> Path:
    """Return the folder of this user's machine in which images are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path.home() / ".cache"
    return home / "mismatch" / "images"


def url_key(url: str) -> str:
    """Return what a URL is known by, in hex; what stands behind # is no part of it."""
    plain = url.strip().partition("#")[0]
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class FetchedFolder:
    """The folder. Thread-safe, and several processes may write to it. It ends with `close`."""

    def __init__(self, folder: str | Path, option: str) -> None:
        """Take an older one of these, or a new or empty folder. CheckpointError, which names
        `option`, for one that holds other things, or can't be made or read.
        """
        self.path = Path(folder)
        self._lock = threading.Lock()
        self._made: set[str] = set()  # folders
        refuse_model_folder(self.path, option)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / PARTS).mkdir(exist_ok=True)
            self._claim(option)
            self._sweep()
            self._index = _opened(self.path / INDEX)
        except OSError as error:
            raise CheckpointError(
                f"{option} {self.path} can't be used: {error.strerror}; choose another folder"
            ) from error
        except sqlite3.Error as error:
            raise CheckpointError(
                f"{option} {self.path}: {INDEX} can't be used: {error}; remove it, and images are"
                " fetched again"
            ) from error

    def close(self) -> None:
        """Let go of the index."""
        with self._lock:
            self._index.close()

    def find(self, key: str) -> FetchedImage | None:
        """Return what is known of a URL by its key; None where that is nothing."""
        rows = self._asked("select name, size, etag, last_modified from urls where key = ?", key)
        if not rows:
            return None
        image = FetchedImage(*rows[0])
        return image if _is_sound(image) else None

    def read(self, image: FetchedImage) -> bytes | None:
        """Return the bytes; None where the file is gone, or isn't as it was written."""
        try:
            data = read_bytes(self.path / image.name, image.size)
        except (OSError, ValueError):
            return None
        return data if _digest(data) == Path(image.name).stem else None

    def add(self, key: str, data: bytes, etag: str = "", last_modified: str = "") -> FetchedImage:
        """Write an image and what its URL is. MachineError where that can't be written."""
        image = FetchedImage(
            self.keep(data), len(data), etag[:MAX_FIELD], last_modified[:MAX_FIELD]
        )
        values = (image.name, image.size, image.etag, image.last_modified)
        self._asked("insert or replace into urls values (?, ?, ?, ?, ?)", key, *values)
        return image

    def keep(self, data: bytes) -> str:
        """Write an image; return its name below the folder. MachineError as `add`."""
        digest = _digest(data)
        name = f"images/{digest[:2]}/{digest}{image_suffix(data)}"
        if not self.has(name, len(data)):
            try:
                self._write(name, data)
            except OSError as error:
                raise self._full(error.strerror or str(error)) from error
        return name

    def has(self, name: str, size: int) -> bool:
        """Return whether there is an image of this name and so many bytes."""
        with suppress(OSError):
            return os.stat(os.path.join(self.path, name)).st_size == size
        return False

    def forget(self, key: str, image: FetchedImage) -> None:
        """Remove what is known of a URL, and its image, which can't be read."""
        self._asked("delete from urls where key = ?", key)
        with suppress(OSError):
            (self.path / image.name).unlink()

    def _claim(self, option: str) -> None:
        mark = self.path / MARK
        with suppress(OSError):
            if read_bytes(mark, len(MARK_TEXT)) == MARK_TEXT.encode():
                return
        # of a lock, or of another process that begins at this moment
        names = [name for name in os.listdir(self.path) if not name.startswith(".")]
        if set(names) - {MARK}:
            raise CheckpointError(
                f"{option} {self.path} holds other things than fetched images; choose another"
                " folder"
            )
        self._write(MARK, MARK_TEXT.encode())

    def _sweep(self) -> None:
        """Remove what writers that were killed have begun; others may be at work at this moment."""
        for entry in os.scandir(self.path / PARTS):
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE:
                    os.unlink(entry.path)

    def _asked(self, statement: str, *values: object) -> list[Any]:
        """Return the rows of a statement; MachineError where the index fails."""
        try:
            with self._lock:
                return self._index.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._full(str(error)) from error

    def _full(self, reason: str) -> MachineError:
        return MachineError(
            f"{self.path}: a fetched image can't be written or found: {reason}; make room, or"
            " choose another folder"
        )

    def _write(self, name: str, data: bytes) -> None:
        """Write a whole file or none. It is not forced onto the disk: what a power cut damages is
        seen by its digest, and fetched again.
        """
        path = os.path.join(self.path, name)
        folder = os.path.dirname(path)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        part = os.path.join(self.path, PARTS, uuid.uuid4().hex)
        try:
            with open(part, "xb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise


def _opened(path: Path) -> sqlite3.Connection:
    """Return the index, with its table. Its own log lets several processes write."""
    index = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        index.execute("pragma journal_mode = wal")  # where the file system can: network ones can't
        index.execute("pragma synchronous = normal")
        index.execute(TABLE)
    except BaseException:
        index.close()
        raise
    return index


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _is_sound(image: Any) -> bool:
    """Return whether what a file said is of these kinds, and names nothing outside."""
    texts = (image.name, image.etag, image.last_modified)
    if not all(isinstance(text, str) for text in texts) or not isinstance(image.size, int):
        return False
    return image.size >= 0 and NAME.fullmatch(image.name) is not None
