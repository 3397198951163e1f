"""The pile for people: scores between two thresholds, outside of which decisions are wrong seldom
enough to be made without them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, percentiles, resamples_of
from mismatch.evaluation.metrics import checked
from mismatch.evaluation.threshold import Cuts
from mismatch.specs import ReviewBand

__all__ = ["Coverage", "choose_band", "coverage"]


class Coverage(NamedTuple):
    """What a band leaves to the machine."""

    automatic: float  # share of the rows outside the band, 0..1
    risk: float  # share of errors among these; nan where there are none
    automatic_interval: Interval
    risk_interval: Interval


def choose_band(labels: ArrayLike, scores: ArrayLike, max_risk: float) -> ReviewBand:
    """The narrowest band below which at most `max_risk` of the rows are matches, and from whose end
    on at most as many are mismatches; 0..1.

    Empty, low = high, where one threshold alone is as good. InputError for a risk that no side
    reaches, so that everything would be reviewed.
    """
    if not 0 < max_risk < 0.5:
        raise InputError(
            f"a risk of {max_risk} is asked for; a share above 0 and below 0.5 is needed"
        )
    cuts = Cuts(labels, scores)
    # (K + 1,)
    edges = np.concatenate(
        [
            cuts.distinct[:1],
            (cuts.distinct[1:] + cuts.distinct[:-1]) / 2,
            [np.nextafter(cuts.distinct[-1], np.inf)],
        ]
    )
    counts = cuts.counts(edges)
    below = counts.false_mismatch + counts.true_mismatch
    above = counts.true_match + counts.false_match
    low = edges[np.flatnonzero((below == 0) | (counts.false_mismatch <= max_risk * below))[-1]]
    high = edges[np.flatnonzero((above == 0) | (counts.false_match <= max_risk * above))[0]]
    if low <= edges[0] and high >= edges[-1]:
        raise InputError(
            f"no score is so sure that at most {max_risk:g} of the decisions are wrong; every row"
            " would be reviewed"
        )
    if low > high:  # one threshold between the two keeps both sides
        low = high = (low + high) / 2
    return ReviewBand(float(low), float(high), len(cuts.truth), max_risk)


def coverage(
    labels: ArrayLike,
    scores: ArrayLike,
    band: ReviewBand,
    *,
    groups: ArrayLike | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Coverage:
    """Of rows (N,) on which the band was not chosen, or was: then it flatters, by about one part in
    the number of rows beside its ends.
    """
    truth, values = checked(labels, scores)
    sure = (values < band.low) | (values >= band.high)
    wrong = sure & ((values >= band.high) != (truth == 1))
    # (B, 2)
    parts = np.array(
        [
            _parts(sure[rows], wrong[rows])
            for rows in resamples_of(len(truth), resamples=resamples, seed=seed, groups=groups)
        ]
    )
    automatic, risk = _parts(sure, wrong)
    return Coverage(
        automatic, risk, percentiles(parts[:, 0], level), percentiles(parts[:, 1], level)
    )


def _parts(sure: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> tuple[float, float]:
    return float(sure.mean()), float(wrong.sum() / sure.sum()) if sure.any() else float("nan")
