"""Fit what turns a logit into a probability that means what it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.evaluation.metrics import checked
from mismatch.runtime.scoring import sigmoid
from mismatch.specs import Calibration

__all__ = ["fit_platt"]

Floats = NDArray[np.float64]
STEPS = 100  # of Newton; it needs about ten
MIN_SLOPE = 1e-3  # per standard deviation of the logits: a calibration never turns the ranking round
FLAT = 1e-12  # spread of the logits, relative to their size, below which they are one constant


def fit_platt(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """(N,) logits, (N,) labels → Platt scaling by Newton's method, with Platt's smoothed targets (Lin, Lin and Weng, 2007).

    The slope stays above 0 also where the logits rank the wrong way round: then it is as good as flat, and every score lies near the base rate.
    InputError unless both labels occur and all logits are finite.
    """
    truth, values = checked(labels, logits)
    positives, rows = int(truth.sum()), len(truth)
    if not 0 < positives < rows:
        raise InputError(f"a calibration needs both matches and mismatches; there are {positives} and {rows - positives}")
    if not np.isfinite(values).all():
        raise InputError("a calibration needs finite logits")
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (rows - positives + 2))
    base = float(np.log(target.mean() / (1 - target.mean())))  # log-odds
    center, spread = float(values.mean()), float(values.std())
    if spread <= FLAT * max(1.0, abs(center)):
        spread = 1.0
    slope, intercept = _newton((values - center) / spread, target, base)
    if slope < MIN_SLOPE:
        slope, intercept = MIN_SLOPE, base
    return Calibration(slope=slope / spread, intercept=intercept - slope * center / spread, rows=rows)


def _newton(x: Floats, target: Floats, start: float) -> tuple[float, float]:
    """Minimise the log-loss of sigmoid(a · x + b) against soft targets; a Newton step is halved until the loss falls."""
    features = np.stack([x, np.ones_like(x)])  # (2, N)
    weights = np.array([0.0, start])
    for _ in range(STEPS):
        p = sigmoid(weights @ features)
        gradient = features @ (p - target) / len(x)
        if np.abs(gradient).max() < 1e-10:
            break
        hessian = (features * (p * (1 - p))) @ features.T / len(x) + 1e-12 * np.eye(2)
        step, before, scale = np.linalg.solve(hessian, gradient), _loss(weights, features, target), 1.0
        while _loss(weights - scale * step, features, target) > before and scale > 1e-10:
            scale /= 2
        weights = weights - scale * step
    return float(weights[0]), float(weights[1])


def _loss(weights: Floats, features: Floats, target: Floats) -> float:
    z = weights @ features
    return float((np.logaddexp(0, z) - target * z).mean())
