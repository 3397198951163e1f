"""Models of ours on a hub: which names mean one, and its files in the hub's cache, where they are
read as any folder is. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mismatch.errors import CheckpointError, MissingExtraError
from mismatch.io.reading import read_json
from mismatch.runtime.bundle import MANIFEST
from mismatch.runtime.card_file import CARD
from mismatch.runtime.hub import HubName, fetch

__all__ = [
    "CHECKPOINT",
    "PREFIX",
    "STATS",
    "is_in_hub_cache",
    "listed_files",
    "local_model",
    "pinned_model",
    "refuse_hub_cache",
]

PREFIX = "hub:"  # before a name that is one of the hub's, whatever folders there are
CHECKPOINT = "mismatch.json"  # as training/checkpoint.py names it
STATS = "training_stats.json"
BARE = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?", re.ASCII)
# how files end that hold code, or pickles that may: no model that `push` accepts has one
UNSAFE = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc", ".so")
MAX_FILES = 1000  # of a model
CACHED = re.compile(r"models--.+/snapshots/[0-9a-f]{40}")  # in a folder of the hub's cache


def local_model(model: str | Path) -> str | Path:
    """Return where a model lies: what is no name on the hub as it is; `hub:OWNER/NAME`,
    `hub:OWNER/NAME@REVISION` and such names without `hub:` as the folder in the hub's cache, to
    which they are downloaded once.

    Without `hub:` a folder wins, and a name whose OWNER is a folder here is a path.
    CheckpointError for what is not to be had, or holds no model.
    """
    if not isinstance(model, str):
        return model
    if model.startswith(PREFIX):
        return _fetch(model.removeprefix(PREFIX))
    path = Path(model)
    if not BARE.fullmatch(model) or path.exists() or path.parts[0] == "..":
        return model
    if Path(path.parts[0]).exists():
        return model
    try:
        return _fetch(model)
    except MissingExtraError as error:
        raise CheckpointError(f"model folder {model} not found; {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"model folder {model} not found, and {error}") from error


def pinned_model(model: str | Path) -> str:
    """Return a model as several machines load the same: of a name on the hub, `hub:` with the
    commit that it has now.
    """
    folder = local_model(model)
    if folder is model:
        return str(model)
    name = HubName.of(str(model).removeprefix(PREFIX))
    return f"{PREFIX}{name.repository}@{Path(folder).name}"


def listed_files(record: object, name: str) -> list[str]:
    """Return the files that a manifest.json or mismatch.json lists, `name` in messages.
    CheckpointError for a list with a file outside of the folder, one that may hold code, or none.
    """
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or not files or len(files) > MAX_FILES:
        raise CheckpointError(
            f"{name} lists no hashes of its files, as those of early versions; train or export it"
            " again"
        )
    for file in files:
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts or "\\" in file or "\0" in file:
            raise CheckpointError(f"{name} lists {file!r}, which is outside of its folder")
        if file.lower().endswith(UNSAFE):
            raise CheckpointError(
                f"{name} lists {file!r}, which may hold code; only weights in safetensors or ONNX"
                " go to and come from a hub"
            )
    return sorted(files)


def is_in_hub_cache(folder: str | Path) -> bool:
    """Return whether a folder is of the hub's cache, whose files are links to what is kept once."""
    return CACHED.search(Path(folder).absolute().as_posix()) is not None


def refuse_hub_cache(folder: str | Path) -> None:
    """Raise CheckpointError for a folder of the hub's cache: nothing may be changed there."""
    if is_in_hub_cache(folder):
        raise CheckpointError(
            f"{folder} is the hub's copy of a model, in which nothing is stored; download it to a"
            " folder of your own: `hf download OWNER/NAME --local-dir FOLDER`"
        )


def _fetch(text: str) -> Path:
    name = HubName.of(text)
    if "/" not in name.repository:
        raise CheckpointError(f"'{text}' names no owner; write {PREFIX}OWNER/NAME")

    def first(names: Sequence[str]) -> list[str]:
        described = _described(names, str(name))
        return [file for file in (described, STATS, CARD) if file in names]

    def files(folder: Path, names: Sequence[str]) -> list[str]:
        record: Any = read_json(folder / _described(names, str(name)))
        return listed_files(record, f"'{name}'")

    return fetch(name, first, files).folder


def _described(names: Sequence[str], name: str) -> str:
    """Return the file that says what a model is."""
    for file in (MANIFEST, CHECKPOINT):
        if file in names:
            return file
    raise CheckpointError(
        f"'{name}' holds no model of mismatch, neither {MANIFEST} nor {CHECKPOINT}; a backbone is"
        f" named FAMILY:{name}, as hf-clip:{name}"
    )
