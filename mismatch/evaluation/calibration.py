"""Fit what turns a logit, or a cosine, into a probability that means what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.evaluation.folds import grouped_folds
from mismatch.evaluation.metrics import checked
from mismatch.runtime.scoring import log_odds, sigmoid
from mismatch.specs import Calibration

__all__ = ["FOLDS", "KINDS", "fit_calibration", "fit_piecewise", "fit_platt", "fit_temperature"]

Floats = NDArray[np.float64]
STEPS = 100  # of Newton; it needs about ten
# per standard deviation of the logits: a calibration never turns the ranking round
MIN_SLOPE = 1e-3
FLAT = 1e-12  # spread of the logits, relative to their size, below which they are one constant
KINDS = ("temperature", "platt", "piecewise")  # the simplest first
FOLDS = 5
MAX_ROWS_COMPARED = 50_000  # by which the kind is chosen
# rows, in all and of each label, from which a bend is more than chance
PIECEWISE_ROWS = 1000
PIECEWISE_LABELS = 200
QUANTILES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)  # of the log-odds, where the knots lie
# a piece has at most so many times Platt's slope, and at least a quarter of it: neither jumps nor
# plateaus
STEEP = 4.0
PRIOR = 10.0  # strength, in rows, of each piece's pull towards Platt's slope
SWEEPS = 60  # over the pieces


def fit_calibration(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    kind: str = "auto",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Calibration:
    """Map (N,) logits, (N,) labels → the kind that is best by cross-validated log-loss, fitted to
    all rows, or the `kind` that is asked for.

    A kind with more freedom must be better by more than a standard error of the difference.
    `groups` (N,): rows of one group, such as an image, stay in one fold. The piecewise map takes
    part from a thousand rows on, two hundred of each label. InputError as for `fit_platt`.
    """
    truth, values = checked(labels, logits)
    fits: dict[str, Callable[[ArrayLike, ArrayLike], Calibration]] = dict(
        zip(KINDS, (fit_temperature, fit_platt, fit_piecewise), strict=True)
    )
    if kind != "auto":
        if not isinstance(kind, str) or kind not in fits:
            raise InputError(
                f"there is no calibration {kind!r}; one of auto, {', '.join(KINDS)} is needed"
            )
        return fits[kind](values, truth)
    fit_platt(values, truth)  # refuses what can't be calibrated
    counts = np.bincount(truth, minlength=2)
    if len(truth) < PIECEWISE_ROWS or counts.min() < PIECEWISE_LABELS:
        fits.pop("piecewise")
    return fits[
        _best(
            fits,
            values,
            truth,
            np.arange(len(truth)) if groups is None else np.asarray(groups),
            seed,
        )
    ](values, truth)


def _best(
    fits: Mapping[str, Callable[[ArrayLike, ArrayLike], Calibration]],
    values: Floats,
    truth: NDArray[np.int64],
    groups: NDArray[np.generic],
    seed: int,
) -> str:
    """Choose the kind to fit, by at most `MAX_ROWS_COMPARED` of the rows."""
    some = np.sort(np.random.default_rng(seed).permutation(len(truth))[:MAX_ROWS_COMPARED])
    values = values[some]
    truth = truth[some]
    fold = grouped_folds(groups[some], FOLDS, seed)
    if any(len(np.unique(truth[fold != part])) < 2 for part in np.unique(fold)):
        return "platt"
    best = ""
    best_losses = np.empty(0)
    for name, fit in fits.items():
        losses = _cross_validated(fit, values, truth, fold)
        gain = best_losses - losses if best else np.full(len(truth), np.inf)
        if not best or gain.mean() > gain.std() / len(gain) ** 0.5:
            best = name
            best_losses = losses
    return best


def _cross_validated(
    fit: Callable[[ArrayLike, ArrayLike], Calibration],
    logits: Floats,
    truth: NDArray[np.int64],
    fold: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return (N,) log-losses of rows that the fit has not seen."""
    losses = np.empty(len(truth))
    for part in np.unique(fold):
        inside = fold == part
        z = log_odds(logits[inside], fit(logits[~inside], truth[~inside]))
        losses[inside] = np.logaddexp(0, z) - truth[inside] * z
    return losses


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Fit as `fit_platt`, a slope alone: probability 0.5 stays at logit 0 (Guo et al., 2017)."""
    values, target, _ = _prepared(logits, labels)
    spread = float(np.abs(values).max()) or 1.0
    slope = float(_newton((values / spread)[None], target, np.zeros(1))[0])
    return Calibration(max(slope, MIN_SLOPE) / spread, 0.0, len(values), "temperature")


def fit_piecewise(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Fit as `fit_platt`, then bend along straight lines between quantiles of its log-odds. Convex:
    logistic regression with each slope between bounds.
    """
    platt = fit_platt(logits, labels)
    values, target, _ = _prepared(logits, labels)
    z = log_odds(values, platt)
    knots = np.quantile(z, QUANTILES)
    # equal quantiles are one knot
    knots = knots[np.insert(np.diff(knots) > 1e-6 * max(1.0, float(z.std())), 0, True)]
    if len(knots) < 3:
        return platt
    ends = np.concatenate([[-np.inf], knots[1:-1], [np.inf]])  # of the pieces
    # (K - 1, N)
    parts = np.stack(
        [
            np.clip(z, low, high) - start
            for low, high, start in zip(ends[:-1], ends[1:], knots[:-1], strict=True)
        ]
    )
    slopes, offset = _bent(parts, target, float(knots[0]))
    bent = np.concatenate([[offset], offset + np.cumsum(slopes * np.diff(knots))])
    return replace(platt, kind="piecewise", knots=tuple(knots.tolist()), bent=tuple(bent.tolist()))


