"""What a command writes, held against other writers until it is through."""

from __future__ import annotations

import re
from pathlib import Path

import click

from mismatch.io.locks import locked

__all__ = ["hold", "hold_score"]


def hold(path: str | Path, *, folder: bool = False, inside: re.Pattern[str] | None = None) -> None:
    """Let no other command write this file, or this `folder`, until the running one is through; see
    `locked`.
    """
    click.get_current_context().with_resource(locked(path, parents=folder, inside=inside))


def hold_score(model: str) -> None:
    """Let no other command write this model's calibration and thresholds; CheckpointError for what
    can't store them.
    """
    from mismatch.runtime.score_file import score_file

    hold(model, inside=re.compile(re.escape(score_file(model).name)))
