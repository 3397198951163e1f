"""Intervals of figures: Wilson's for a share, and bootstrap intervals of all figures at once. Rows
are counted per distinct score, so that a resample costs no sorting.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, percentiles, resamples_of
from mismatch.evaluation.metrics import BINS, checked, count_metrics

__all__ = ["metric_intervals", "wilson_interval"]

# rows over all resamples; with more rows there are fewer resamples, at least `FEWEST`
MAX_DRAWS = 100_000_000
FEWEST = 200


def metric_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Map the figures of `binary_metrics` → their intervals over resampled rows, or over `groups`
    (N,) of rows, such as those of one image.

    `threshold`: one, or (N,), each row's own. An interval is nan where fewer than half of the
    resamples have the figure.
    """
    truth, values = checked(labels, scores)
    resampled = _Resampled(truth, values, values >= np.asarray(threshold))
    count = max(FEWEST, min(resamples, MAX_DRAWS // len(truth)))
    drawn = [
        resampled.figures(rows)
        for rows in resamples_of(len(truth), resamples=count, seed=seed, groups=groups)
    ]
    # (B,) each
    figures = {
        name: np.array([resample[name] for resample in drawn], np.float64) for name in drawn[0]
    }
    whole = resampled.figures(np.arange(len(truth)))
    return {name: percentiles(values, level, value=whole[name]) for name, values in figures.items()}


def wilson_interval(share: float, trials: int, deviations: float) -> Interval:
    """Return the interval of a share (Wilson, 1927), which unlike a bootstrap's has a width where
    all trials went one way; nan without trials.

    `deviations`: standard ones, 1.96 for 95 %, 1.645 for 90 %.
    """
    if not trials:
        return Interval(float("nan"), float("nan"))
    square = deviations**2
    widened = 1 + square / trials
    middle = (share + square / (2 * trials)) / widened
    variance = share * (1 - share) / trials + square / (4 * trials**2)
    half = deviations * variance**0.5 / widened
    # with the share itself: where all trials went one way, rounding may leave it out
    return Interval(max(0.0, middle - half), min(1.0, middle + half)).with_value(share)


class _Resampled:
    """Rows that are drawn again and again."""

    def __init__(
        self, truth: NDArray[np.int64], values: NDArray[np.float64], decisions: NDArray[np.bool_]
    ) -> None:
        distinct, place = np.unique(values, return_inverse=True)  # ascending
        self.size = len(distinct)
        self.cell = 2 * place + truth  # (N,) of each distinct score's mismatches and matches
        self.decided = 2 * truth + decisions
        self.truth = truth
        self.values = values
        self.probable = bool(values.min() >= 0 and values.max() <= 1)
        clipped = values.clip(1e-15, 1 - 1e-15) if self.probable else values
        self.losses = (
            -np.where(truth == 1, np.log(clipped), np.log1p(-clipped)) if self.probable else values
        )
        self.bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)

    def figures(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """Map (M,) numbers of rows → their figures."""
        (tn, fp), (fn, tp) = np.bincount(self.decided[rows], minlength=4).reshape(2, 2).tolist()
        # (K,) each
        negatives, positives = (
            np.bincount(self.cell[rows], minlength=2 * self.size).reshape(-1, 2).T
        )
        counted: dict[str, Any] = count_metrics(tn, fp, fn, tp)
        return {**counted, **_ranking(negatives, positives), **self._probabilities(rows)}

    def _probabilities(self, rows: NDArray[np.int64]) -> dict[str, float]:
        if not self.probable:
            return dict.fromkeys(("log_loss", "brier", "ece"), float("nan"))
        values = self.values[rows]
        truth = self.truth[rows]
        off = np.bincount(self.bins[rows], weights=values - truth, minlength=BINS)
        return {
            "log_loss": float(self.losses[rows].mean()),
            "brier": float(((values - truth) ** 2).mean()),
            "ece": float(np.abs(off).sum() / len(rows)),
        }


def _ranking(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> dict[str, float]:
    """Map (K,) counts by ascending score → AUROC and average precision."""
    total = int(positives.sum())
    others = int(negatives.sum())
    if not total:
        return {"auroc": float("nan"), "average_precision": float("nan")}
    below = np.cumsum(negatives) - negatives / 2  # (K,) mismatches below a match, ties by half
    auroc = float((positives * below).sum() / (total * others)) if others else float("nan")
    hits = np.cumsum(positives[::-1])
    precision = hits / np.maximum(hits + np.cumsum(negatives[::-1]), 1)
    return {"auroc": auroc, "average_precision": float((positives[::-1] * precision).sum() / total)}
