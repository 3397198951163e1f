"""Objects of S3 and its like by URL, through fsspec: read as files are, written whole or not at
all. A text is never fetched, only a `Remote` is.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from mismatch.errors import CheckpointError, InputError, MismatchError
from mismatch.io.retries import open_patiently, reason, retried
from mismatch.io.stores import STORES, OutOfRangeError, explained_error, filesystem_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["READ", "Remote", "is_url", "located", "open_located"]

ALIASES = {"s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}
READ = 2**22  # bytes of a request: at 30 ms each, 60 MB/s and four thousand requests for 16 GB
# a scheme has two letters at least: c:// is a drive
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
# query fields of addresses that carry a permission
SIGNED = re.compile(r"[?&](sig|signature|sv|awsaccesskeyid|x-(amz|goog)-[a-z-]+)=", re.IGNORECASE)
BUCKET = re.compile(r"\w[\w.@-]*", re.ASCII)  # of abfs, CONTAINER@ACCOUNT too
# the strongest first
VERSIONS = (
    "ETag",
    "etag",
    "md5Hash",
    "crc32c",
    "generation",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Remote:
    """An object of a store, or what the names of several begin with, as a `pathlib.Path` is a file
    or a folder.

    What fails for an object that is read is an OSError as with files, for all else a
    CheckpointError. The words are our own, since what a store's library says may hold keys and
    signed addresses. Where the store takes no credentials it is a MachineError, where its package
    is not installed a MissingExtraError.
    """

    store: str  # scheme://bucket
    key: str  # names parted by /; empty: the bucket

    @classmethod
    def of(cls, url: str) -> Remote:
        """Return what a URL names. InputError for one of no store, with a password or a signature
        in it, or with .. among its names.
        """
        parts = URL.fullmatch(url)
        scheme = parts[1].lower() if parts else ""
        scheme = ALIASES.get(scheme, scheme)
        if parts is None or scheme not in STORES:
            readable = ", ".join(f"{name}://" for name in STORES if name != "memory")
            raise InputError(
                f"{scheme}:// is no store that mismatch reads ({readable}); download it and give"
                " its path"
            )
        bucket, _, key = parts[2].partition("/")
        if ":" in bucket.partition("@")[0] and "@" in bucket:
            raise InputError(
                f"the {scheme}:// URL holds a password; take it out, and give it by the environment"
                f" or the files of {STORES[scheme]}"
            )
        if SIGNED.search(key):
            raise InputError(
                f"the {scheme}:// URL of bucket {bucket} holds a signature; take it out,"
                " credentials are those of the environment"
            )
        if not BUCKET.fullmatch(bucket) or {".", ".."} & set(key.split("/")) or "\0" in key:
            raise InputError(
                f"{url!r} names no object; write {scheme}://BUCKET/NAME, without . and .. between"
                " the slashes"
            )
        return cls(f"{scheme}://{bucket}", key.rstrip("/"))

    def __str__(self) -> str:
        return f"{self.store}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> Remote:
        return Remote(self.store, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        """Return the last part."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Return the ending of its name, as `.parquet`."""
        return posixpath.splitext(self.name)[1]

    @property
    def _service(self) -> tuple[str, str]:
        """Return what answers for it: the scheme and, of abfs, the account."""
        scheme, _, bucket = self.store.partition("://")
        return scheme, bucket.partition("@")[2]

    def below(self, path: str, *, outside: bool = False) -> Remote:
        """Return what a row's path, or URL, names: an object below this one, or with `outside` one
        in any bucket of the same service. InputError for another one.
        """
        place = (
            Remote.of(path)
            if is_url(path)
            else Remote(self.store, posixpath.normpath(posixpath.join(self.key, path)))
        )
        within = not self.key or place.key.startswith(f"{self.key}/")
        if place.key.startswith(("/", "../")) or place.key in (".", "..") or path.endswith("/"):
            raise InputError(
                f"image {path!r} names no object of {self.store}; write its name relative to"
                " the image base path, or its URL"
            )
        if not (within and place.store == self.store) and not outside:
            raise InputError(
                f"image {path!r} leaves the image base path {self}; allow outside images if it may"
                " lie elsewhere"
            )
        if place._service != self._service:
            raise InputError(
                f"image {path!r} is of another store than the image base path {self}, and nothing"
                " else is fetched for a row"
            )
        return place

    def open(self) -> io.RawIOBase:
        """Open the object: a request for each read, tried again where what fails may pass."""
        size = retried(lambda: int(self._asked(lambda store: store.info(str(self))["size"])))
        return _Object(self, size)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes `start` to `end`, or to where the object ends, by one request. What may pass
        is for `retried`.
        """
        try:
            return bytes(self._asked(lambda store: store.cat_file(str(self), start=start, end=end)))
        except OutOfRangeError:  # how S3 says that nothing is there: an empty object too
            return b""

    def version(self) -> str:
        """Return what differs as soon as the object is written again: its size and its ETag, or
        what else the store has: checksum, generation, time.
        """
        facts = self._surely(lambda store: store.info(str(self)))
        version = next((f"{name}={facts[name]}" for name in VERSIONS if facts.get(name)), "")
        return hashlib.sha256(
            json.dumps([str(self), int(facts["size"]), version]).encode()
        ).hexdigest()

    def listing(self) -> dict[str, int | None]:
        """Map the names directly below → their bytes, None for what has names below it in turn."""

        def below(store: Any) -> dict[str, int | None]:
            store.invalidate_cache()
            prefix = f"{store._strip_protocol(str(self))}/"
            try:
                entries = [
                    (str(entry["name"]), entry) for entry in store.ls(str(self), detail=True)
                ]
            except FileNotFoundError:
                return {}
            children = (
                (name.removeprefix(prefix).rstrip("/"), entry)
                for name, entry in entries
                if name.startswith(prefix)
            )
            return {
                name: None if entry["type"] == "directory" else int(entry["size"])
                for name, entry in children
                if name
            }

        return self._surely(below)

    def read_all(self, names: Iterable[str]) -> list[bytes]:
        """Return the contents of objects below, in the order of their names as given, several
        requests at a time.
        """
        paths = [str(self / name) for name in names]

        def contents(store: Any) -> list[bytes]:
            data = store.cat(paths)  # of one path it is no dict
            return (
                [data]
                if isinstance(data, bytes)
                else [data[store._strip_protocol(path)] for path in paths]
            )

        return self._surely(contents) if paths else []

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects below, if they are there."""
        there = set(names) & self.listing().keys()
        if not there:
            return
        paths = [str(self / name) for name in there]
        self._surely(lambda store: store.rm(paths))
        if left := there & self.listing().keys():  # of which S3 says nothing
            raise CheckpointError(
                f"can't remove {self / min(left)}; let the credentials of this environment delete"
                " objects"
            )

    def write(self, data: bytes) -> None:
        """Write the whole object at once."""
        self._surely(lambda store: store.pipe_file(str(self), data))

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """Yield a file to fill, on this machine. The object is there once the block ends, and never
        half of it.
        """
        try:
            with tempfile.NamedTemporaryFile(prefix="mismatch-") as file:
                yield file
                file.flush()
                self._surely(lambda store: store.put_file(file.name, str(self)))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CheckpointError(
                f"can't write {self}: {error.strerror} in {tempfile.gettempdir()}, where it is"
                " made; set TMPDIR"
            ) from error

    def _surely(self, act: Callable[[Any], Result]) -> Result:
        try:
            return retried(lambda: self._asked(act))
        except OSError as error:
            raise CheckpointError(f"{self}: {reason(error)}") from error

    def _asked(self, act: Callable[[Any], Result]) -> Result:
        """Return what the store says; raise its errors as those of files."""
        store = filesystem_of(self.store)
        try:
            return act(store)
        except (MismatchError, MemoryError):
            raise
        except Exception as error:
            raise explained_error(error, self) from error


