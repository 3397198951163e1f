"""One writer at a time: a lock beside what is written, which the kernel lets go when its process
ends, however that was.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError
from mismatch.io.atomic import explained, sweep
from mismatch.io.descriptors import descriptor_of

__all__ = ["locked"]

TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
# of a file system that has none
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
NOT_BESIDE = {errno.EACCES, errno.EPERM, errno.EROFS}
# what a link leads to is never overwritten
OPENED = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
SIGNED = b'{"pid": '  # how a signed lock begins
PATTERN = re.compile(r"\.(?:.+\.)?lock")  # what a lock's file is called


@contextlib.contextmanager
def locked(
    path: str | Path, *, parents: bool = False, inside: re.Pattern[str] | None = None
) -> Iterator[None]:
    """Be the only one that writes this file or folder. CheckpointError, which names the other
    process, while somebody else is.

    What a killed writer has left beside it under a temporary name is removed, and in the folder
    what it has left of files `inside`. `parents`: make missing folders above it. A device, a pipe
    or a file that is open already, as /dev/stdout is, has no lock.
    """
    if descriptor_of(path) is not None:
        yield
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        yield
        return
    if parents:
        with contextlib.suppress(OSError):  # which whoever writes there says better
            target.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquired(target)
    try:
        sweep(target.parent, re.compile(re.escape(target.name)))
        if inside is not None and target.is_dir():
            sweep(target, inside)
        yield
    finally:
        lock.release()


class _Lock:
    """A file that this process has locked; it is removed while it still is."""

    def __init__(self, place: Path, descriptor: int) -> None:
        self.place = place
        self.descriptor = descriptor

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self.place.unlink()
        os.close(self.descriptor)


def _acquired(target: Path) -> _Lock:
    beside = target.with_name(f".{target.name}.lock") if target.name else target / ".lock"
    within = target / ".lock"
    try:
        return _lock(target, beside)
    except OSError as error:
        # a volume that is mounted below a folder of somebody else's
        if error.errno in NOT_BESIDE and target.is_dir():
            with explained(target, within):
                return _lock(target, within)
        with explained(target, beside):
            raise


def _lock(target: Path, place: Path) -> _Lock:
    """Take the lock. OSError where no file can be made there; CheckpointError where it is taken."""
    while True:
        descriptor = os.open(place, OPENED, 0o666)
        try:
            by_kernel = _flock(descriptor)
            if by_kernel is False or (by_kernel is None and _is_held(descriptor)):
                raise CheckpointError(
                    _refusal(target, place, _owner(descriptor), by_kernel=by_kernel is not None)
                )
            if not _may_sign(descriptor):
                raise CheckpointError(
                    f"can't write {target}: {place} is in the way and was not written by mismatch;"
                    " move it, or choose another name"
                )
            # else whoever had it has removed it since it was opened
            if _is_there(descriptor, place):
                _sign(descriptor)
                return _Lock(place, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int) -> bool | None:
    """Return whether the lock is ours now; None where the file system knows no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def _is_there(descriptor: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except FileNotFoundError:
        return False


def _may_sign(descriptor: int) -> bool:
    """Return whether the file is empty or what `_sign` wrote. Somebody else's file under a lock's
    name would be overwritten and removed.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    head = os.read(descriptor, len(SIGNED))  # a full disk may have cut it
    return SIGNED.startswith(head)


def _sign(descriptor: int) -> None:
    """Say who has it; a full disk is no reason not to have it."""
    # not local time, which a TZ such as UTC+30 makes impossible
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        (
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
            if hasattr(os, "pwrite")
            else os.write(descriptor, json.dumps(owner).encode())
        )


def _owner(descriptor: int) -> dict[str, Any]:
    """Return who signed; nothing where nobody has yet, or nobody could."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        found = json.loads(os.read(descriptor, 4096))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _is_held(descriptor: int) -> bool:
    """Return, without the kernel's word, whether who signed still runs. That can be told on the
    same machine only; else it counts as running.
    """
    owner = _owner(descriptor)
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid == os.getpid():
        return isinstance(pid, int)
    if owner.get("host") != socket.gethostname() or sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _refusal(target: Path, place: Path, owner: dict[str, Any], *, by_kernel: bool) -> str:
    who = (
        f"process {owner['pid']} on {owner.get('host')} has been writing it since"
        f" {owner.get('since')}"
        if "pid" in owner
        else "another process is writing it"
    )
    remedy = "wait until it is done, or choose another name"
    return f"can't write {target}: {who}; {remedy}" + (
        "" if by_kernel else f"; if it is gone, remove {place}"
    )
