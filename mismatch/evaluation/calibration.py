"""Fit what turns a logit into a probability that means what it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mismatch.errors import InputError
from mismatch.runtime.scoring import sigmoid
from mismatch.specs import Calibration

__all__ = ["fit_platt"]

STEPS = 100
MIN_SLOPE = 1e-3  # per standard deviation of the logits: a calibration never turns the ranking round


def fit_platt(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """(N,) logits, (N,) labels → Platt scaling by Newton's method, with Platt's smoothed targets (Lin, Lin and Weng, 2007).

    The slope stays above 0 also where the logits rank the wrong way round. InputError unless both labels occur.
    """
    values, truth = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    if not positives or not negatives:
        raise InputError(f"calibration needs both matches and mismatches; there are {positives} and {negatives}")
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    center, spread = values.mean(), values.std() or 1.0
    slope, intercept = _newton((values - center) / spread, target, start=np.log(target.mean() / (1 - target.mean())))
    if slope < MIN_SLOPE:
        slope, intercept = MIN_SLOPE, float(np.log(target.mean() / (1 - target.mean())))
    return Calibration(slope=float(slope / spread), intercept=float(intercept - slope * center / spread), rows=len(values))


def _newton(x: np.ndarray, target: np.ndarray, start: float) -> tuple[float, float]:  # type: ignore[type-arg]
    """Minimise the log-loss of sigmoid(a·x + b) against soft targets; a damped Newton step halves until the loss falls."""
    features = np.stack([x, np.ones_like(x)])  # (2, N)
    weights = np.array([0.0, start])

    def loss(w: np.ndarray) -> float:  # type: ignore[type-arg]
        z = w @ features
        return float((np.logaddexp(0, z) - target * z).mean())

    for _ in range(STEPS):
        p = sigmoid(weights @ features)
        gradient = features @ (p - target) / len(x)
        if np.abs(gradient).max() < 1e-10:
            break
        hessian = (features * (p * (1 - p))) @ features.T / len(x) + 1e-12 * np.eye(2)
        step, before = np.linalg.solve(hessian, gradient), loss(weights)
        scale = 1.0
        while loss(weights - scale * step) > before and scale > 1e-10:
            scale /= 2
        weights = weights - scale * step
    return float(weights[0]), float(weights[1])
