"""How good scores are: counts at a threshold, and the ranking itself. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError

__all__ = ["auroc", "average_precision", "binary_metrics", "checked", "confusion_matrix", "log_loss"]


def binary_metrics(labels: ArrayLike, scores: ArrayLike, threshold: float) -> dict[str, Any]:
    """(N,) labels 0 or 1, (N,) scores → accuracy, precision, recall and F1 of the matches and of the mismatches, AUROC, average precision, log-loss.

    Those of the matches (label 1) have plain names, those of the mismatches begin with `mismatch_`. A pair is a match where score >= threshold.
    A ranking figure that does not exist (AUROC with one class) is nan; a precision, recall or F1 without any case is 0.
    The confusion matrix is [[true mismatch, false match], [false mismatch, true match]].
    """
    truth, values = checked(labels, scores)
    matrix = confusion_matrix(truth, values >= threshold)
    (tn, fp), (fn, tp) = matrix.tolist()
    return {
        "rows": len(truth),
        "threshold": threshold,
        "accuracy": _share(tp + tn, len(truth)),
        **_class_metrics(tp, fp, fn),
        **{f"mismatch_{name}": value for name, value in _class_metrics(tn, fn, fp).items()},
        "auroc": auroc(truth, values),
        "average_precision": average_precision(truth, values),
        "log_loss": log_loss(truth, values),
        "confusion_matrix": matrix.tolist(),
    }


def _class_metrics(hits: int, false: int, missed: int) -> dict[str, float]:
    return {"precision": _share(hits, hits + false), "recall": _share(hits, hits + missed), "f1": _share(2 * hits, 2 * hits + false + missed)}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def confusion_matrix(labels: ArrayLike, decisions: ArrayLike) -> NDArray[np.int64]:
    """(N,) labels, (N,) decisions → (2, 2) counts; rows are labels, columns decisions."""
    truth, said = np.asarray(labels, np.int64), np.asarray(decisions, np.int64)
    return np.bincount(2 * truth + said, minlength=4).reshape(2, 2)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The chance that a match scores above a mismatch, ties counting half (Mann-Whitney U); nan with one class."""
    truth, values = checked(labels, scores)
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # (N,) from 1, ties at their mean
    return float((ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve of the matches, as a sum over distinct scores; nan without matches."""
    truth, values = checked(labels, scores)
    if not truth.sum():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.diff(values[order]) != 0, True)  # the last row of each score
    precision, recall = hits[last] / (np.flatnonzero(last) + 1), hits[last] / truth.sum()
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def log_loss(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels; nan where scores are no probabilities."""
    truth, values = checked(labels, scores)
    if values.min() < 0 or values.max() > 1:
        return float("nan")
    values = values.clip(1e-15, 1 - 1e-15)
    return float(-np.where(truth == 1, np.log(values), np.log1p(-values)).mean())


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and scores as arrays (N,); InputError unless N >= 1, labels are 0 or 1 and no score is nan."""
    truth, values = np.asarray(labels), np.asarray(scores, np.float64)
    if truth.shape != values.shape or truth.ndim != 1 or not len(truth):
        raise InputError(f"labels {truth.shape} and scores {values.shape} must be equally many, and at least one")
    if not np.isin(truth, (0, 1)).all() or np.isnan(values).any():
        raise InputError("labels must be 0 or 1, and no score nan")
    return truth.astype(np.int64), values
