"""A folder that datasets wrote: its files, and what is wrong with one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mismatch.data.readers.text_files import NEEDED
from mismatch.errors import InputError
from mismatch.io.reading import check_regular, parse_json, read_text
from mismatch.io.retries import reason

__all__ = [
    "SPLITS",
    "STATE",
    "dataset_files",
]

MAX_SPLITS = 20  # that an error names
MAX_NAME = 100  # characters of a name that an error quotes

# which save_to_disk writes
STATE = "state.json"
SPLITS = "dataset_dict.json"


def dataset_files(folder: str | Path) -> list[Path]:
    """Return the Arrow files of such a folder, in order; InputError for another folder, and for one
    that names what is no file of its own.
    """
    folder = Path(folder)
    if (folder / SPLITS).is_file():
        raise InputError(f"{folder} holds several splits; name one{_split_names(folder)}")
    if not (folder / STATE).is_file():
        raise InputError(f"{folder} is a folder, a pipe or a device; {NEEDED}")
    state = _json(folder / STATE)
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise _named_wrongly(folder, "no data files") from error
    if not all(isinstance(name, str) for name in names):
        raise _named_wrongly(folder, "no data files")
    for name in names:
        if problem := _file_problem(folder, name):
            raise _named_wrongly(folder, f"{_short(name)}, {problem}")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise _named_wrongly(folder, f"{_short(repeated[0])} twice")
    if state.get("_indices_data_files"):
        raise InputError(
            f"{folder} selects rows of its files by an index; call flatten_indices() before"
            " save_to_disk"
        )
    return [folder / name for name in names]


def _split_names(folder: Path) -> str:
    """Return the folders of a dataset's splits, to name one of."""
    splits = _json(folder / SPLITS).get("splits") or ["train"]
    if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
        return ""
    names = [
        str(folder / split) if split.isprintable() else _short(split)
        for split in splits[:MAX_SPLITS]
    ]
    return f": {', '.join(names)}" + (", …" if len(splits) > MAX_SPLITS else "")


def _named_wrongly(folder: Path, what: str) -> InputError:
    return InputError(f"{folder / STATE} names {what}; write the dataset again with save_to_disk")


def _short(name: str) -> str:
    """Return a name in quotes, its control characters and halves of surrogate pairs as codes."""
    return repr(name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…")


def _file_problem(folder: Path, name: str) -> str | None:
    """Return what is wrong with a file that a folder names: it must lie in it, and may be a link,
    as hubs' clients put them there.

    A pipe would be waited for without end. One that is not there is reported where it is opened.
    """
    file = folder / name
    if file.parent != folder or file.name in ("", ".."):
        return "which is no file of this folder"
    if not name.isprintable():  # a NUL, half of a surrogate pair, what a terminal obeys
        return "which can't be the name of a file"
    try:
        check_regular(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"which can't be read ({reason(error)})"
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    return value if isinstance(value, dict) else {}
