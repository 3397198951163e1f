"""The review band: scores on both sides of the threshold that a person should look at. Outside of
it decisions are wrong seldom enough to be made without one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, percentiles, resamples_of
from mismatch.evaluation.metrics import checked
from mismatch.evaluation.objectives import CutCounts
from mismatch.evaluation.threshold import Cuts
from mismatch.specs import ReviewBand

__all__ = ["Coverage", "choose_band", "coverage"]

Floats = NDArray[np.float64]


class Coverage(NamedTuple):
    """What a band leaves to the model, and how often that is wrong."""

    automatic: float  # share of the rows outside the band, 0..1
    risk: float  # share of errors among these, 0..1; nan where there are none
    automatic_interval: Interval
    risk_interval: Interval


def choose_band(
    labels: ArrayLike,
    scores: ArrayLike,
    max_risk: float,
    threshold: float,
    *,
    prevalence: float | None = None,
) -> ReviewBand:
    """Choose the narrowest band around the threshold. Of the rows below it at most `max_risk`,
    0..0.5, are matches, and of those from its end on at most as many mismatches; of rows weighed so
    that `prevalence` of them are mismatches.

    Empty, low = high, where the threshold alone is as good. InputError for a risk that no side
    reaches, so that everything would be reviewed.
    """
    if not 0 < max_risk < 0.5:
        raise InputError(
            f"a risk of {max_risk} is asked for; a share above 0 and below 0.5 is needed",
            option="max_risk",
        )
    cuts = Cuts(labels, scores)
    edges = _edges(cuts, threshold)  # (E,)
    counts = cuts.counts(edges).at_prevalence(prevalence)
    low = edges[np.flatnonzero(_keeps_below(counts, max_risk) & (edges <= threshold))[-1]]
    high = edges[np.flatnonzero(_keeps_above(counts, max_risk) & (edges >= threshold))[0]]
    if low <= cuts.distinct[0] and high > cuts.distinct[-1]:
        raise InputError(
            f"no score on either side of the threshold {threshold:.4f} is so sure that at most"
            f" {max_risk:g} of the decisions are wrong; every row would be reviewed"
        )
    return ReviewBand(float(low), float(high), len(cuts.truth), max_risk)


def _edges(cuts: Cuts, threshold: float) -> Floats:
    """Return where a band may begin or end: the threshold itself, below all scores, between
    neighbouring ones, above all; (E,) ascending.
    """
    middle = (cuts.distinct[1:] + cuts.distinct[:-1]) / 2
    above = np.nextafter(cuts.distinct[-1], np.inf)
    return np.unique(np.concatenate([cuts.distinct[:1], middle, [above, threshold]]))


def _keeps_below(counts: CutCounts, max_risk: float) -> NDArray[np.bool_]:
    """Return at which cuts at most this share of the rows below are matches. (E,)."""
    below = counts.false_mismatch + counts.true_mismatch
    return np.asarray((below == 0) | (counts.false_mismatch <= max_risk * below))


def _keeps_above(counts: CutCounts, max_risk: float) -> NDArray[np.bool_]:
    """Return at which cuts at most this share of the rows from there on are mismatches. (E,)."""
    above = counts.true_match + counts.false_match
    return np.asarray((above == 0) | (counts.false_match <= max_risk * above))


def coverage(  # noqa: PLR0913
    labels: ArrayLike,
    scores: ArrayLike,
    band: ReviewBand,
    threshold: ArrayLike,
    *,
    prevalence: float | None = None,
    groups: ArrayLike | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Coverage:
    """Return what a band leaves to the model, whose decision is score >= `threshold`: one, or (N,),
    each row's own.

    On the rows (N,) that chose the band it flatters, by about one part in the number of rows next
    to its ends.
    """
    truth, values = checked(labels, scores)
    sure = (values < band.low) | (values >= band.high)
    wrong = sure & ((values >= np.asarray(threshold)) != (truth == 1))
    outcome = 3 * truth + sure + wrong  # (N,) 0, 1, 2 of mismatches, 3, 4, 5 of matches
    parts = [
        _shares(np.bincount(outcome[rows], minlength=6), prevalence)
        for rows in resamples_of(len(truth), resamples=resamples, seed=seed, groups=groups)
    ]
    drawn = np.array(parts)  # (B, 2)
    automatic, risk = _shares(np.bincount(outcome, minlength=6), prevalence)
    intervals = [
        percentiles(drawn[:, column], level, value=value)
        for column, value in enumerate((automatic, risk))
    ]
    return Coverage(automatic, risk, *intervals)


def _shares(outcomes: NDArray[np.int64], prevalence: float | None) -> tuple[float, float]:
    """Map (6,) counts: mismatches in the band, decided rightly and wrongly, then so the matches →
    the share of rows that are decided, and that of errors among them.
    """
    counts = outcomes.reshape(2, 3).astype(np.float64)
    if prevalence is not None and counts.any(axis=1).all():
        counts *= np.array([[prevalence], [1 - prevalence]]) / counts.sum(axis=1, keepdims=True)
    in_band, right, wrong = counts.sum(axis=0).tolist()
    decided = right + wrong
    return decided / (in_band + decided), wrong / decided if decided else float("nan")
