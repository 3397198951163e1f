"""Files on disk, whole or not at all: a temporary name next to the target, then a rename."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

from mismatch.errors import CheckpointError
from mismatch.io.descriptors import descriptor_of, writing_to
from mismatch.io.remote import Remote
from mismatch.io.replacing import Identity, earlier_output, take_name
from mismatch.io.retries import open_patiently

__all__ = [
    "FULL",
    "SEAL",
    "SHOWN",
    "WaitingNames",
    "atomic_binary",
    "atomic_directory",
    "atomic_file",
    "explained",
    "finite",
    "is_leftover",
    "is_sealed",
    "remove_directory",
    "sealed",
    "sha256_file",
    "sweep",
    "together",
    "write_bytes",
    "write_json",
]

# how a file's name that is no UTF-8 is written: its bytes as codes, where Python would raise
SHOWN = "backslashreplace"
# errors that a write meets half-way, which name no file
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
# renameat2's constants on Linux
AT_FDCWD = -100
RENAME_EXCHANGE = 2
SEAL = "checksum"  # key, in a JSON object, of what `sealed` has made of all its other keys
PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(?:part|old)")  # what `_sibling` makes of a name


@dataclass(frozen=True)
class _Whole:
    """A file that is written, and waits for its name."""

    part: Path
    target: Path
    earlier: Identity | None


class WaitingNames(list[_Whole]):
    """Files that take their names together; see `together`."""


@contextlib.contextmanager
def together() -> Iterator[WaitingNames]:
    """Let the files that are written with what this yields take their names when the block ends,
    each whole. A failed block, such as on a full disk, leaves all of their earlier versions.
    """
    names = WaitingNames()
    try:
        yield names
        for whole in names:
            take_name(whole.part, whole.target, whole.earlier)
    finally:
        for whole in names:
            whole.part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: str | Path, names: WaitingNames | None = None) -> Iterator[TextIO]:
    """Yield a UTF-8 text file to write to, line ends as written. It takes its name when the block
    ends, or with the others of `names`, and vanishes if the block fails.

    A link is followed; a device, a pipe or a file that is open already, as /dev/stdout is, is
    written to directly. CheckpointError for a folder, a missing folder, a full disk; and for a file
    that has come there since the block or the job that has locked it began, see `take_name`.
    """
    with _atomic(path, "w", names, encoding="utf-8", errors=SHOWN, newline="") as file:
        yield file


@contextlib.contextmanager
def atomic_binary(
    path: str | Path | Remote, names: WaitingNames | None = None
) -> Iterator[IO[bytes]]:
    """Yield, as `atomic_file`, a file of bytes, or an object, which takes its name at once."""
    with path.writing() if isinstance(path, Remote) else _atomic(path, "wb", names) as file:
        yield file


@contextlib.contextmanager
def _atomic(
    path: str | Path, mode: str, names: WaitingNames | None = None, **options: str
) -> Iterator[Any]:
    descriptor = descriptor_of(path)
    if descriptor is not None:
        with writing_to(descriptor, mode, **options) as file:
            yield file
        return
    target = _real(path)
    if target.exists() and not target.is_file():
        with _written_directly(target, mode, **options) as file:
            yield file
        return
    part = _sibling(target)
    earlier = earlier_output(target)
    with explained(target, part):
        try:
            with part.open(mode, **options) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            if names is None:
                take_name(part, target, earlier)
            else:
                names.append(_Whole(part, target, earlier))
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to fill. It takes its name, in place of one that is there, when the
    block ends, and vanishes if the block fails.

    Whatever the older folder holds is removed: whether it may be is for the caller to check. A file
    is never replaced (CheckpointError).
    """
    target = _real(path)
    if target.exists() and not target.is_dir():
        raise CheckpointError(
            f"can't write the folder {target}: a file of that name is in the way; choose another"
            " name"
        )
    part = _sibling(target)
    with explained(target, part):
        try:
            part.mkdir(parents=True)
            mode = part.stat().st_mode
            yield part
            _give_modes(part, mode)
            _flush(part)
            _swap(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def remove_directory(path: str | Path) -> None:
    """Remove a folder; a removal that is cut short leaves it whole or under a temporary name, for
    `sweep`. What a link points to stays.
    """
    if Path(path).is_symlink():
        Path(path).unlink()
    else:
        shutil.rmtree(Path(path).replace(_sibling(Path(path))))


def sweep(folder: str | Path, names: re.Pattern[str]) -> None:
    """Remove what writers that were killed have left in `folder` next to files and folders of these
    names. An older folder that one of them had moved away, and the new one not yet in its place,
    gets its name back.
    """
    matches = [match for match in map(PART.fullmatch, os.listdir(folder)) if match]
    for match in sorted(matches, key=lambda match: not match[0].endswith(".old")):
        if not names.fullmatch(match[1]):
            continue
        path = Path(folder) / match[0]
        target = Path(folder) / match[1]
        if path.suffix == ".old" and not target.exists():
            path.rename(target)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Return whether this is what a writer that was killed leaves, or what a system puts into every
    folder.
    """
    return PART.fullmatch(name) is not None or name in (".lock", ".DS_Store")


def write_json(path: str | Path | Remote, data: Any, names: WaitingNames | None = None) -> None:
    """Write indented JSON as `atomic_file` does. JSON has no nan and no infinity: they become
    null.
    """
    text = json.dumps(finite(data), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_binary(path, names) as file:
        file.write(f"{text}\n".encode(errors=SHOWN))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file as it is, atomically."""
    with atomic_binary(path) as file:
        file.write(data)


def sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with a checksum of itself, for `is_sealed`. One wrong byte in a
    threshold would else be taken for the threshold.
    """
    plain = {key: value for key, value in finite(data).items() if key != SEAL}
    return {**plain, SEAL: hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def is_sealed(data: Mapping[str, Any]) -> bool:
    """Return whether a JSON object still is as `sealed` left it; true of one that has no checksum,
    as older versions wrote it.
    """
    try:
        return SEAL not in data or sealed(data)[SEAL] == data[SEAL]
    except RecursionError:  # lists in lists, which only a parser in C can follow so deep
        return False


def finite(data: Any) -> Any:
    """Return the same data with nan and infinity as None, which JSON can say."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: finite(value) for key, value in data.items()}
    return [finite(value) for value in data] if isinstance(data, list | tuple) else data


def sha256_file(path: str | Path) -> str:
    """Return the hex digest of a file's bytes."""
    with open_patiently(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _real(path: str | Path) -> Path:
    """Return where a link leads, so that the file behind it is replaced and the link stays."""
    return Path(os.path.realpath(path))


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


@contextlib.contextmanager
def _written_directly(target: Path, mode: str, **options: str) -> Iterator[Any]:
    if target.is_dir():
        raise CheckpointError(f"can't write {target}: it is a folder; add a file name")
    with explained(target, target):
        opened: Any = target.open(mode, **options)  # type: ignore[call-overload]
        with opened as file:
            yield file


def _flush(folder: Path) -> None:
    """Have all files of a folder on the disk before it takes its name: else a power cut may leave
    the name and empty files.
    """
    for path in folder.rglob("*"):
        # elsewhere only what is open for writing can be flushed
        if path.is_file() and os.name == "posix":
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _give_modes(folder: Path, mode: int) -> None:
    """Give everything in a new folder the mode that the umask left that folder. safetensors and
    copies of other files bring their own, such as 0600.
    """
    if os.name != "posix":
        return
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(mode) if path.is_dir() else stat.S_IMODE(mode) & 0o666)


def _swap(part: Path, target: Path) -> None:
    """Put `part` in the place of `target`, at once where the system can. Else `sweep` puts the
    older one back if a crash comes between the two renames.
    """
    if target.exists() and _exchange(part, target):
        shutil.rmtree(part, ignore_errors=True)
        return
    old = _sibling(target).with_suffix(".old")
    try:
        if target.exists():
            target.replace(old)
        part.replace(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change names in one step, renameat2 of Linux; whether that was done: not
    every system and file system knows how.
    """
    if sys.platform != "linux":
        return False
    try:
        return not ctypes.CDLL(None, use_errno=True).renameat2(
            AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE
        )
    except AttributeError:  # a C library from before 2018
        return False


@contextlib.contextmanager
def explained(target: Path, part: Path) -> Iterator[None]:
    """Put a full disk, a missing or read-only folder into words. Errors of other files, opened by
    the caller's block, pass through.
    """
    try:
        yield
    except OSError as error:
        if not _is_about(error, target, part):
            raise
        missing = error.errno == errno.ENOENT and not target.parent.exists()
        reason = (
            f"the folder {target.parent} does not exist; create it" if missing else error.strerror
        )
        raise CheckpointError(f"can't write {target}: {reason}") from error


def _is_about(error: OSError, target: Path, part: Path) -> bool:
    if not isinstance(error.filename, str | bytes):
        return error.errno in FULL
    place = Path(os.fsdecode(error.filename))
    return place in (target, *target.parents) or part in (place, *place.parents)
