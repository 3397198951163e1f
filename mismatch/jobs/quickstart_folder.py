"""The folder that quickstart writes: what is its own there, and what is somebody else's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mismatch.errors import InputError
from mismatch.io.atomic import is_leftover, write_json
from mismatch.io.outputs import refuse_model_folder
from mismatch.jobs.locking import lock_folder

__all__ = [
    "BACKBONE",
    "BUNDLE",
    "EXPLANATION",
    "MARKER",
    "MODEL",
    "OWN_NAMES",
    "PREDICTIONS",
    "REPORT",
    "own_files",
    "own_folder",
]

MARKER = "quickstart.json"  # what was measured; a folder with it may be written again
BACKBONE = "backbone"
MODEL = "model"
BUNDLE = "bundle"
PREDICTIONS = "predictions.csv"
REPORT = "report"
EXPLANATION = "explanation.png"
OWN_NAMES = (
    MARKER,
    "images",
    "train.csv",
    "val.csv",
    "test.csv",
    "catalogue.png",
    BACKBONE,
    MODEL,
    BUNDLE,
    PREDICTIONS,
    REPORT,
    EXPLANATION,
)
OWN_PATTERN = re.compile("|".join(map(re.escape, OWN_NAMES)))


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Remove an earlier quickstart from the folder, and let no other one write there until the
    block ends. After an error, or an interruption, nothing that was written stays.
    """
    refuse_model_folder(folder, "`dir`")
    with lock_folder(folder, inside=OWN_PATTERN):
        is_new = _claim(folder)
        try:
            yield
        except BaseException:
            _remove_own(folder)
            if is_new:
                folder.rmdir()
            raise


def own_files(folder: Path) -> list[str]:
    """Return all files under the names that are quickstart's own, relative to its folder."""
    files: list[Path] = []
    for name in OWN_NAMES:
        path = folder / name
        files += [path] if path.is_file() else path.rglob("*")
    return sorted(
        path.relative_to(folder).as_posix()
        for path in files
        if not path.is_dir() and not is_leftover(path.name)
    )


def _claim(folder: Path) -> bool:
    """Mark the folder as quickstart's, emptied of an earlier one; return whether it is new."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`dir` {folder} is a file; choose another folder", option="dir")
    is_new = not folder.exists()
    if not is_new and any(folder.iterdir()):
        _check_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_own(folder)
    write_json(folder / MARKER, {"finished": False})
    return is_new


def _check_own(folder: Path) -> None:
    """Raise InputError for a folder that quickstart did not write, or in whose own folders somebody
    keeps files that would be removed with them.
    """
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        marker = None
    if not isinstance(marker, dict) or "finished" not in marker:
        raise InputError(
            f"`dir` {folder} is not empty and was not written by quickstart; choose another folder",
            option="dir",
        )
    listed = marker.get("files")  # none of older versions, nor of a run that was killed
    if not isinstance(listed, list):
        return
    others = sorted(set(own_files(folder)) - set(listed))
    if others:
        raise InputError(
            f"`dir` {folder} holds files of yours ({', '.join(others[:3])}), which would be lost;"
            " move them, or choose another folder",
            option="dir",
        )


def _remove_own(folder: Path) -> None:
    """Remove what quickstart writes, the marker last; files that the user put there stay."""
    for name in reversed(OWN_NAMES):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
