"""One writer at a time: a lock next to what is written, which the kernel releases when its process
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
from typing import TYPE_CHECKING, Any

from mismatch.errors import CheckpointError
from mismatch.io.atomic import explained, sweep
from mismatch.io.descriptors import descriptor_of

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["locked"]

# errors of a file system without locks
TRIES = 100  # at a lock whose owner removes it again and again
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
NOT_NEXT_TO = {errno.EACCES, errno.EPERM, errno.EROFS}
SIGNED = b'{"pid": '  # how a signed lock begins


@contextlib.contextmanager
def locked(
    path: str | Path, *, parents: bool = False, inside: re.Pattern[str] | None = None
) -> Iterator[None]:
    """Be the only one that writes this file or folder. CheckpointError, which names the other
    process, while somebody else is.

    What a killed writer has left next to it under a temporary name is removed. So is what it has
    left of files `inside` the folder. `parents`: make missing folders above it. A device, a pipe or
    a file that is open already, as /dev/stdout is, has no lock.
    """
    if descriptor_of(path) is not None:
        yield
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        yield
        return
    if parents:
        with contextlib.suppress(OSError):  # which the writing itself reports better
            target.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquired(target)
    try:
        sweep(target.parent, re.compile(re.escape(target.name)))
        if inside is not None and target.is_dir():
            sweep(target, inside)
        yield
    finally:
        lock.release()


class _OutputLock:
    """The lock of one file or folder; its own file goes while it is still held."""

    def __init__(self, file: Path, kernel: BaseFileLock | None) -> None:
        self.file = file
        self.kernel = kernel  # None where the file system knows no locks

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self.file.unlink()
        if self.kernel is not None:
            self.kernel.release()


def _acquired(target: Path) -> _OutputLock:
    sibling = target.with_name(f".{target.name}.lock") if target.name else target / ".lock"
    within = target / ".lock"
    try:
        return _lock(target, sibling)
    except OSError as error:
        # a volume may be mounted below a folder of somebody else's
        if error.errno in NOT_NEXT_TO and target.is_dir():
            with explained(target, within):
                return _lock(target, within)
        with explained(target, sibling):
            raise


def _lock(target: Path, file: Path) -> _OutputLock:
    """Take the lock. OSError where no file can be made there; CheckpointError where it is taken."""
    kernel = _kernel_lock(target, file)
    if kernel is None and _is_held(file):
        raise CheckpointError(_refusal(target, file, by_kernel=False))
    if not _may_sign(file):
        if kernel is not None:
            kernel.release()
        raise CheckpointError(
            f"can't write {target}: {file} is in the way and was not written by mismatch;"
            " move it, or choose another name"
        )
    _sign(file)
    return _OutputLock(file, kernel)


def _kernel_lock(target: Path, file: Path) -> BaseFileLock | None:
    """Return the kernel's lock of this file; None where the file system knows no locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(file, thread_local=False, fallback_to_soft=False)
    for _ in range(TRIES):
        if not file.parent.is_dir():  # which filelock would make
            break
        try:
            lock.acquire(blocking=False)
            return lock
        except Timeout:
            if file.exists():  # else its owner has removed it since it was opened
                raise CheckpointError(_refusal(target, file, by_kernel=True)) from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                return None
            raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))


def _may_sign(file: Path) -> bool:
    """Return whether the file is empty or what `_sign` wrote. Somebody else's file under a lock's
    name would be overwritten and removed.
    """
    with file.open("rb") as stream:
        head = stream.read(len(SIGNED))  # a full disk may have cut it
    return SIGNED.startswith(head)


def _sign(file: Path) -> None:
    """Say who has it; a full disk is no reason not to have it."""
    # not local time, which a TZ such as UTC+30 makes impossible
    since = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with contextlib.suppress(OSError):
        file.write_text(json.dumps(owner))


def _owner(file: Path) -> dict[str, Any]:
    """Return who signed; nothing where nobody has yet, or nobody could."""
    try:
        with file.open("rb") as stream:
            owner = json.loads(stream.read(4096))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_held(file: Path) -> bool:
    """Return, without the kernel's word, whether who signed still runs. That can be told on the
    same machine only; else it counts as running.
    """
    owner = _owner(file)
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    if pid == os.getpid() or owner.get("host") != socket.gethostname() or sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _refusal(target: Path, file: Path, *, by_kernel: bool) -> str:
    owner = _owner(file)
    who = (
        f"process {owner['pid']} on {owner.get('host')} has been writing it since"
        f" {owner.get('since')}"
        if "pid" in owner
        else "another process is writing it"
    )
    remedy = "wait until it is done, or choose another name"
    return f"can't write {target}: {who}; {remedy}" + (
        "" if by_kernel else f"; if it is gone, remove {file}"
    )
