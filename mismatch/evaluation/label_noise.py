"""How many labels are wrong, told apart from heads' own mistakes. These die out where a head is
surest, while a wrong label stays wrong there.

For each kind of mismatch, against the matches, the chance of the label `match` at a logit z is
e1 + (1 - e0 - e1) · sigmoid(slope · z + offset): a logistic curve, as of right labels, between a
floor e1 and a ceiling 1 - e0 (Copas, 1988). They are fitted by expectation and maximisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.evaluation.bootstrap import Interval, percentiles, resamples_of
from mismatch.evaluation.intervals import wilson_interval
from mismatch.evaluation.metrics import auroc, checked
from mismatch.runtime.scoring import sigmoid

__all__ = ["NoiseShare", "NoiseShares", "estimate_noise"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
LEVEL = 0.9  # of the intervals: nine in ten
RESAMPLES = 100
SEGMENTS = 64  # of the logits, equally many rows each
STEPS = 100  # of expectation and maximisation
STEEP = 8.0  # slope that these begin with, per standard deviation of the logits
MAX_NOISE = 0.45  # of a label's rows; beyond, labels would be reversed
MIN_KIND = 40  # rows of a kind that is judged apart; rarer ones are judged together
MIN_LABEL = 40  # rows of either label, below which nothing can be told
MIN_AUROC = 0.75  # of heads on a kind, below which they don't know
MAX_WIDTH = 0.15  # of an interval, beyond which a share isn't known
MAX_DARK = 0.1  # of the rows, that may be of kinds which heads don't know
OTHERS = "(other kinds)"
MATCH = "match"


class _View(NamedTuple):
    """What the rows leave open, taken one way."""

    # by how much logits count that are surer than those of most rows: less where heads are sure of
    # their own mistakes
    tail: float
    # whether wrong matches are of all kinds of mismatch, as labels that slipped, or of the kind
    # that heads know best alone, as texts that were mixed up
    of_all_kinds: bool


MOST = _View(1.0, True)
LEAST = _View(0.5, False)
# of mismatches that are not told apart, the part that heads know best
EASY = 0.5


class NoiseShare(NamedTuple):
    """An estimated share of wrong labels, 0..1."""

    value: float
    interval: Interval  # nine times in ten it lies here
    rows: int
    unknown: str  # why it can't be known, as a part of a sentence; empty where it can


class NoiseShares(NamedTuple):
    """The shares of wrong labels: of all rows that were chosen, and of each kind."""

    all_rows: NoiseShare
    by_kind: dict[str, NoiseShare]


@dataclass(frozen=True)
class _Cells:
    """Rows counted by kind, the matches first, and by segment of their logit."""

    names: list[str]  # (K,) of the kinds; K - 1 of mismatches
    cell: Indices  # (N,) of each row, kind · S + segment
    logits: Floats  # (S,) mean of each segment, standardised
    aurocs: Floats  # (K,) of the heads, each kind against the matches; the first is the best of all

    def count(self, rows: Indices) -> Floats:
        """Count (M,) rows → (K, S)."""
        size = len(self.names) * len(self.logits)
        counts = np.bincount(self.cell[rows], minlength=size)
        return counts.reshape(len(self.names), -1).astype(np.float64)


def estimate_noise(
    labels: ArrayLike,
    probabilities: ArrayLike,
    kinds: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    chosen: ArrayLike | None = None,
    seed: int = 0,
) -> NoiseShares:
    """Map (N,) labels, (N,) out-of-sample probabilities of a match, (N,) kinds → the share of wrong
    labels among the `chosen` rows, (N,) of bools, and among those of each kind.

    `groups` (N,): rows of one group, such as an image, are drawn together.
    """
    truth, belief = checked(labels, probabilities)
    is_chosen = np.ones(len(truth), np.bool_) if chosen is None else np.asarray(chosen, np.bool_)
    cells = _cells(truth, belief, kinds)
    everything = np.arange(len(truth))
    drawn = list(resamples_of(len(truth), resamples=RESAMPLES, seed=seed, groups=groups))
    drawn.insert(0, everything)
    counts = np.stack([cells.count(rows) for rows in drawn])  # (1 + B, K, S)
    ranked = np.stack([cells.count(rows[is_chosen[rows]]) for rows in drawn])
    sizes = ranked.sum(axis=2)  # (1 + B, K)
    wrong = np.stack(
        [(ranked * _doubts(cells, counts, view)).sum(axis=2) for view in (MOST, LEAST)]
    )
    by_kind = {
        name: _share(wrong[..., k], sizes[:, k], _why(cells, sizes[0], [k]))
        for k, name in enumerate(cells.names)
        if sizes[0, k]
    }
    present = [k for k in range(len(cells.names)) if sizes[0, k]]
    why = _why(cells, sizes[0], present)
    all_rows = _share(wrong.sum(axis=2), sizes.sum(axis=1), why)
    # what a form of the curve gets wrong, it gets wrong in all kinds: that does not even out
    lowest = sum(part.interval.low * part.rows for part in by_kind.values()) / all_rows.rows
    return NoiseShares(all_rows._replace(interval=all_rows.interval.with_value(lowest)), by_kind)


def _cells(truth: Indices, belief: Floats, kinds: Sequence[str]) -> _Cells:
    common = Counter(kind for kind, label in zip(kinds, truth, strict=True) if label == 0)
    names = [kind for kind, rows in common.most_common() if rows >= MIN_KIND and kind != MATCH]
    if len(names) < len(common):
        names.append(OTHERS)  # matches by their kind among them, labelled mismatches
    number = {name: place for place, name in enumerate(names, start=1)}
    others = number.get(OTHERS, 0)
    kind_of = np.array(
        [0 if label else number.get(kind, others) for kind, label in zip(kinds, truth, strict=True)]
    )
    clipped = belief.clip(1e-9, 1 - 1e-9)
    logits = np.log(clipped / (1 - clipped))
    logits = (logits - logits.mean()) / max(float(logits.std()), 1e-12)
    order = np.argsort(logits, kind="stable")
    segments = min(SEGMENTS, len(logits))
    segment = np.empty(len(logits), np.int64)
    segment[order] = np.arange(len(logits)) * segments // len(logits)
    means = np.bincount(segment, weights=logits) / np.bincount(segment)
    aurocs = []
    for k, name in enumerate(names, start=1):
        inside = (kind_of == 0) | (kind_of == k) | (name == OTHERS)
        aurocs.append(auroc(truth[inside], logits[inside]))
    best = max(aurocs, default=float("nan"))
    return _Cells([MATCH, *names], kind_of * segments + segment, means, np.array([best, *aurocs]))


def _doubts(cells: _Cells, counts: Floats, view: _View) -> Floats:
    """Map (B, K, S) counts → the same: the chance that a row there is labelled wrong.

    That of the matches is judged by the kind of mismatch that heads know best.
    """
    doubts = np.zeros_like(counts)
    easiest = int(np.argmax(np.nan_to_num(cells.aurocs[1:], nan=-1.0))) + 1
    matches = counts[:, 0]
    for k in range(1, len(cells.names)):
        is_mixed = cells.names[k] == OTHERS
        mismatches = counts[:, 1:].sum(axis=1) if is_mixed else counts[:, k]
        logits = _bent(cells.logits, matches[0], mismatches[0], view.tail)
        fit = _fitted(matches, mismatches, logits)
        doubts[:, k] = _mixed(fit.odds, counts[:, k]) if is_mixed else fit.wrong_mismatch
        if k == easiest:
            doubts[:, 0] = fit.wrong_match
    if view.of_all_kinds:
        together = counts[:, 1:].sum(axis=1)
        doubts[:, 0] = _fitted(matches, together, cells.logits).wrong_match
    elif len(cells.names) == 2:
        doubts[:, 0] *= EASY
    return np.minimum(doubts, 1.0)


def _bent(logits: Floats, matches: Floats, mismatches: Floats, tail: float) -> Floats:
    """Return (S,) logits, whose parts below most mismatches and above most matches are scaled by
    `tail`.
    """
    low = _median(logits, mismatches)
    high = _median(logits, matches)
    if low >= high:
        return logits
    inside = logits.clip(low, high)
    bent: Floats = inside + tail * (logits - inside)
    return bent


def _median(logits: Floats, counts: Floats) -> float:
    """Return that of rows of which (S,) have each logit, ascending."""
    below = np.cumsum(counts)
    return float(logits[np.searchsorted(below, below[-1] / 2)])


class _Fit(NamedTuple):
    """What a fit says of rows at each logit, (B, S) each."""

    wrong_match: Floats  # the chance that a match is labelled wrong
    wrong_mismatch: Floats
    odds: Floats  # how many times as common the logit is among true matches as among mismatches


def _mixed(odds: Floats, rows: Floats) -> Floats:
    """Map (B, S) odds, (B, S) rows of any kind that are labelled mismatches → the chances that they
    are matches, by what share of them makes the rows likeliest.
    """
    share = np.full((len(rows), 1), 0.5)
    chance = np.zeros_like(rows)
    for _ in range(STEPS):
        chance = share * odds / np.maximum(share * odds + 1 - share, 1e-300)
        share = (rows * chance).sum(axis=1, keepdims=True)
        share /= np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
    return chance


def _fitted(matches: Floats, mismatches: Floats, logits: Floats) -> _Fit:
    """Fit (B, S) rows labelled so, (S,) logits."""
    rows = len(matches)
    slope = np.full((rows, 1), STEEP)
    offset = np.zeros((rows, 1))
    floor = np.full((rows, 1), 0.02)  # mismatches that are labelled match
    gap = np.full((rows, 1), 0.02)  # matches that are labelled mismatch
    wrong_match = wrong_mismatch = np.zeros_like(matches)
    true = matches
    false = mismatches
    for _ in range(STEPS):
        right = sigmoid(slope * logits + offset)
        labelled = (1 - gap) * right + floor * (1 - right)
        wrong_match = floor * (1 - right) / np.maximum(labelled, 1e-300)
        wrong_mismatch = gap * right / np.maximum(1 - labelled, 1e-300)
        true = matches * (1 - wrong_match) + mismatches * wrong_mismatch
        false = matches * wrong_match + mismatches * (1 - wrong_mismatch)
        gap = _part(mismatches * wrong_mismatch, true)
        floor = _part(matches * wrong_match, false)
        slope, offset = _newton(slope, offset, true, true + false, logits)
    common = false.sum(axis=1, keepdims=True) / np.maximum(true.sum(axis=1, keepdims=True), 1e-12)
    odds = np.exp((slope * logits + offset).clip(-50, 50)) * common
    return _Fit(wrong_match, wrong_mismatch, odds)


def _part(part: Floats, whole: Floats) -> Floats:
    """Map (B, S), twice → (B, 1) the share of the first in the second."""
    share = part.sum(axis=1, keepdims=True) / np.maximum(whole.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(np.minimum(share, MAX_NOISE), np.float64)


def _newton(
    slope: Floats, offset: Floats, true: Floats, rows: Floats, logits: Floats
) -> tuple[Floats, Floats]:
    """Take two steps of a logistic regression, (B, 1) each; a slope stays above 0."""
    powers = np.stack([np.ones_like(logits), logits, logits**2], axis=1)  # (S, 3)
    for _ in range(2):
        chance = sigmoid(slope * logits + offset)
        expected = rows * chance
        weight = expected * (1 - chance) + 1e-9
        by_offset, by_both, by_slope = (weight @ powers).T  # (B,) each
        for_offset, for_slope = ((true - expected) @ powers[:, :2]).T
        area = np.maximum(by_offset * by_slope - by_both**2, 1e-12)
        slope_step = (by_offset * for_slope - by_both * for_offset) / area
        offset_step = (by_slope * for_offset - by_both * for_slope) / area
        slope = np.maximum(slope + slope_step.clip(-1, 1)[:, None], 1e-3)
        offset = offset + offset_step.clip(-2, 2)[:, None]
    return slope, offset


def _share(wrong: Floats, rows: Floats, why: str) -> NoiseShare:
    """Map (2, 1 + B) wrong ones, at most and at least, of all rows and of resamples → their share,
    with an interval that spans both views.
    """
    shares = wrong / np.maximum(rows, 1.0)
    value = float(shares[:, 0].mean())
    spans = [percentiles(view[1:], LEVEL, value=float(view[0])) for view in shares]
    # a share of nothing found has no resamples to move it, and is no proof of none
    spans.append(wilson_interval(value, int(rows[0]), NormalDist().inv_cdf((1 + LEVEL) / 2)))
    low = min(span.low for span in spans)
    whole = np.floor(low * rows[0]) / max(rows[0], 1.0)  # less than one label is none
    interval = Interval(float(whole), max(span.high for span in spans))
    if not why and interval.high - interval.low > MAX_WIDTH:
        why = "the rows leave too much open"
    return NoiseShare(value, interval, int(rows[0]), why)


def _why(cells: _Cells, sizes: Floats, kinds: Sequence[int]) -> str:
    """Return why the share of some kinds can't be known; empty where it can."""
    counts = np.bincount(cells.cell // len(cells.logits), minlength=len(cells.names))
    if min(counts[0], counts[1:].sum()) < MIN_LABEL:
        return f"fewer than {MIN_LABEL} rows have one of the labels"
    if sum(sizes[k] for k in kinds) < MIN_LABEL:
        return f"fewer than {MIN_LABEL} rows are too few"
    dark = [k for k in kinds if not cells.aurocs[k] >= MIN_AUROC]
    if sum(sizes[k] for k in dark) <= MAX_DARK * sum(sizes[k] for k in kinds):
        return ""
    worst = min(dark, key=lambda k: cells.aurocs[k])
    return f"heads rank a match above a mismatch {100 * cells.aurocs[worst]:.0f} times in 100" + (
        "" if worst == 0 else f" where the kind is {cells.names[worst]!r}"
    )
