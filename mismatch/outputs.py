"""What an output may replace: nothing but an older output of its own kind. An input, a model's file and whatever a user made by hand stay."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mismatch.errors import CheckpointError, InputError

__all__ = ["SOFTWARE", "OutputKind", "check_outputs", "json_report", "model_folder_of", "page", "picture", "refuse_model_folder", "table"]

SOFTWARE = ("Software", "mismatch")  # keyword and text in the pictures that are drawn here
READ = 2**16  # bytes of a file's two ends, by which its kind is known
CHECKPOINT, BUNDLE = "mismatch.json", "manifest.json"  # as training/checkpoint.py and runtime/bundle.py name them
CHECKPOINT_KEYS = {"format_version", "head", "score"}
BUNDLE_KEYS = {"format_version", "image_spec", "text_spec", "files"}


@dataclass(frozen=True)
class OutputKind:
    """What an output is, and how an older one of its kind is known by the first and the last bytes of its file."""

    name: str  # for people: a table of predictions
    is_known: Callable[[bytes, bytes], bool]


def table(name: str, columns: Sequence[str]) -> OutputKind:
    """Return the kind of a table with these columns: CSV by its first line, JSON lines by the first row, Parquet by the schema behind its rows."""

    def is_known(head: bytes, tail: bytes) -> bool:
        where = tail if head.startswith(b"PAR1") else head.partition(b"\n")[0]
        return all(column.encode() in where for column in columns)

    return OutputKind(name, is_known)


def json_report(name: str, keys: Sequence[str]) -> OutputKind:
    """Return the kind of a JSON file with these keys near its start."""

    def is_known(head: bytes, _tail: bytes) -> bool:
        if head.strip() == b"[]":  # of no rows
            return True
        return head.lstrip()[:1] in (b"{", b"[") and all(f'"{key}"'.encode() in head for key in keys)

    return OutputKind(name, is_known)


def page(name: str, mark: str) -> OutputKind:
    """Return the kind of an HTML page with these words near its start."""
    return OutputKind(name, lambda head, _tail: head.lstrip().startswith(b"<!DOCTYPE html>") and mark.encode() in head)


def picture(name: str) -> OutputKind:
    """Return the kind of a PNG that says that mismatch drew it, which a photo does not."""
    mark = f"{SOFTWARE[0]}\0{SOFTWARE[1]}".encode()
    return OutputKind(name, lambda head, _tail: head.startswith(b"\x89PNG") and mark in head)


def check_outputs(outputs: Iterable[tuple[str, Path, OutputKind | None]], inputs: Iterable[Path] = ()) -> None:
    """Refuse outputs before any work is done: each is the option's name, the file, and its kind, None where something else guards what is there.

    InputError for one that is an input or another output, or a file of another kind. CheckpointError for one in a model's folder. Devices, pipes and empty
    files may be written to.
    """
    taken: dict[str, str] = {}
    sources = [path for path in inputs if path.exists()]
    for option, path, kind in outputs:
        if _is_stream(path):
            continue
        if (other := taken.setdefault(os.path.realpath(path), option)) != option:
            raise InputError(f"{other} and {option} are both {path}; choose another name for one")
        if path.exists() and any(path.samefile(source) for source in sources):
            raise InputError(f"{option} {path} is the input, which would be lost; choose another name or folder")
        refuse_model_folder(path, option)
        if kind is not None and not _may_replace(path, kind):
            raise InputError(f"{option} {path} is there already and is not {kind.name} of mismatch; choose another name, or move it away")


def refuse_model_folder(path: Path, option: str, *, but_a_bundle: bool = False) -> None:
    """CheckpointError for what lies in a checkpoint or a bundle, or is one; `but_a_bundle`: an older bundle may be replaced whole."""
    model = model_folder_of(path)
    if but_a_bundle and model == Path(os.path.realpath(path)) and not (model / CHECKPOINT).is_file():
        return
    if model is not None:
        raise CheckpointError(f"{option} {path} lies in the model {model}, which holds its own files only; choose another place")


def model_folder_of(path: Path) -> Path | None:
    """Return the checkpoint or bundle that a path lies in, or is; None outside of all."""
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        if _has_keys(folder / CHECKPOINT, CHECKPOINT_KEYS) or _has_keys(folder / BUNDLE, BUNDLE_KEYS):
            return folder
    return None


def _has_keys(path: Path, keys: set[str]) -> bool:
    """Whether a file is a JSON object with these keys; no pipe is opened."""
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and keys <= data.keys()


def _is_stream(path: Path) -> bool:
    """Whether it is a device or a pipe, which nothing is lost by."""
    try:
        return path.exists() and not (path.is_file() or path.is_dir())
    except OSError:
        return False


def _may_replace(path: Path, kind: OutputKind) -> bool:
    """Whether nothing is there, or an empty file, or one of this kind. A folder is for the writer to refuse."""
    if not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            head = file.read(READ)
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ))
            tail = file.read(READ)
    except OSError:
        return False
    return not head or kind.is_known(head, tail)
