"""Figures where mismatches are rarer, or more common, than among the rows: rows of either label are
weighed so that a given share of them are mismatches.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, percentiles, resamples_of
from mismatch.evaluation.intervals import wilson_interval
from mismatch.evaluation.metrics import checked, confusion_matrix
from mismatch.evaluation.objectives import FIGURES, CutCounts

__all__ = ["figures_at_prevalence", "independent", "with_rare_alarms"]


def figures_at_prevalence(
    labels: ArrayLike,
    decisions: ArrayLike,
    prevalence: float,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, tuple[float, Interval]]:
    """Map (N,) labels, (N,) decisions → each of FIGURES and its interval, on rows of which this
    share are mismatches. `groups` (N,): rows of one group, such as an image, are drawn together.
    """
    truth, decided = checked(labels, decisions)
    called_match = decided.astype(np.int64)
    counts = _counts(truth, called_match)
    drawn = [
        _counts(truth[rows], called_match[rows]).at_prevalence(prevalence)
        for rows in resamples_of(len(truth), resamples=RESAMPLES, seed=seed, groups=groups)
    ]
    values = {
        name: float(of_counts(counts.at_prevalence(prevalence))[0])
        for name, of_counts in FIGURES.items()
    }
    intervals = {
        name: percentiles(
            np.array([of_counts(resample)[0] for resample in drawn]), value=values[name]
        )
        for name, of_counts in FIGURES.items()
    }
    widened = with_rare_alarms(intervals, counts, prevalence, independent(truth, groups))
    return {name: (values[name], widened[name]) for name in FIGURES}


def independent(truth: NDArray[np.int64], groups: ArrayLike | None) -> int:
    """Return how many different groups, such as images, the matches have; without groups, how many
    matches there are.
    """
    matches = truth == 1
    return int(matches.sum()) if groups is None else len(np.unique(np.asarray(groups)[matches]))


def with_rare_alarms(
    intervals: Mapping[str, Interval],
    counts: CutCounts,
    prevalence: float,
    trials: int,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Widen the intervals of precision and alarms by what the few false alarms leave open.

    None among 500 matches may be one in 140 of all of them, and where mismatches are rare that
    decides. A bootstrap does not see it; Wilson's interval does. `counts` (1,) of the rows as they
    are; `trials`: the independent matches.
    """
    rate = 1 - float(counts.recall("match")[0])
    deviations = NormalDist().inv_cdf((1 + level) / 2)
    highest = wilson_interval(rate, trials, deviations).high
    right = prevalence * float(counts.recall("mismatch")[0])
    false = (1 - prevalence) * highest
    widened = dict(intervals)
    widened["alarm_rate"] = widened["alarm_rate"].with_value(right + false)
    if right + false > 0:
        precision = right / (right + false)
        widened["mismatch_precision"] = widened["mismatch_precision"].with_value(precision)
    return widened


def _counts(truth: NDArray[np.int64], called_match: NDArray[np.int64]) -> CutCounts:
    """Return the counts of decisions, (1,) each."""
    (tn, fp), (fn, tp) = confusion_matrix(truth, called_match).astype(np.float64)[..., None]
    return CutCounts(true_match=tp, false_match=fp, false_mismatch=fn, true_mismatch=tn)
