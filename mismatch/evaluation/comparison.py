"""Two models on the same rows: whether the difference between them is more than chance."""

from __future__ import annotations

from math import comb, erfc, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, percentiles, resamples_of
from mismatch.evaluation.metrics import auroc, checked

__all__ = ["Comparison", "DeLong", "McNemar", "compare", "delong", "mcnemar"]

# rows that only one model has right; beyond, the normal limit is as good and does not overflow
MAX_EXACT_PAIRS = 1000


class McNemar(NamedTuple):
    """Rows that only one of two models has right, and how likely so uneven a division
    is by chance.
    """

    only_first: int
    only_second: int
    p_value: float


class DeLong(NamedTuple):
    """The AUROCs of two models and how likely so large a difference is by chance."""

    first: float
    second: float
    p_value: float  # nan with one class, or where the two rank all rows alike


class Comparison(NamedTuple):
    """What is said of two models; a difference is the first model's figure less the second's."""

    decisions: McNemar
    ranking: DeLong
    accuracy: float
    accuracy_interval: Interval
    auroc: float
    auroc_interval: Interval


def compare(  # noqa: PLR0913
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    first_threshold: ArrayLike,
    second_threshold: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Map (N,) labels, (N,) scores of either, thresholds, one or (N,) → tests and paired bootstrap
    intervals, which keep `groups` (N,), the images, together.

    The two tests take rows for independent; where images repeat, trust the intervals more.
    """
    truth, first_scores = checked(labels, first)
    _, second_scores = checked(labels, second)
    right = (first_scores >= np.asarray(first_threshold)) == truth
    also = (second_scores >= np.asarray(second_threshold)) == truth
    gain = right.astype(np.float64) - also
    accuracies = []
    areas = []
    for rows in resamples_of(len(truth), resamples=resamples, seed=seed, groups=groups):
        accuracies.append(gain[rows].mean())
        areas.append(
            auroc(truth[rows], first_scores[rows]) - auroc(truth[rows], second_scores[rows])
        )
    ranking = delong(truth, first_scores, second_scores)
    gains = (float(gain.mean()), ranking.first - ranking.second)
    intervals = [
        percentiles(np.array(values), level, value=value)
        for values, value in zip((accuracies, areas), gains, strict=True)
    ]
    tested = mcnemar(int((right & ~also).sum()), int((~right & also).sum()))
    return Comparison(
        tested,
        ranking,
        gains[0],
        intervals[0],
        gains[1],
        intervals[1],
    )


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Run McNemar's test (1947), two-sided and exact: the binomial distribution, or above a
    thousand rows its normal limit with continuity correction.
    """
    rows = only_first + only_second
    if rows > MAX_EXACT_PAIRS:
        p_value = erfc(max(0.0, abs(only_first - only_second) - 1) / sqrt(rows) / sqrt(2))
    else:
        tail = sum(comb(rows, k) for k in range(min(only_first, only_second) + 1))
        p_value = min(1.0, 2 * tail / 2**rows)
    return McNemar(only_first, only_second, p_value)


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLong:
    """Run the test of DeLong, DeLong and Clarke-Pearson (1988) for two AUROCs of the same rows, by
    ranks as in Sun and Xu (2014).
    """
    truth, first_scores = checked(labels, first)
    _, second_scores = checked(labels, second)
    areas = auroc(truth, first_scores), auroc(truth, second_scores)
    if min((truth == 1).sum(), (truth == 0).sum()) < 2:
        return DeLong(*areas, float("nan"))
    parts = [_components(truth, scores) for scores in (first_scores, second_scores)]
    variance = sum(float(np.var(a - b, ddof=1)) / len(a) for a, b in zip(*parts, strict=True))
    if variance <= 0:
        return DeLong(*areas, 1.0 if areas[0] == areas[1] else float("nan"))
    return DeLong(*areas, erfc(abs(areas[0] - areas[1]) / sqrt(variance) / sqrt(2)))


def _components(
    truth: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return of each match the share of mismatches below it, of each mismatch the share of matches
    above it.
    """
    matches = scores[truth == 1]
    mismatches = scores[truth == 0]
    below = (_midranks(scores)[truth == 1] - _midranks(matches)) / len(mismatches)
    above = 1 - (_midranks(scores)[truth == 0] - _midranks(mismatches)) / len(matches)
    return below, above


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,) ranks from 1, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
