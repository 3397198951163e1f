"""Choose the score from which a pair counts as a match."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.evaluation.metrics import checked
from mismatch.specs import Threshold

__all__ = ["OBJECTIVES", "choose_threshold"]

OBJECTIVES = ("accuracy", "f1", "balanced-accuracy")  # f1 is that of the matches (label 1)


def choose_threshold(labels: ArrayLike, scores: ArrayLike, objective: str = "accuracy") -> Threshold:
    """(N,) labels, (N,) scores → the threshold that maximises the objective; midway between neighbouring scores, in the widest gap among equals.

    InputError for an unknown objective, or unless both labels occur.
    """
    truth, values = checked(labels, scores)
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    if objective not in OBJECTIVES:
        raise InputError(f"objective {objective!r} is unknown; one of {', '.join(OBJECTIVES)} is needed")
    if not positives or not negatives:
        raise InputError(f"a threshold needs both matches and mismatches; there are {positives} and {negatives}")
    distinct, inverse = np.unique(values, return_inverse=True)  # (K,) ascending
    hits = positives - np.cumsum(np.bincount(inverse[truth == 1], minlength=len(distinct)))  # matches above distinct[k]
    alarms = negatives - np.cumsum(np.bincount(inverse[truth == 0], minlength=len(distinct)))  # mismatches above it
    hits, alarms = np.insert(hits, 0, positives), np.insert(alarms, 0, negatives)  # (K + 1,): cut k lies below distinct[k]
    worth = _worth(objective, hits, alarms, positives, negatives)
    edges = np.concatenate([distinct[:1], _between(distinct[:-1], distinct[1:]), [np.nextafter(distinct[-1], np.inf)]])
    gaps = np.concatenate([[0.0], np.diff(distinct), [0.0]])
    best = np.flatnonzero(worth >= worth.max() - 1e-12)
    chosen = best[np.argmax(gaps[best])]
    return Threshold(float(edges[chosen]), objective, len(truth), datetime.now(UTC).isoformat(timespec="seconds"))


def _between(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Midway, and above `lower` even where no number lies between the two."""
    middle = lower + (upper - lower) / 2
    return np.where(middle > lower, middle, upper)


def _worth(objective: str, hits: NDArray[np.intp], alarms: NDArray[np.intp], positives: int, negatives: int) -> NDArray[np.float64]:
    """(K + 1,) true and false matches at each cut → (K + 1,) objective."""
    rejected = negatives - alarms
    if objective == "accuracy":
        return (hits + rejected) / (positives + negatives)
    if objective == "f1":
        return 2 * hits / (hits + alarms + positives)
    return (hits / positives + rejected / negatives) / 2
