"""A folder of images that were fetched, by their URLs: the cache of `fetch_images`, and what
`mismatch fetch` writes.

`images/ab/<digest of the bytes>.jpg` is an image, `urls/cd/<digest of the URL>.json` says which one
a URL had, and its ETag. Each takes its name whole, the image first, so a run that was killed leaves
nothing that a later one could take for an image. URLs themselves, which may hold permissions, are
not written down.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
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
MAX_NOTE = 16_384  # bytes of what is written about a URL
MAX_FIELD = 1_024  # characters of an ETag or a date
NAME = re.compile(r"images/[0-9a-f]{2}/[0-9a-f]{32}\.[a-z0-9]{1,5}")


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
    """The folder. Thread-safe, and several processes may write to it."""

    def __init__(self, folder: str | Path, option: str) -> None:
        """Take an older one of these, or a new or empty folder. CheckpointError, which names
        `option`, for one that holds other things, or can't be made.
        """
        self.path = Path(folder)
        self._lock = threading.Lock()
        self._made: set[Path] = set()  # folders
        refuse_model_folder(self.path, option)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim(option)
        except OSError as error:
            raise CheckpointError(
                f"{option} {self.path} can't be used: {error.strerror}; choose another folder"
            ) from error

    def find(self, key: str) -> FetchedImage | None:
        """Return what is known of a URL by its key; None where that is nothing."""
        try:
            data = json.loads(read_bytes(self._note(key), MAX_NOTE))
            image = FetchedImage(**data)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
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
        digest = _digest(data)
        name = f"images/{digest[:2]}/{digest}{image_suffix(data)}"
        image = FetchedImage(name, len(data), etag[:MAX_FIELD], last_modified[:MAX_FIELD])
        try:
            if self._size(name) != len(data):
                self._write(self.path / name, data)
            self._write(self._note(key), json.dumps(vars(image)).encode())
        except OSError as error:
            raise MachineError(
                f"{self.path}: a fetched image can't be written: {error.strerror}; make room, or"
                " choose another folder"
            ) from error
        return image

    def forget(self, key: str, image: FetchedImage) -> None:
        """Remove what is known of a URL, and its image, which can't be read."""
        for path in (self._note(key), self.path / image.name):
            with suppress(OSError):
                path.unlink()

    def _claim(self, option: str) -> None:
        mark = self.path / MARK
        with suppress(OSError):
            if read_bytes(mark, len(MARK_TEXT)) == MARK_TEXT.encode():
                return
        names = os.listdir(self.path)
        # of a lock, or of another process that begins at this moment
        if any(not name.startswith(".") and name != MARK for name in names):
            raise CheckpointError(
                f"{option} {self.path} holds other things than fetched images; choose another"
                " folder"
            )
        self._write(mark, MARK_TEXT.encode())

    def _note(self, key: str) -> Path:
        return self.path / "urls" / key[:2] / f"{key}.json"

    def _size(self, name: str) -> int | None:
        with suppress(OSError):
            return (self.path / name).stat().st_size
        return None

    def _write(self, path: Path, data: bytes) -> None:
        """Write a whole file or none. It is not forced onto the disk: what a power cut damages is
        seen by its digest, and fetched again.
        """
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                self._made.add(path.parent)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            part.write_bytes(data)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _is_sound(image: Any) -> bool:
    """Return whether what a file said is of these kinds, and names nothing outside."""
    texts = (image.name, image.etag, image.last_modified)
    if not all(isinstance(text, str) for text in texts) or not isinstance(image.size, int):
        return False
    return image.size >= 0 and NAME.fullmatch(image.name) is not None