class _Object(io.RawIOBase):
    """An object that is read as a file."""

    def __init__(self, place: Remote, size: int) -> None:
        self._place = place
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = max(
            0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        )
        return self._at

    def readall(self) -> bytes:
        """Read the rest at once: `RawIOBase.readall` would ask for a few kilobytes at a time."""
        return self.read(max(0, self._size - self._at)) or b""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        start = self._at
        end = min(self._at + len(view), self._size)
        if start >= end:
            return 0
        data = retried(lambda: self._place.read(start, end))
        if len(data) != end - start:
            raise OSError(errno.EINVAL, "it was changed while it was read")
        view[: len(data)] = data
        self._at = end
        return len(data)


def is_url(text: str) -> bool:
    """Return whether it begins with a scheme, as in `s3://`."""
    return "://" in text and URL.fullmatch(text) is not None


def located(place: str | Path | Remote) -> Path | Remote:
    """Return what a path or a URL names that an operator, no row, has given. `file:///PATH` is a
    path. InputError for a URL that can't be one.
    """
    if not isinstance(place, str) or not is_url(place):
        return place if isinstance(place, Remote) else Path(place)
    return Path(place[7:]) if place.lower().startswith("file:///") else Remote.of(place)


def open_located(place: str | Path | Remote) -> io.BufferedReader:
    """Open a file as `open_patiently`, or an object, which is read in pieces of `READ` bytes."""
    return (
        io.BufferedReader(place.open(), READ)
        if isinstance(place, Remote)
        else open_patiently(place)
    )
