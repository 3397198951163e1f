"""Warnings in words, each once a run: labels out of balance, a rate that rarely works, scores on
one side, and learning by heart.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mismatch.data.audit.files import balance_advice
from mismatch.training.callbacks import WarningKind, warn
from mismatch.training.config import TrainConfig
from mismatch.training.folder.history import History

__all__ = ["Adviser", "warn_of_balance", "warn_of_rate"]

RISE = 1.02  # times its best that the validation loss has to reach; less is chance
# epochs that the validation loss stays above its best one before that is called overfitting
PATIENCE = 3
RATES = (1e-6, 1e-4)  # of a pretrained backbone


def warn_of_balance(labels: NDArray[np.float32]) -> None:
    """Say so where one label has less than a fifth of the training rows, (N,)."""
    for line in balance_advice(Counter(int(label) for label in labels)):
        warn("balance", f"training: {line}")


def warn_of_rate(config: TrainConfig) -> None:
    """Say so where everything is trained at a rate outside 1e-6..1e-4."""
    rate = config.value("learning_rate")
    low, high = RATES
    if config.tune != "full" or low <= rate <= high:
        return
    why = (
        f"below {low:.0e}: a backbone hardly moves"
        if rate < low
        else f"above {high:.0e}: a pretrained backbone tends to break, random weights may need it"
    )
    warn(
        "learning_rate",
        f"`learning_rate` {rate:g} is {why}; 1e-5 to 5e-5 is a good start for a pretrained one",
    )


class Adviser:
    """Looks at each epoch's figures and warns of what goes wrong, once for each kind."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.epochs = int(config.value("epochs"))
        self.warned: set[WarningKind] = set()

    def look(self, history: History) -> None:
        """Warn, once of each, of what the figures show after an epoch."""
        findings: dict[WarningKind, str | None] = {
            "one_side": self._one_side(history),
            "overfitting": self._overfitting(history),
        }
        for kind, line in findings.items():
            if line and kind not in self.warned:
                self.warned.add(kind)
                warn(kind, line)

    def _one_side(self, history: History) -> str | None:
        """Return a warning after two such epochs in a row or at the end: the first epoch of a long
        run may well begin so.
        """
        matrices = history.lists["confusion_matrices"]
        last = [_side(matrix) for matrix in matrices[-2:]]
        if (
            not last
            or last[-1] is None
            or (len(matrices) < self.epochs and (len(last) < 2 or last[0] != last[1]))
        ):
            return None
        side, decision = ("below", "a mismatch") if last[-1] == 0 else ("at or above", "a match")
        return (
            f"every validation score is {side} 0.5 after epoch {len(matrices)}, so at 0.5 every row"
            f" would be called {decision}; the threshold that is stored makes up for it if AUROC is"
            " well above 0.5, else train longer, change the learning rate, or balance the labels"
        )

    def _overfitting(self, history: History) -> str | None:
        val = history.lists["val_losses"]
        train = history.lists["train_losses"]
        if not val:
            return None
        best = int(np.argmin(val))  # the epoch's number less one
        since = len(val) - 1 - best
        if since < PATIENCE or train[-1] >= min(train[: best + 1]) or val[-1] < RISE * val[best]:
            return None
        stop = "" if self.config.early_stopping is not None else f"`early_stopping={PATIENCE}` or "
        return (
            f"validation loss was best at epoch {best + 1} ({val[best]:.4f}) and has risen to"
            f" {val[-1]:.4f}, while training loss fell from {train[best]:.4f} to {train[-1]:.4f}:"
            f" the rows are being learnt by heart (overfitting); {stop}`epochs={best + 1}` stops in"
            " time, more rows help"
        )


def _side(matrix: list[list[int]]) -> int | None:
    """Return the label, 0 or 1, that all rows are called where both labels occur, else None.
    `matrix`: [[true mismatch, false match], [false mismatch, true match]].
    """
    (tn, fp), (fn, tp) = matrix
    if not tn + fp or not fn + tp:
        return None
    if not fp + tp:
        return 0
    return 1 if not tn + fn else None
