"""Figures of parts of the rows: values of a column, and kinds of mismatch, each against all
matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.evaluation.intervals import metric_intervals
from mismatch.evaluation.metrics import binary_metrics, checked

__all__ = ["LEAST_ROWS", "MAX_SLICE_VALUES", "by_kind", "by_value", "measured"]

MAX_SLICE_VALUES = 50  # of a column, those with the most rows
LEAST_ROWS = 2  # of a part
RESAMPLES = 400  # of a part; the ends of an interval move by a tenth of its width


def measured(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Map (N,) rows → `rows`, `mismatches`, `metrics` and `intervals` of them. `threshold`: one, or
    (N,).
    """
    truth, values = checked(labels, scores)
    metrics = binary_metrics(truth, values, threshold)
    intervals = metric_intervals(truth, values, threshold, groups=groups, resamples=resamples)
    plain = {name: value for name, value in metrics.items() if name not in ("rows", "threshold")}
    return {
        "rows": len(truth),
        "mismatches": int((truth == 0).sum()),
        "metrics": plain,
        "intervals": {name: list(pair) for name, pair in intervals.items()},
    }


def by_value(
    column: Sequence[str],
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    groups: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Map each value of the column (N,) → `measured` of its rows, the most frequent first, fifty at
    most. `thresholds` (N,).
    """
    values = np.asarray(column, dtype=object)
    common = sorted(Counter(column).items(), key=lambda item: (-item[1], item[0]))
    return {
        value: _part(values == value, labels, scores, thresholds, groups)
        for value, rows in common[:MAX_SLICE_VALUES]
        if rows >= LEAST_ROWS
    }


def by_kind(
    column: Sequence[str],
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    groups: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Map each kind (N,) of mismatch → `measured` of its mismatches and all matches. What the kinds
    share is the matches, so AUROCs can be compared.
    """
    truth = np.asarray(labels)
    kinds = np.asarray(column, dtype=object)
    common = Counter(
        kind for kind, label in zip(column, truth, strict=True) if label == 0
    ).most_common(MAX_SLICE_VALUES)
    return {
        kind: _part(
            ((kinds == kind) & (truth == 0)) | (truth == 1), labels, scores, thresholds, groups
        )
        for kind, _ in common
    }


def _part(
    inside: NDArray[np.bool_],
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    groups: Sequence[str],
) -> dict[str, Any]:
    rows = np.flatnonzero(inside)
    truth, values, cuts = (np.asarray(array)[rows] for array in (labels, scores, thresholds))
    return measured(truth, values, cuts, groups=[groups[row] for row in rows.tolist()])
