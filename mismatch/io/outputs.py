"""What an output may replace: nothing but an older output of its own kind. An input, a model's file
and whatever a user made by hand stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError, InputError
from mismatch.io.descriptors import descriptor_of
from mismatch.io.reading import LARGEST_JSON, read_text

__all__ = [
    "SOFTWARE",
    "OutputKind",
    "check_cache",
    "check_outputs",
    "json_report",
    "model_folder_of",
    "page",
    "picture",
    "refuse_model_folder",
    "text_file",
]

SOFTWARE = ("Software", "mismatch")  # keyword and text in the pictures that are drawn here
READ = 2**16  # bytes of a page, a picture or a text, by which its kind is known
LARGEST_REPORT = 2**28  # bytes of JSON, above which nobody's report is replaced
# as training/checkpoint.py and runtime/bundle.py name them
CHECKPOINT = "mismatch.json"
BUNDLE = "manifest.json"
CHECKPOINT_KEYS = {"format_version", "head", "score"}
BUNDLE_KEYS = {"format_version", "image_spec", "text_spec", "files"}


@dataclass(frozen=True)
class OutputKind:
    """What an output is, and how an older one of its kind is known."""

    name: str  # for people: a table of predictions
    is_known: Callable[[Path], bool]  # is given a file that is there and not empty


def json_report(name: str, keys: Iterable[str], optional: Iterable[str] = ()) -> OutputKind:
    """Return the kind of a JSON file that is an object with all of `keys`, and with no others but
    `optional` ones, which a user may have added; or a list of such objects.
    """
    required = set(keys)
    allowed = required | set(optional)

    def is_known(path: Path) -> bool:
        data = _parsed(path, LARGEST_REPORT)
        rows = data if isinstance(data, list) else [data]
        return all(isinstance(row, dict) and required <= row.keys() <= allowed for row in rows)

    return OutputKind(name, is_known)


def page(name: str, mark: str) -> OutputKind:
    """Return the kind of an HTML page with these words near its start."""

    def is_known(path: Path) -> bool:
        head = _head(path)
        return head.lstrip().startswith(b"<!DOCTYPE html>") and mark.encode() in head

    return OutputKind(name, is_known)


def picture(name: str) -> OutputKind:
    """Return the kind of a PNG that says that mismatch drew it, which a photo does not."""
    mark = f"{SOFTWARE[0]}\0{SOFTWARE[1]}".encode()

    def is_known(path: Path) -> bool:
        head = _head(path)
        return head.startswith(b"\x89PNG") and mark in head

    return OutputKind(name, is_known)


def text_file(name: str, start: str) -> OutputKind:
    """Return the kind of a text that begins so."""
    return OutputKind(name, lambda path: _head(path).startswith(start.encode()))


def check_outputs(
    outputs: Iterable[tuple[str, Path, OutputKind | None]], inputs: Iterable[Path] = ()
) -> None:
    """Refuse outputs before any work is done: each is the option's name, the file, and its kind,
    None where something else guards what is there.

    InputError for one that is an input or another output, or a file of another kind.
    CheckpointError for one in a model's folder. Devices, pipes and empty files may be written to.
    """
    taken: dict[str, str] = {}
    sources = [path for path in inputs if path.exists()]
    for option, path, kind in outputs:
        if _is_stream(path):
            continue
        real = os.path.realpath(path)
        if real in taken:
            raise InputError(
                f"{taken[real]} and {option} are both {path}; choose another name for one"
            )
        taken[real] = option
        if path.exists() and any(path.samefile(source) for source in sources):
            raise InputError(
                f"{option} {path} is the input, which would be lost; choose another name or folder"
            )
        refuse_model_folder(path, option)
        if kind is not None and not _may_replace(path, kind):
            raise InputError(
                f"{option} {path} is there already and is not {kind.name} of mismatch; choose"
                " another name, or move it away"
            )


def check_cache(cache: str | Path | None, outputs: Iterable[tuple[str, Path | None]]) -> None:
    """Refuse, by InputError, a folder of embeddings that has an output's name, which each of
    `outputs` gives behind its option's name.
    """
    if cache is None:
        return
    folder = os.path.realpath(cache)
    for option, path in outputs:
        if path is not None and os.path.realpath(path) == folder:
            raise InputError(f"`cache` and {option} are both {path}; choose another name for one")


def refuse_model_folder(path: Path, option: str, *, but_a_bundle: bool = False) -> None:
    """Refuse, by CheckpointError, what lies in a checkpoint or a bundle, or is one. `but_a_bundle`:
    an older bundle may be replaced whole.
    """
    model = model_folder_of(path)
    if (
        but_a_bundle
        and model == Path(os.path.realpath(path))
        and not (model / CHECKPOINT).is_file()
    ):
        return
    if model is not None:
        raise CheckpointError(
            f"{option} {path} lies in the model {model}, which holds its own files only; choose"
            " another place"
        )


def model_folder_of(path: Path) -> Path | None:
    """Return the checkpoint or bundle that a path lies in, or is; None outside of all."""
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        if _has_keys(folder / CHECKPOINT, CHECKPOINT_KEYS) or _has_keys(
            folder / BUNDLE, BUNDLE_KEYS
        ):
            return folder
    return None


def _has_keys(path: Path, keys: set[str]) -> bool:
    """Return whether a file is a JSON object with these keys; no pipe is opened."""
    try:
        data = _parsed(path, LARGEST_JSON) if path.is_file() else None
    except OSError:
        return False
    return isinstance(data, dict) and keys <= data.keys()


def _parsed(path: Path, max_bytes: int) -> Any:
    """Return what a file says as JSON; None where it is none, or has more bytes than `max_bytes`,
    which are not read.
    """
    try:
        return json.loads(read_text(path, max_bytes))
    except (OSError, ValueError, RecursionError):
        return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(READ)


def _is_stream(path: Path) -> bool:
    """Return whether it is a device, a pipe or a file that is open already: nothing is lost by
    writing.
    """
    if descriptor_of(path) is not None:
        return True
    try:
        return path.exists() and not (path.is_file() or path.is_dir())
    except OSError:
        return False


def _may_replace(path: Path, kind: OutputKind) -> bool:
    """Return whether nothing is there, or an empty file, or one of this kind. A folder is for the
    writer to refuse.
    """
    if not path.is_file():
        return True
    try:
        return not path.stat().st_size or kind.is_known(path)
    except OSError:
        return False
