"""Show what happens within an epoch: loss, rate and time left next to the bar, now and then a
step's figures for the trackers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mismatch.training.optim import rate_of
from mismatch.training.tracking import Trackers

__all__ = ["Watch", "duration"]

LOGGED = 20  # steps of an epoch that trackers receive


class Watch:
    """Follows the steps of a run; reads the loss off its device only when somebody looks."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        trackers: Trackers,
        steps_per_epoch: int,
        epochs: int,
    ) -> None:
        self.optimizer = optimizer
        self.trackers = trackers
        self.every = math.ceil(steps_per_epoch / LOGGED)
        self.steps = steps_per_epoch * epochs
        # when, and at which step, this process began to train
        self.began: tuple[float, int] | None = None
        self.before: tuple[Tensor, int] | None = None  # sums and rows of the last log

    def after(self, step: int, sums: Tensor, rows: int) -> Callable[[], str]:
        """Take note of a step; `step` counts from the run's first and from 1. `sums`: (2,) of the
        binary and the contrastive loss over the epoch's `rows` so far. Return what writes the note
        for the bar, for as long as no further step is made.
        """
        if self.began is None:
            self.began = time.perf_counter(), step
        if self.trackers.open and step % self.every == 0:
            self._log(step, sums, rows)
        return lambda: (
            f"loss {float(sums[0]) / rows:.4f}, rate {self._rate():.1e}{self._left(step)}"
        )

    def _log(self, step: int, sums: Tensor, rows: int) -> None:
        """Log the mean losses since the last log, and the rates."""
        # an epoch starts at 0 again
        before = (
            self.before
            if self.before is not None and self.before[1] < rows
            else (torch.zeros_like(sums), 0)
        )
        binary, contrastive = ((sums - before[0]) / (rows - before[1])).tolist()
        self.before = sums.clone(), rows
        rates = {f"rate/{part}": rate_of(self.optimizer, part) for part in ("backbone", "head")}
        self.trackers.log(
            {"step/loss": binary, "step/contrastive_loss": contrastive, **rates}, step
        )

    def _rate(self) -> float:
        return rate_of(self.optimizer, "backbone") or rate_of(self.optimizer, "head")

    def _left(self, step: int) -> str:
        """Return `, 3:20 left in all`: validation and saving are in it, as the time that went by
        has them; nothing before the second step.
        """
        if self.began is None or step <= self.began[1]:
            return ""
        since, first = self.began
        return (
            f", {duration((time.perf_counter() - since) / (step - first) * (self.steps - step))}"
            " left in all"
        )


def duration(seconds: float) -> str:
    """Return a duration as 0:07, 12:31, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
