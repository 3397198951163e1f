"""Thresholds where one label is rare, or where labels are the other way round."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.evaluation.threshold import choose_threshold, threshold_table
from mismatch.evaluation.useful_threshold import (
    choose_by_default,
    decides_nothing,
    reversed_labels,
)
from mismatch.specs import Threshold


def drawn(
    share: float, rows: int = 400, gap: float = 1.0, seed: int = 0
) -> tuple[list[int], list[float]]:
    """Labels of which a share are matches, and probabilities that tell them apart by `gap`."""
    random = np.random.default_rng(seed)
    labels = (np.arange(rows) < share * rows).astype(int)
    logits = random.normal(gap * labels, 1.0)
    return labels.tolist(), (1 / (1 + np.exp(-logits))).tolist()


@pytest.mark.parametrize("share", [0.05, 0.95])
@pytest.mark.parametrize("seed", range(6))
def test_where_a_label_is_rare_the_default_still_finds_it(share: float, seed: int) -> None:
    labels, scores = drawn(share, seed=seed)
    chosen = choose_by_default(labels, scores)
    [line] = threshold_table(labels, scores, [chosen.threshold.value])
    assert decides_nothing(chosen.threshold, labels, scores) == ""
    assert 0 < line["alarm_rate"] < 1
    assert min(line["match_recall"], line["mismatch_recall"]) >= 0.1
    if chosen.note:
        assert chosen.threshold.objective == "mcc"
        assert f"{round(share * 400)} of 400 rows" in chosen.note
        assert "`objective`" in chosen.note


def test_where_both_labels_are_common_it_is_the_best_accuracy() -> None:
    labels, scores = drawn(0.5)
    chosen = choose_by_default(labels, scores)
    plain = choose_threshold(labels, scores)
    assert (chosen.threshold.value, chosen.threshold.objective) == (plain.value, "accuracy")
    assert chosen.note == ""


def test_a_prevalence_makes_a_label_rare_too() -> None:
    labels, scores = drawn(0.5)
    chosen = choose_by_default(labels, scores, 0.02)
    assert chosen.threshold.objective == "mcc at prevalence 0.02"
    assert "2 % of the pairs are mismatches" in chosen.note


@pytest.mark.parametrize(("value", "name"), [(0.0, "match"), (1.1, "mismatch")])
def test_a_threshold_that_decides_nothing_is_said(value: float, name: str) -> None:
    labels, scores = drawn(0.05)
    said = decides_nothing(Threshold(value, "accuracy", 400, ""), labels, scores)
    assert f"every row a {name}" in said
    assert "20 of 400 rows" in said
    assert "`objective`" in said


def test_equal_scores_have_no_threshold() -> None:
    chosen = choose_by_default([0, 1, 1], [0.5, 0.5, 0.5])
    assert "all 3 rows have the score 0.5000" in decides_nothing(
        chosen.threshold, [0, 1, 1], [0.5, 0.5, 0.5]
    )


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_labels_the_other_way_round_are_seen(share: float) -> None:
    labels, scores = drawn(share, gap=3.0)
    assert reversed_labels(labels, scores) == ""
    said = reversed_labels([1 - label for label in labels], scores)
    assert "other way round" in said
    assert "`label_map`" in said


@pytest.mark.parametrize("seed", range(20))
def test_chance_is_no_reversal(seed: int) -> None:
    for share in (0.05, 0.5):
        assert reversed_labels(*drawn(share, 100, gap=0.0, seed=seed)) == ""
    assert reversed_labels([1, 1], [0.2, 0.4]) == ""