def _bent(parts: Floats, target: Floats, offset: float) -> tuple[Floats, float]:
    """Return slopes and what is added, of least loss. Newton's step is taken for one of them after
    the other, cut at its bounds and halved until the loss falls.
    """
    # (K, N), the last for the offset
    features = np.concatenate([parts, np.ones((1, parts.shape[1]))])
    weights = np.append(np.ones(len(parts)), offset)
    low, high = (
        np.append(np.full(len(parts), bound), end)
        for bound, end in ((1 / STEEP, -np.inf), (STEEP, np.inf))
    )
    pull = np.append(np.full(len(parts), PRIOR), 0.0) / len(target)

    def loss(u: Floats, heights: Floats) -> float:
        return float(
            (np.logaddexp(0, u) - target * u).mean() + (pull * (heights - 1) ** 2).sum() / 2
        )

    u = weights @ features
    now = loss(u, weights)
    for _ in range(SWEEPS):
        before = now
        for k in range(len(weights)):
            p = sigmoid(u)
            gradient = float(features[k] @ (p - target)) / len(target) + pull[k] * (weights[k] - 1)
            curvature = float(features[k] ** 2 @ (p * (1 - p))) / len(target) + pull[k] + 1e-12
            step = gradient / curvature
            while abs(step) > 1e-9:
                moved = weights.copy()
                moved[k] = np.clip(weights[k] - step, low[k], high[k])
                there = u + (moved[k] - weights[k]) * features[k]
                if (fallen := loss(there, moved)) <= now:
                    weights = moved
                    u = there
                    now = fallen
                    break
                step /= 2
        if before - now < 1e-10:
            break
    return weights[:-1], float(weights[-1])


def fit_platt(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Map (N,) logits, (N,) labels → Platt scaling by Newton's method, with Platt's smoothed
    targets (Lin, Lin and Weng, 2007).

    The slope stays above 0 also where the logits rank the wrong way round. It is then as good as
    flat, and every score lies near the base rate. InputError unless both labels occur and all
    logits are finite.
    """
    values, target, base = _prepared(logits, labels)
    center = float(values.mean())
    spread = float(values.std())
    if spread <= FLAT * max(1.0, abs(center)):
        spread = 1.0
    scaled = (values - center) / spread
    slope, intercept = map(
        float, _newton(np.stack([scaled, np.ones_like(scaled)]), target, np.array([0.0, base]))
    )
    if slope < MIN_SLOPE:
        slope = MIN_SLOPE
        intercept = base
    return Calibration(
        slope=slope / spread, intercept=intercept - slope * center / spread, rows=len(values)
    )


def _prepared(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, float]:
    """Return logits, Platt's smoothed targets, both (N,), and the log-odds of a match."""
    truth, values = checked(labels, logits)
    positives = int(truth.sum())
    rows = len(truth)
    if not 0 < positives < rows:
        raise InputError(
            f"a calibration needs both matches and mismatches; there are {positives} and"
            f" {rows - positives}"
        )
    if not np.isfinite(values).all():
        raise InputError("a calibration needs finite logits")
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (rows - positives + 2))
    return values, target, float(np.log(target.mean() / (1 - target.mean())))


def _newton(features: Floats, target: Floats, weights: Floats) -> Floats:
    """Map (F, N) features, (N,) soft targets → (F,) weights of least log-loss of sigmoid(weights ·
    features); a step is halved until the loss falls.
    """
    now = _loss(weights, features, target)
    for _ in range(STEPS):
        p = sigmoid(weights @ features)
        gradient = features @ (p - target) / len(target)
        if np.abs(gradient).max() < 1e-10:
            break
        hessian = (features * (p * (1 - p))) @ features.T / len(target) + 1e-12 * np.eye(
            len(weights)
        )
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        moved = weights - step
        while (fallen := _loss(moved, features, target)) > now and scale > 1e-10:
            scale /= 2
            moved = weights - scale * step
        weights = moved
        now = fallen
    return weights


def _loss(weights: Floats, features: Floats, target: Floats) -> float:
    z = weights @ features
    return float((np.logaddexp(0, z) - target * z).mean())
