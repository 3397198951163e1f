"""What a job writes, kept from other writers while it runs."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

from mismatch.io.locks import locked
from mismatch.runtime.score_file import score_file

__all__ = ["lock_file", "lock_folder", "lock_score"]


def lock_file(path: str | Path) -> AbstractContextManager[None]:
    """Let no other job write this file until the block ends; see `locked`."""
    return locked(path)


def lock_folder(
    path: str | Path, *, inside: re.Pattern[str] | None = None
) -> AbstractContextManager[None]:
    """Let no other job write this folder until the block ends.

    What a killed writer has left of files `inside` under temporary names is removed.
    """
    return locked(path, parents=True, inside=inside)


def lock_score(model: str | Path) -> AbstractContextManager[None]:
    """Let no other job write this model's calibration and thresholds until the block ends.

    CheckpointError for what can't store them.
    """
    return locked(model, inside=re.compile(re.escape(score_file(model).name)))
