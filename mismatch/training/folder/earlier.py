"""An earlier run in a folder: the state that a later one goes on from."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from mismatch.errors import CheckpointError
from mismatch.training.checkpoint import META, is_checkpoint
from mismatch.training.folder.state import Note, read_note

__all__ = [
    "BEST",
    "EPOCH",
    "FINAL",
    "LAST",
    "OWN_NAMES",
    "STARTED_FROM",
    "WITH_STATE",
    "earlier_checkpoints",
    "is_clone",
    "is_own",
    "resumable",
    "unfinished",
]

BEST = "best_model"
FINAL = "final_model"
LAST = "checkpoint_last"
STARTED_FROM = "started_from"
EPOCH = "checkpoint_epoch_"
OWN_NAMES = re.compile(rf"{BEST}|{FINAL}|{LAST}|{STARTED_FROM}|{EPOCH}\d+")
WITH_STATE = re.compile(rf"{LAST}|{EPOCH}\d+")


def resumable(folder: Path) -> tuple[Path, Note] | None:
    """Return the newest checkpoint in a run's folder that has a state, and that state's note; None
    where there is none.
    """
    states = []
    for path in earlier_checkpoints(folder):
        note = read_note(path) if WITH_STATE.fullmatch(path.name) else None
        if note is not None:
            states.append((path, note))
    return max(states, key=lambda state: state[1].saved, default=None)


def unfinished(folder: Path) -> tuple[Path, Note] | None:
    """Return what `resumable` does; None for a state that can't be read too."""
    with suppress(CheckpointError):
        return resumable(folder)
    return None


def is_own(folder: Path, path: Path) -> bool:
    """Return whether a path names a checkpoint that a run writes into `folder`, there or not."""
    return (
        path.parent.resolve() == folder.resolve()
        and bool(OWN_NAMES.fullmatch(path.name))
        and path.name != STARTED_FROM
    )


def is_clone(path: Path, checkpoint: Path) -> bool:
    """Return whether a checkpoint is another one, or that under a second name, as best_model is."""
    return (path / META).read_bytes() == (checkpoint / META).read_bytes()


def earlier_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's folder."""
    if not folder.is_dir():
        return []
    checkpoints = [
        path for path in folder.iterdir() if OWN_NAMES.fullmatch(path.name) and is_checkpoint(path)
    ]
    return sorted(checkpoints, key=lambda path: (len(path.name), path.name))
