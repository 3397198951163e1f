"""Find the labels that are probably wrong, by models that never saw the row, and by the labels of
its nearest pairs.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError, MissingExtraError
from mismatch.evaluation.label_noise import NoiseShare, estimate_noise
from mismatch.evaluation.metrics import checked

__all__ = [
    "LabelErrors",
    "LabelFinding",
    "Share",
    "Shares",
    "estimate_shares",
    "find_label_errors",
    "nearest_pairs",
    "reason",
    "require_cleanlab",
]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
NEAREST = 10  # pairs whose labels are asked
# weight of their share of matches besides the probability, 0..1; above 0.2 the ranking of planted
# errors among real photos falls off
NEAREST_WEIGHT = 0.1
BLOCK = 2**25  # similarities that are held at once: 128 MiB


@dataclass(frozen=True)
class LabelErrors:
    """Rows by how probably their label is wrong."""

    scores: Floats  # (N,) 0..1, higher is more suspicious
    order: Indices  # (N,) rows, the most suspicious first; ties in the rows' order


@dataclass(frozen=True)
class LabelFinding:
    """A row and how probably its label is wrong."""

    line: int  # of its file, or the row's number from 1
    image_path: str  # as written
    text: str
    label: int | None  # 0 or 1; None where it is neither
    rank: int | None  # from 1, the most suspicious; None for a row that can't be scored
    score: float | None  # 0..1, higher is more suspicious; None as rank
    probability: float | None  # of a match, by heads that were trained without the row, 0..1
    reason: str  # a sentence; empty where there is no score
    status: str  # "ok", or why there is no score
    columns: dict[str, str]  # all columns as written
    picture: str | None = None  # data URL; None: it is read from `image_path` when it is needed


@dataclass(frozen=True)
class Share:
    """An estimated share of wrong labels, 0..1."""

    value: float  # less what heads can't tell, kind by kind
    low: float  # between these it lies nine times in ten
    high: float
    confident: float  # by confident learning, which counts models' own mistakes too
    rows: int
    unknown: str = ""  # why it can't be known; empty where it can

    def words(self) -> str:
        """Return `about 5.2 % of 11,250 labels look wrong (585), …`, or that it can't be told."""
        value, low, high = (f"{100 * part:.1f}" for part in (self.value, self.low, self.high))
        if self.unknown:
            return (
                f"how many of {self.rows:,} labels are wrong can't be told, as {self.unknown};"
                f" {low} to {high} % would fit"
            )
        return (
            f"about {value} % of {self.rows:,} labels look wrong"
            f" ({round(self.value * self.rows):,}), {low} to {high} % with a certainty of nine"
            " in ten"
        )


class Shares(NamedTuple):
    """The shares of wrong labels: of all rows that are ranked, and of each kind."""

    all_rows: Share
    by_kind: dict[str, Share]


def find_label_errors(
    labels: ArrayLike, probabilities: ArrayLike, neighbour_share: ArrayLike | None = None
) -> LabelErrors:
    """Map (N,) labels, (N,) out-of-sample probabilities of a match, (N,) share of matches among the
    nearest pairs → scores and ranking.

    The score is 1 less cleanlab's self-confidence (Northcutt, Jiang and Chuang, 2021): the belief
    that is left for the other label. MissingExtraError without cleanlab, InputError for numbers
    that are none or lie outside 0..1.
    """
    truth, belief = _checked(labels, probabilities)
    if neighbour_share is not None:
        belief = (1 - NEAREST_WEIGHT) * belief + NEAREST_WEIGHT * _checked(labels, neighbour_share)[
            1
        ]
    quality = _cleanlab("rank").get_label_quality_scores(
        truth, np.stack([1 - belief, belief], axis=1), method="self_confidence"
    )
    scores = 1 - np.asarray(quality, np.float64)
    return LabelErrors(scores, np.argsort(-scores, kind="stable"))


