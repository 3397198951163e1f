"""Whether a text fits a row's image as well as its own text, by embeddings of both."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageEvidence"]

FOLDS = 5
RIDGE = 1.0  # penalty, for inputs of spread 1, as a share of the rows
OTHERS = 20  # texts of other rows that each pair is compared with
STEPS = 25  # of Newton's method
MAX_RATIO = 50.0  # how far embeddings may move what words say
SURE = 3.0  # ratio from which a text that scores as high as the own one fits as well

Array = NDArray[np.float64]


class ImageEvidence:
    """Compares a text with an image by embeddings of a backbone, whose towers need share no space:
    the text's embedding is predicted from the image's, by a model of pairs of other images. What a
    score means is calibrated on the matched pairs, against pairs drawn at random.
    """

    def __init__(
        self,
        images: NDArray[np.float32],
        texts: NDArray[np.float32],
        groups: Sequence[Hashable],
        *,
        seed: int = 0,
    ) -> None:
        """Take the embeddings (N, image_dim) and (N, text_dim) of matched pairs; nan where an image
        has none. `groups`: the rows' images, by which the folds are made.
        """
        random = np.random.default_rng(seed)
        self._texts = _unit(_standardised(np.asarray(texts, np.float64)))  # (N, text_dim)
        predicted = _predicted(np.asarray(images, np.float64), self._texts, groups, random)
        self._predicted = _unit(predicted)  # (N, text_dim)
        self._known = np.isfinite(self._predicted.sum(axis=1))  # (N,)
        self._own = np.einsum("nd,nd->n", self._predicted, self._texts)  # (N,)
        self._slope, self._shift = self._calibrated(random)

    def __call__(self, row: int, other: int) -> tuple[float, bool]:
        """Return how many times as likely the other row's text is true of this row's image as if
        nothing had been embedded, and whether it fits as well as the row's own.
        """
        if not self._known[row]:
            return 1.0, False
        score = float(self._predicted[row] @ self._texts[other])
        ratio = float(np.exp(np.clip(self._slope * score + self._shift, -20, 20)))
        fits_as_well = score >= self._own[row] and ratio >= SURE
        return min(max(ratio, 1 / MAX_RATIO), MAX_RATIO), fits_as_well

    def _calibrated(self, random: np.random.Generator) -> tuple[float, float]:
        """Return slope and shift of the log of the ratio: logistic regression of matched against
        drawn pairs, both weighing the same.
        """
        rows = np.flatnonzero(self._known)
        if len(rows) < 2:
            return 0.0, 0.0
        matched = self._own[rows]
        first = np.repeat(rows, OTHERS)
        second = rows[random.integers(len(rows), size=len(first))]
        kept = first != second
        drawn = np.einsum("nd,nd->n", self._predicted[first[kept]], self._texts[second[kept]])
        scores = np.concatenate([matched, drawn])
        labels = np.concatenate([np.ones(len(matched)), np.zeros(len(drawn))])
        weights = np.where(labels == 1, 1 / len(matched), 1 / len(drawn)) * len(matched)
        return _logistic(scores, labels, weights)


def _logistic(scores: Array, labels: Array, weights: Array) -> tuple[float, float]:
    """Return slope and shift by Newton's method, with a little penalty on the slope."""
    inputs = np.stack([scores, np.ones(len(scores))], axis=1)  # (N, 2)
    penalty = np.diag([1e-3, 1e-9])
    line = np.zeros(2)
    for _ in range(STEPS):
        share = 1 / (1 + np.exp(-np.clip(inputs @ line, -30, 30)))
        gradient = inputs.T @ (weights * (labels - share)) - penalty @ line
        curve = (inputs * (weights * share * (1 - share))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curve + 1e-9 * np.eye(2), gradient)
        line = line + step
        if np.abs(step).max() < 1e-8:
            break
    return max(0.0, float(line[0])), float(line[1])


def _predicted(
    images: Array, texts: Array, groups: Sequence[Hashable], random: np.random.Generator
) -> Array:
    """Return (N, text_dim) what ridge regressions of other images' pairs say of each image's text;
    nan where there is no embedding of an image or no other image.
    """
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(value, len(numbers)) for value in groups])
    fold = random.permutation(len(numbers))[group] % FOLDS
    usable = np.isfinite(images).all(axis=1)
    inputs = np.zeros_like(images)
    inputs[usable] = _standardised(images[usable]) if usable.any() else 0.0
    result = np.full_like(texts, np.nan)
    for part in range(FOLDS):
        inside = usable & (fold == part)
        outside = usable & (fold != part)
        if inside.any() and outside.sum() >= 2:
            result[inside] = inputs[inside] @ _ridge(inputs[outside], texts[outside])
    return result


def _ridge(inputs: Array, outputs: Array) -> Array:
    """Return (D, E) weights; solved on the smaller side."""
    rows, width = inputs.shape
    penalty = RIDGE * rows
    if rows < width:
        kernel = inputs @ inputs.T + penalty * np.eye(rows)
        return np.asarray(inputs.T @ np.linalg.solve(kernel, outputs))
    moments = inputs.T @ inputs + penalty * np.eye(width)
    return np.asarray(np.linalg.solve(moments, inputs.T @ outputs))


def _standardised(rows: Array) -> Array:
    return np.asarray((rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9))


def _unit(rows: Array) -> Array:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9))
