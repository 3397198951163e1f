"""Logits → similarity scores: the one place that applies a calibration, for every engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.specs import ScoreSpec

__all__ = ["scores_from_logits", "sigmoid"]


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + e⁻ˣ), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def scores_from_logits(logits: ArrayLike, spec: ScoreSpec) -> NDArray[np.float64]:
    """(N,) logits → (N,) similarity scores: probabilities 0..1, or the cosines themselves for zero-shot."""
    values = np.asarray(logits, dtype=np.float64)
    if spec.kind == "cosine":
        return values
    if spec.calibration is not None:
        values = spec.calibration.slope * values + spec.calibration.intercept
    return sigmoid(values)
