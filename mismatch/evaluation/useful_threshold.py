"""Thresholds that tell rows apart: where one label is rare, the best accuracy is reached by calling
every row the other one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mismatch.evaluation.metrics import auroc, checked
from mismatch.evaluation.objectives import CutCounts, Kind, Label, Objective
from mismatch.evaluation.threshold import Cuts, choose_threshold
from mismatch.specs import Threshold

__all__ = ["Chosen", "choose_by_default", "decides_nothing", "reversed_labels"]

MIN_RECALL = 0.1  # of either label; below it the default objective gives way to another one
INSTEAD: Kind = "mcc"  # which is 0 where every row is called one thing
MAX_REVERSED = 0.35  # AUROC, above which labels are not taken for reversed
DEVIATIONS = 3.0  # below 0.5, by which an AUROC is no chance


class Chosen(NamedTuple):
    """A threshold and what is to be said of its choice."""

    threshold: Threshold
    note: str  # a sentence; empty where there is nothing to say


def choose_by_default(
    labels: ArrayLike, scores: ArrayLike, prevalence: float | None = None
) -> Chosen:
    """Map (N,) labels, (N,) scores → the threshold of the best accuracy, or that of the best
    Matthews correlation where the first hardly finds one of the labels; a note then says so.
    """
    best = choose_threshold(labels, scores, Objective(prevalence=prevalence))
    counts = Cuts(labels, scores).counts([best.value])
    recalls: dict[Label, float] = {
        "match": float(counts.recall("match")[0]),
        "mismatch": float(counts.recall("mismatch")[0]),
    }
    missed = min(recalls, key=lambda label: recalls[label])
    if recalls[missed] >= MIN_RECALL:
        return Chosen(best, "")
    share = f"{100 * recalls[missed]:.0f} % of the {missed}es"
    note = (
        f"the threshold of the best accuracy finds {share}, {_shares(counts, prevalence)}; the one"
        " of the best Matthews correlation is taken; `objective` chooses otherwise"
    )
    return Chosen(choose_threshold(labels, scores, Objective(INSTEAD, prevalence=prevalence)), note)


def decides_nothing(threshold: Threshold, labels: ArrayLike, scores: ArrayLike) -> str:
    """Return a sentence on a threshold that calls every row a match, or every row a mismatch; empty
    for others.
    """
    cuts = Cuts(labels, scores)
    counts = cuts.counts([threshold.value])
    called = float(counts.true_mismatch[0] + counts.false_mismatch[0])
    rows = len(cuts.truth)
    if 0 < called < rows:
        return ""
    if len(cuts.distinct) == 1:
        return f"all {rows:,} rows have the score {cuts.distinct[0]:.4f}; no threshold parts them"
    name = "mismatch" if called else "match"
    remedy = (
        "the scores tell matches and mismatches apart by nothing: check the labels, or train"
        if threshold.objective.startswith(INSTEAD)
        else f"pass another `objective`, as {INSTEAD}, or another target"
    )
    return (
        f"the threshold that is best for {threshold.objective!r} calls every row a {name},"
        f" {_shares(counts, None)}; {remedy}"
    )


def reversed_labels(labels: ArrayLike, scores: ArrayLike) -> str:
    """Return a sentence where scores are clearly lower for matches than for mismatches, as labels
    the other way round make them; empty elsewhere.
    """
    truth, values = checked(labels, scores)
    matches = int(truth.sum())
    mismatches = len(truth) - matches
    area = auroc(truth, values)
    if not matches or not mismatches or area > MAX_REVERSED:
        return ""
    deviation = np.sqrt((len(truth) + 1) / (12 * matches * mismatches))  # of no skill
    if area > 0.5 - DEVIATIONS * deviation:
        return ""
    return (
        f"the scores of matches are lower than those of mismatches, AUROC {area:.4f}: are the"
        " labels the other way round? 1 means that the text describes the image; `label_map` names"
        " them otherwise"
    )


def _shares(counts: CutCounts, prevalence: float | None) -> str:
    """Return how common either label is."""
    if prevalence is not None:
        return f"as {100 * prevalence:g} % of the pairs are mismatches"
    matches = int(counts.true_match[0] + counts.false_mismatch[0])
    return f"as matches are {matches:,} of {int(counts.rows[0]):,} rows"
