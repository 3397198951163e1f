"""What a run says of itself, for people: its first line, and its last where it is interrupted."""

from __future__ import annotations

from mismatch.training.callbacks import RunInfo
from mismatch.training.feeds.batches import PairSet
from mismatch.training.feeds.prepare import Start
from mismatch.training.folder.output import RunFolder
from mismatch.training.folder.state import Position
from mismatch.training.step import Step

__all__ = ["interruption_line", "start_line", "step_size"]


def start_line(run: RunInfo, start: Start, pairs: PairSet, step: Step) -> str:
    """Return what a run says first: its rows, what it starts from, and how much there is to do."""
    rows = f"{len(pairs):,} rows ({len(pairs.images):,} images, {len(pairs.texts):,} texts)"
    origin = f"{start.family}:{start.model_id}"
    if start.checkpoint:
        origin += f", from {start.checkpoint}"
    head = step.objective.head.spec.kind
    work = (
        f"`tune='{run.config.tune}'` on {run.device} in {run.precision}, {run.epochs} epochs"
        f" of {run.steps_per_epoch} steps of {step_size(step)}"
    )
    return f"training on {rows}; {origin}, {head} head; {work}"


def step_size(step: Step) -> str:
    """Return `32 rows`, or `64 rows (8 at once x 4 accumulated x 2 processes)`."""
    factors = [f"{step.rows_at_once} at once"]
    if step.parts > 1:
        factors.append(f"{step.parts} accumulated")
    if step.processes.count > 1:
        factors.append(f"{step.processes.count} processes")
    if len(factors) == 1:
        return f"{step.rows} rows"
    return f"{step.rows} rows ({' x '.join(factors)})"


def interruption_line(position: Position, steps_per_epoch: int, folder: RunFolder) -> str:
    """Return what an interrupted run says last: how far it is, what is written, how it goes on."""
    if position.step:
        steps = f"{position.step:,} of {steps_per_epoch:,} steps"
        when = f"in epoch {position.epoch} after {steps}"
    elif position.epoch > 1:
        when = f"after epoch {position.epoch - 1}"
    else:
        when = "before the first step"
    line = f"interrupted {when}: {folder.contents()}"
    if folder.holds_this_run:
        line += "; the same command with `resume` goes on from there"
    return line
