"""The folder that quickstart writes: what is its own there, and what is somebody else's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
    "write_marker",
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
# every file that it writes, relative to its folder; what else lies there is the user's
WEIGHTS_AND_SETTINGS = (
    r"(?:(?:manifest|parity|mismatch|training_stats|training_state|open_clip_config|tokenizer"
    r"|tokenizer_config|special_tokens_map|config)\.json|README\.md|run\.yaml|training_curves\.png"
    r"|(?:image_encoder|text_encoder|head)\.onnx"
    r"|(?:open_clip_model|classification_head)\.safetensors|training_state\.pt)"
)
OWN_FILE = re.compile(
    r"(?:quickstart\.json|(?:train|val|test|predictions)\.csv|(?:catalogue|explanation)\.png"
    r"|images/(?:train|val|test)/\d{5}\.jpg"
    r"|report/(?:report\.(?:html|json)|predictions\.csv)"
    rf"|(?:backbone|bundle)/{WEIGHTS_AND_SETTINGS}"
    rf"|model/(?:(?:best_model|final_model|checkpoint_\w+)/)?{WEIGHTS_AND_SETTINGS})"
)
SIZES = "bytes"  # key of the marker: the size of each file
LATER = 2.0  # seconds after the marker, from which on a file was changed by somebody else


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
                with suppress(OSError):  # it holds files of the user's
                    folder.rmdir()
            raise


def write_marker(folder: Path, measured: Mapping[str, Any]) -> None:
    """Say that the run has ended: what was measured, and what its files are known by later."""
    sizes = {name: (folder / name).lstat().st_size for name in own_files(folder) if name != MARKER}
    write_json(folder / MARKER, {**measured, SIZES: sizes})


def own_files(folder: Path) -> list[str]:
    """Return all files that quickstart has written, relative to its folder."""
    return [name for name in _files(folder) if OWN_FILE.fullmatch(name)]


def _files(folder: Path) -> list[str]:
    """Return all files under the names that are quickstart's own, relative to its folder."""
    files: list[Path] = []
    for name in OWN_NAMES:
        path = folder / name
        is_folder = path.is_dir() and not path.is_symlink()
        files += path.rglob("*") if is_folder else [path]
    there = (path.relative_to(folder) for path in files if path.is_symlink() or path.is_file())
    return sorted(path.as_posix() for path in there if not any(map(is_leftover, path.parts)))


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
    yours = [name for name in _files(folder) if not OWN_FILE.fullmatch(name)]
    yours += _changed_since(folder, marker)
    if yours:
        raise InputError(
            f"`dir` {folder} holds files of yours ({', '.join(yours[:3])}), which would be lost;"
            " move them, or choose another folder",
            option="dir",
        )


def _changed_since(folder: Path, marker: Mapping[str, Any]) -> list[str]:
    """Return the files under quickstart's names that somebody has changed, or put there, since the
    run wrote its own.
    """
    marked = (folder / MARKER).stat().st_mtime
    sizes = marker.get(SIZES)
    changed = []
    for name in own_files(folder):
        status = (folder / name).lstat()
        if name == MARKER:
            continue
        if not marker["finished"]:  # it was marked before anything was written
            is_changed = status.st_mtime < marked - LATER
        elif isinstance(sizes, dict) and sizes.get(name) != status.st_size:
            is_changed = True  # also of one that was moved there, with a time of its own
        else:
            is_changed = status.st_mtime > marked + LATER
        if is_changed:
            changed.append(name)
    return changed


def _remove_own(folder: Path) -> None:
    """Remove what quickstart writes, the marker last; files that the user put there stay."""
    leftovers = [path for path in folder.rglob("*") if _is_own_leftover(folder, path)]
    for path in leftovers:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in sorted(own_files(folder), key=lambda name: name == MARKER):
        (folder / name).unlink()
    for name in OWN_NAMES:
        _remove_empty(folder / name)


def _is_own_leftover(folder: Path, path: Path) -> bool:
    """Return whether a run that was killed has left it half written."""
    return is_leftover(path.name) and path.relative_to(folder).parts[0] in OWN_NAMES


def _remove_empty(place: Path) -> None:
    """Remove a folder, and those within it, as far as they are empty."""
    if not place.is_dir() or place.is_symlink():
        return
    for path in place.iterdir():
        _remove_empty(path)
    with suppress(OSError):  # it holds files of the user's
        place.rmdir()
