"""Curves over all thresholds: ROC, precision and recall, the sweep behind a slider, and histograms
of scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.evaluation.metrics import checked

__all__ = ["histogram", "precision_recall_curve", "roc_curve", "sweep"]

POINTS = 500  # of a curve, at most
Floats = NDArray[np.float64]


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """Return (K, 2): share of mismatches taken for matches, share of matches found, from (0, 0) to
    (1, 1); empty with one class.
    """
    _, (negatives, positives) = _passed(labels, scores)
    if not negatives[-1] or not positives[-1]:
        return np.empty((0, 2))
    return _thinned(np.stack([negatives / negatives[-1], positives / positives[-1]], axis=1))


def precision_recall_curve(labels: ArrayLike, scores: ArrayLike, *, of: int = 1) -> Floats:
    """Return (K, 2): recall and precision of the matches, or `of` = 0 of the mismatches, as more
    and more rows are decided that way. Empty where there are none.
    """
    truth, values = checked(labels, scores)
    _, (others, hits) = _passed(truth if of else 1 - truth, values if of else -values)
    if not hits[-1]:
        return np.empty((0, 2))
    return _thinned(np.stack([hits[1:] / hits[-1], hits[1:] / (hits[1:] + others[1:])], axis=1))


def sweep(labels: ArrayLike, scores: ArrayLike, always: ArrayLike = ()) -> dict[str, list[Any]]:
    """Return thresholds, ascending, and the counts of each: `threshold`, `tn`, `fp`, `fn`, `tp` of
    decisions score >= threshold.

    They lie midway between neighbouring scores, at most five hundred of them, with those of
    `always` (A,) among them.
    """
    truth, values = checked(labels, scores)
    distinct = np.unique(values)
    middle = (distinct[1:] + distinct[:-1]) / 2
    cuts = np.concatenate(
        [
            distinct[:1],
            _thinned(middle),
            [np.nextafter(distinct[-1], np.inf)],
            np.asarray(always, np.float64),
        ]
    )
    cuts = np.unique(cuts)
    tn, fn = (
        np.searchsorted(np.sort(values[truth == label]), cuts, side="left") for label in (0, 1)
    )
    matches = int(truth.sum())
    return {
        "threshold": cuts.tolist(),
        "tn": tn.tolist(),
        "fp": (len(truth) - matches - tn).tolist(),
        "fn": fn.tolist(),
        "tp": (matches - fn).tolist(),
    }


def histogram(
    labels: ArrayLike, scores: ArrayLike, bins: int = 40
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return (bins + 1,) edges, and (bins,) counts of the mismatches and of the matches; over 0..1
    where scores are probabilities.
    """
    truth, values = checked(labels, scores)
    span = (
        (0.0, 1.0)
        if values.min() >= 0 and values.max() <= 1
        else (float(values.min()), float(values.max()) or 1.0)
    )
    edges = np.histogram_bin_edges(values, bins, span)
    mismatches, matches = (np.histogram(values[truth == label], edges)[0] for label in (0, 1))
    return edges, mismatches, matches


def _passed(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[Floats, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return distinct scores, descending (K,), and how many rows of either label are at or above
    each, (K + 1,) from 0 on.
    """
    truth, values = checked(labels, scores)
    distinct, place = np.unique(-values, return_inverse=True)
    counts = np.bincount(2 * place + truth, minlength=2 * len(distinct)).reshape(-1, 2)
    summed = np.concatenate([[[0, 0]], np.cumsum(counts, axis=0)])  # (K + 1, 2)
    return -distinct, (summed[:, 0], summed[:, 1])


def _thinned(points: Floats) -> Floats:
    """Keep at most `POINTS`, the first and the last among them."""
    return (
        points
        if len(points) <= POINTS
        else points[np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(np.int64))]
    )
