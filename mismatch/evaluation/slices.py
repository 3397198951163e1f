"""Thresholds of their own for parts of the rows, such as languages or categories, drawn towards the
common one where a part has few rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mismatch.errors import InputError
from mismatch.evaluation.metrics import checked
from mismatch.evaluation.objectives import Objective
from mismatch.evaluation.threshold import Cuts
from mismatch.score_specs import slice_key
from mismatch.specs import SliceThresholds

__all__ = ["LEAST_ROWS", "SHRINKAGE", "choose_slices"]

LEAST_ROWS = 30  # of a slice, both labels among them
SHRINKAGE = 200.0  # rows at which a slice's own threshold and the common one count equally


def choose_slices(
    labels: ArrayLike,
    scores: ArrayLike,
    slices: Sequence[str],
    column: str,
    objective: Objective,
    common: float,
    *,
    shrinkage: float = SHRINKAGE,
) -> SliceThresholds:
    """Map (N,) labels, scores and values of a column → a threshold for each value with enough rows.
    It is (n · own + shrinkage · common) / (n + shrinkage).

    Values with fewer than thirty rows, with one label, or that don't reach the objective's target
    have none, and so the common one. InputError where no value has enough.
    """
    truth, values = checked(labels, scores)
    keys = [slice_key(value) for value in slices]
    names = np.asarray(keys, dtype=object)
    thresholds: dict[str, float] = {}
    rows: dict[str, int] = {}
    for name in sorted(set(keys)):
        inside = names == name
        count = int(inside.sum())
        if count < LEAST_ROWS or len(np.unique(truth[inside])) < 2:
            continue
        chosen = Cuts(truth[inside], values[inside]).choose(objective)
        if np.isfinite(chosen):
            thresholds[name] = float((count * chosen + shrinkage * common) / (count + shrinkage))
            rows[name] = count
    if not thresholds:
        raise InputError(
            f"no value of the column {column!r} has {LEAST_ROWS} rows with both labels that reach"
            " the objective; use one threshold for all"
        )
    return SliceThresholds(column, thresholds, rows)
