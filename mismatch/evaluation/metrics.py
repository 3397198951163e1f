"""How good scores are: counts at a threshold, and the ranking itself. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError

__all__ = [
    "auroc",
    "average_precision",
    "binary_metrics",
    "brier_score",
    "checked",
    "confusion_matrix",
    "count_metrics",
    "expected_calibration_error",
    "log_loss",
    "matthews",
    "reliability",
]

BINS = 15  # of equal width, as in Guo et al. (2017)


def binary_metrics(labels: ArrayLike, scores: ArrayLike, threshold: ArrayLike) -> dict[str, Any]:
    """Map (N,) labels 0 or 1, (N,) scores → the figures of both labels. They are accuracy, and
    precision, recall and F1 of the matches and of the mismatches. Then follow AUROC, average
    precision, log-loss, Brier score, expected calibration error and Matthews correlation.

    Those of the matches (label 1) have plain names, those of the mismatches begin with `mismatch_`.
    A pair is a match where score >= threshold, which is one, or (N,), each row's own. A ranking
    figure that does not exist (AUROC with one class) is nan; a precision, recall or F1 without any
    case is 0. The confusion matrix is [[true mismatch, false match], [false mismatch, true match]].
    """
    truth, values = checked(labels, scores)
    matrix = confusion_matrix(truth, values >= np.asarray(threshold))
    (tn, fp), (fn, tp) = matrix.tolist()
    counted = count_metrics(tn, fp, fn, tp)
    return {
        "rows": len(truth),
        "threshold": threshold,
        **{name: value for name, value in counted.items() if name != "mcc"},
        "auroc": auroc(truth, values),
        "average_precision": average_precision(truth, values),
        "log_loss": log_loss(truth, values),
        "brier": brier_score(truth, values),
        "ece": expected_calibration_error(truth, values),
        "mcc": counted["mcc"],
        "confusion_matrix": matrix.tolist(),
    }


def count_metrics(tn: int, fp: int, fn: int, tp: int) -> dict[str, float]:
    """Map counts of rows, where a positive is a match → the figures of `binary_metrics` that depend
    on them alone.
    """
    return {
        "accuracy": _share(tp + tn, tn + fp + fn + tp),
        **_class_metrics(tp, fp, fn),
        **{f"mismatch_{name}": value for name, value in _class_metrics(tn, fn, fp).items()},
        "mcc": matthews(tp, fp, fn, tn),
    }


def _class_metrics(hits: int, false: int, missed: int) -> dict[str, float]:
    return {
        "precision": _share(hits, hits + false),
        "recall": _share(hits, hits + missed),
        "f1": _share(2 * hits, 2 * hits + false + missed),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def confusion_matrix(labels: ArrayLike, decisions: ArrayLike) -> NDArray[np.int64]:
    """Map (N,) labels, (N,) decisions → (2, 2) counts; rows are labels, columns decisions."""
    truth = np.asarray(labels, np.int64)
    decided = np.asarray(decisions, np.int64)
    return np.bincount(2 * truth + decided, minlength=4).reshape(2, 2)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the chance that a match scores above a mismatch, ties counting half (Mann-Whitney U);
    nan with one class.
    """
    truth, values = checked(labels, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # (N,) from 1, ties at their mean
    return float(
        (ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    )


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the precision-recall curve of the matches, as a sum over distinct
    scores; nan without matches.
    """
    truth, values = checked(labels, scores)
    if not truth.sum():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.diff(values[order]) != 0, True)  # the last row of each score
    precision = hits[last] / (np.flatnonzero(last) + 1)
    recall = hits[last] / truth.sum()
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def log_loss(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean negative log-likelihood of labels; nan where scores are no probabilities."""
    truth, values = checked(labels, scores)
    if not _probabilities(values):
        return float("nan")
    values = values.clip(1e-15, 1 - 1e-15)
    return float(-np.where(truth == 1, np.log(values), np.log1p(-values)).mean())


def brier_score(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean squared difference of probability and label (Brier, 1950), 0 at best; nan
    where scores are no probabilities.
    """
    truth, values = checked(labels, scores)
    return float(((values - truth) ** 2).mean()) if _probabilities(values) else float("nan")


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = BINS) -> float:
    """Return how far the share of matches in a row's bin is from the bin's mean probability (Guo et
    al., 2017). It is the mean over rows, with `bins` of equal width.

    0 at best; nan where scores are no probabilities. It is above 0 by chance alone: by about 0.02
    for a thousand rows.
    """
    curve = reliability(labels, scores, bins)
    return (
        float((curve[:, 2] * np.abs(curve[:, 0] - curve[:, 1])).sum() / curve[:, 2].sum())
        if len(curve)
        else float("nan")
    )


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = BINS) -> NDArray[np.float64]:
    """Return (K, 3): of each bin that has rows, its mean probability, its share of matches and its
    rows; none where scores are no probabilities.
    """
    truth, values = checked(labels, scores)
    if not _probabilities(values):
        return np.empty((0, 3))
    place = np.minimum((values * bins).astype(np.int64), bins - 1)  # (N,)
    rows = np.bincount(place, minlength=bins)
    sums = [
        np.bincount(place, weights=column, minlength=bins)[rows > 0] for column in (values, truth)
    ]
    rows = rows[rows > 0]
    return np.stack([sums[0] / rows, sums[1] / rows, rows.astype(np.float64)], axis=1)


def matthews(tp: float, fp: float, fn: float, tn: float) -> float:
    """Return the correlation of decision and label, -1..1 (Matthews, 1975); 0 where all rows have
    one label or one decision.
    """
    below = float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)
    return float((float(tp) * tn - float(fp) * fn) / below**0.5) if below else 0.0


def _probabilities(values: NDArray[np.float64]) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1)


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return labels and scores as arrays (N,); InputError unless N >= 1, labels are 0 or 1 and no
    score is nan.
    """
    truth = np.asarray(labels)
    values = np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 1 or not len(truth):
        raise InputError(
            f"labels {truth.shape} and scores {values.shape} must be equally many, and at least one"
        )
    if not np.isin(truth, (0, 1)).all() or np.isnan(values).any():
        raise InputError("labels must be 0 or 1, and no score nan")
    return truth.astype(np.int64), values
