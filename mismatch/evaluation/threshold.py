"""Choose the score from which a pair counts as a match."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.specs import Threshold

__all__ = ["OBJECTIVES", "choose_threshold"]

OBJECTIVES = ("accuracy", "f1", "balanced-accuracy")  # f1: of the matches


def choose_threshold(labels: ArrayLike, scores: ArrayLike, objective: str = "accuracy") -> Threshold:
    """(N,) labels, (N,) scores → the threshold that maximises the objective; midway between neighbouring scores, in the widest gap among equals.

    InputError for an unknown objective, or unless both labels occur.
    """
    truth, values = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    if objective not in OBJECTIVES:
        raise InputError(f"objective {objective!r} is unknown; one of {', '.join(OBJECTIVES)} is needed")
    if not positives or not negatives:
        raise InputError(f"a threshold needs both matches and mismatches; there are {positives} and {negatives}")
    distinct, inverse = np.unique(values, return_inverse=True)  # (K,) ascending
    hits = positives - np.cumsum(np.bincount(inverse, weights=truth, minlength=len(distinct)))  # matches above distinct[k]
    alarms = negatives - np.cumsum(np.bincount(inverse, weights=1 - truth, minlength=len(distinct)))  # mismatches above it
    hits, alarms = np.append(positives, hits), np.append(negatives, alarms)  # (K + 1,): cut k lies below distinct[k]
    worth = _worth(objective, hits, alarms, positives, negatives)
    edges = np.concatenate([[distinct[0]], (distinct[:-1] + distinct[1:]) / 2, [np.nextafter(distinct[-1], np.inf)]])
    gaps = np.concatenate([[0.0], np.diff(distinct), [0.0]])
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    chosen = best[np.argmax(gaps[best])]
    return Threshold(float(edges[chosen]), objective, len(truth), datetime.now(UTC).isoformat(timespec="seconds"))


def _worth(objective: str, hits: NDArray[np.float64], alarms: NDArray[np.float64], positives: int, negatives: int) -> NDArray[np.float64]:
    """(K + 1,) true and false matches at each cut → (K + 1,) objective."""
    rejected = negatives - alarms
    if objective == "accuracy":
        return (hits + rejected) / (positives + negatives)
    if objective == "f1":
        return 2 * hits / (hits + alarms + positives)
    return (hits / positives + rejected / negatives) / 2
