"""A file that lies under an output's name when a job begins is replaced at its end; what somebody
has put there since stays.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mismatch.errors import CheckpointError

__all__ = ["Identity", "earlier_output", "remembered", "remove_earlier", "take_name"]

Identity = tuple[int, int, int]  # inode, bytes, nanoseconds of the last change
# what jobs of this process have found under their outputs' names; None: nothing
_files: dict[Path, Identity | None] = {}
_folders: dict[Path, dict[str, Identity | None]] = {}  # all that is in each, by name


@contextmanager
def remembered(path: str | Path, *, is_folder: bool = False) -> Iterator[None]:
    """Remember what lies under a file's name, or in a folder, until the block ends. The caller has
    locked it.
    """
    target = Path(os.path.realpath(path))
    if is_folder:
        _folders[target] = _listed(target)
    else:
        _files[target] = _identity(target)
    try:
        yield
    finally:
        (_folders if is_folder else _files).pop(target, None)


def earlier_output(target: Path) -> Identity | None:
    """Return what lay under a name when the job began that writes it now, else what lies there."""
    if target in _files:
        return _files[target]
    if target.parent in _folders:
        return _folders[target.parent].get(target.name)
    return _identity(target)


def take_name(part: Path, target: Path, earlier: Identity | None) -> None:
    """Give a file another name, in place of the `earlier` one if that still lies there.

    CheckpointError where something else does: it stays, and the file lies next to it.
    """
    if _is_same(part, target):  # a run was killed in `_named`
        part.unlink()
    elif earlier is not None and _identity(target) == earlier:
        with suppress(OSError):  # its owner may have closed it to others
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        part.replace(target)
    elif not _named(part, target):
        raise CheckpointError(
            f"{target} was written by somebody else meanwhile, so it stays; the result is"
            f" {_kept_next_to(part, target)}"
        )
    if target in _files:
        _files[target] = _identity(target)
    if target.parent in _folders:
        _folders[target.parent][target.name] = _identity(target)


def remove_earlier(path: Path) -> None:
    """Remove a file that lay there when the job began; what has come since stays."""
    target = Path(os.path.realpath(path))
    if earlier_output(target) == _identity(target):
        path.unlink(missing_ok=True)


def _kept_next_to(part: Path, target: Path) -> Path:
    """Give a file the first free name of NAME-1.csv, NAME-2.csv, …"""
    for number in itertools.count(1):
        place = target.with_name(f"{target.stem}-{number}{target.suffix}")
        if _named(part, place):
            break
    return place


def _named(part: Path, target: Path) -> bool:
    """Give a file a name that is free; whether it was."""
    try:
        if os.name == "nt":  # where a rename replaces nothing
            part.rename(target)
        else:
            target.hardlink_to(part)
            part.unlink()
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(target):
            return False
        part.rename(target)
    return True


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two names are links to one file."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def _listed(folder: Path) -> dict[str, Identity | None]:
    with suppress(OSError):
        return {name: _identity(folder / name) for name in os.listdir(folder)}
    return {}  # it is not there yet


def _identity(path: Path) -> Identity | None:
    try:
        about = path.lstat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns
