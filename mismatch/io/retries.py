"""Reading from disks and network file systems that fail for a moment. What may pass is tried again,
a few times; what can't pass is not.
"""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mismatch.errors import MachineError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "NO_MEMORY",
    "PAUSES",
    "SHORTAGES",
    "is_transient",
    "open_once",
    "open_patiently",
    "reason",
    "retried",
    "shortage",
    "shortage_in",
]

PAUSES = (0.05, 0.2, 0.75)  # seconds before each further try: a second in all
NAMES = (
    "EIO",
    "EREMOTEIO",
    "ESTALE",
    "EAGAIN",
    "EINTR",
    "ETIMEDOUT",
    "ECONNRESET",
    "ECONNABORTED",
    "ENETDOWN",
    "ENETUNREACH",
    "EHOSTDOWN",
    "EHOSTUNREACH",
)
TRANSIENT = {getattr(errno, name) for name in NAMES if hasattr(errno, name)}
# errors of this process or machine: they say nothing of the file
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# words of torch and onnxruntime, whose errors have no class of their own
NO_MEMORY = ("allocate memory", "bad allocation", "bad_alloc", "out of memory")
NO_THREAD = "can't start new thread"
CURES = {
    errno.EMFILE: "close other files or raise `ulimit -n`",
    errno.ENFILE: "close other programs",
}

Result = TypeVar("Result")


def retried(act: Callable[[], Result]) -> Result:
    """Return what `act` returns; after an error that may pass it is called again, `PAUSES` apart.
    Any other error, and the last one, goes through.
    """
    for pause in PAUSES:
        try:
            return act()
        except OSError as error:
            if not is_transient(error):
                raise
        time.sleep(pause)
    return act()


def is_transient(error: OSError) -> bool:
    """Return whether the same call may succeed a moment later: a network that hangs, a server that
    restarts; no absent file, no missing permission.
    """
    return error.errno in TRANSIENT


def reason(error: OSError) -> str:
    """Return why, for people: `Input/output error, tried 4 times`."""
    return (
        f"{error.strerror}, tried {len(PAUSES) + 1} times"
        if is_transient(error)
        else error.strerror or str(error)
    )


def shortage(what: str, error: OSError | MemoryError) -> MachineError:
    """Return an error that says nothing of what was read, but of the machine: memory or file
    handles ran out.
    """
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return MachineError(
            f"{what}: there is not enough memory; use a smaller `batch_size` or fewer"
            " `num_workers`, or close other programs"
        )
    return MachineError(f"{what}: {error.strerror}; {CURES.get(error.errno or 0, 'free some')}")


def shortage_in(error: Exception) -> MachineError | None:
    """Return what an error means that a library raised when memory, handles or threads ran out;
    None where it means something else.
    """
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return shortage("the command was ended", MemoryError())
    if isinstance(error, RuntimeError) and NO_THREAD in str(error):
        return MachineError(
            f"the command was ended: {NO_THREAD}; close other programs, or raise `ulimit -u`"
        )
    return None


def open_patiently(path: str | Path) -> io.BufferedReader:
    """Open a file as `open(path, "rb")`; errors that may pass are retried, at opening and at each
    reading.
    """
    return io.BufferedReader(retried(lambda: _Patient(path)), 2**16)


def open_once(path: str | Path) -> io.BufferedReader:
    """Open as `open(path, "rb")`, for a caller that begins again itself where an error may pass;
    EAGAIN is an error too.
    """
    return io.BufferedReader(_Strict(path), 2**16)


class _Strict(io.FileIO):
    """A file that raises what Python would take for its end: a read that has to be repeated."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count: int | None = super().readinto(buffer)
        if count is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count

    def readall(self) -> bytes:
        """Read the rest by `readinto`, which `FileIO.readall` would not use."""
        pieces = []
        piece = bytearray(2**16)
        while count := self.readinto(piece):
            pieces.append(bytes(piece[:count]))
        return b"".join(pieces)


class _Patient(_Strict):
    """A file whose reads are retried where they stand: a read that failed has not moved on."""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return retried(lambda: super(_Patient, self).readinto(buffer))