def estimate_shares(
    labels: ArrayLike,
    probabilities: ArrayLike,
    kinds: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    chosen: ArrayLike | None = None,
    seed: int = 0,
) -> Shares:
    """Map (N,) labels, (N,) out-of-sample probabilities of a match, (N,) kinds → the share of
    `chosen` labels that are wrong, (N,) of bools, and that of each kind; InputError unless both
    labels occur. See `estimate_noise`. Next to it stands the estimate of confident learning.
    """
    truth, belief = _checked(labels, probabilities)
    if not 0 < truth.sum() < len(truth):
        raise InputError("the share of wrong labels can be estimated only where both labels occur")
    noise = estimate_noise(truth, belief, kinds, groups=groups, chosen=chosen, seed=seed)
    joint = _cleanlab("count").estimate_joint(truth, np.stack([1 - belief, belief], axis=1))
    confident = float(joint[0, 1] + joint[1, 0])
    by_kind = {name: _share(part, confident) for name, part in noise.by_kind.items()}
    return Shares(_share(noise.all_rows, confident), by_kind)


def _share(noise: NoiseShare, confident: float) -> Share:
    low, high = noise.interval
    return Share(noise.value, low, high, confident, noise.rows, noise.unknown)


def nearest_pairs(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    image_of: Indices,
    text_of: Indices,
    nearest: int = NEAREST,
) -> Indices:
    """Map embeddings of unique images (U, D), texts (V, E), (N,) which of them a row pairs → (N, K)
    rows that are most alike in image and text.

    By the sum of both cosines after each column's mean is taken off. A row is never its own
    neighbour, nor is one with the same image and another text, or the same text and another image.
    Those are close for one half only. K is `nearest`, or N - 1 where there are fewer.
    """
    image_rows = _directions(images)
    text_rows = _directions(texts)
    rows = len(image_of)
    count = min(nearest, len(image_of) - 1)
    neighbours = np.empty((rows, count), np.int64)
    step = max(1, BLOCK // max(1, rows))
    for start in range(0, rows, step):
        block = np.arange(start, min(start + step, rows))
        # (B, N)
        alike = (
            image_rows[image_of[block]] @ image_rows[image_of].T
            + text_rows[text_of[block]] @ text_rows[text_of].T
        )
        same_image = image_of[block, None] == image_of
        same_text = text_of[block, None] == text_of
        alike[same_image != same_text] -= 4.0  # behind all others
        alike[np.arange(len(block)), block] = -np.inf
        best = (
            np.argpartition(-alike, count - 1, axis=1)[:, :count]
            if count
            else np.empty((len(block), 0), np.int64)
        )
        neighbours[block] = np.take_along_axis(
            best, np.argsort(-np.take_along_axis(alike, best, 1), axis=1, kind="stable"), 1
        )
    return neighbours


def reason(label: int, probability: float, nearest_labels: ArrayLike) -> str:
    """Return why a row stands where it does, in words: its label, the out-of-sample probability of
    a match, and the labels of its nearest pairs.
    """
    name = ("mismatch", "match")[label]
    matches = int(np.sum(nearest_labels))
    asked = len(np.atleast_1d(nearest_labels))
    sentence = (
        f"labelled {name}, {'but' if (probability >= 0.5) != (label == 1) else 'and'} heads trained"
        f" without it give {probability:.2f}"
    )
    other = asked - matches if label else matches
    return sentence + (
        f"; {other} of its {asked} nearest pairs are {'mismatches' if label else 'matches'}"
        if asked
        else ""
    )


def require_cleanlab() -> None:
    """Raise MissingExtraError without cleanlab."""
    _cleanlab("rank")


def _directions(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map (N, D) → (N, D), centred, of length 1."""
    centred = embeddings - embeddings.mean(0)
    return np.asarray(
        centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32
    )


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Indices, Floats]:
    truth, values = checked(labels, probabilities)
    if not (np.isfinite(values).all() and ((values >= 0) & (values <= 1)).all()):
        raise InputError("finding label errors needs probabilities, numbers from 0 to 1")
    return np.asarray(truth, np.int64), np.asarray(values, np.float64)


def _cleanlab(part: str) -> Any:
    """Import cleanlab.rank or cleanlab.count; it takes a second."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what cleanlab imports
            return importlib.import_module(f"cleanlab.{part}")
    except ImportError as error:
        raise MissingExtraError("auditing labels", "audit") from error
