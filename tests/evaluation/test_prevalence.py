"""Figures where another share of pairs are mismatches than of the rows."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.bootstrap import Interval
from mismatch.evaluation.objectives import FIGURES, CutCounts, Objective
from mismatch.evaluation.prevalence import (
    figures_at_prevalence,
    independent,
    with_rare_alarms,
)
from mismatch.evaluation.threshold import choose_threshold, expected_figures, threshold_table

RANDOM = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 300)
SCORES = 1 / (1 + np.exp(-RANDOM.normal(2.5 * LABELS - 1.25, 1.0)))


def test_figures_follow_from_recall_and_false_alarms() -> None:
    decisions = (SCORES >= 0.5).astype(int)
    found = {
        name: value for name, (value, _) in figures_at_prevalence(LABELS, decisions, 0.03).items()
    }
    recall = float((decisions[LABELS == 0] == 0).mean())
    alarms = float((decisions[LABELS == 1] == 0).mean())
    called = 0.03 * recall + 0.97 * alarms
    assert set(found) == set(FIGURES)
    assert found["mismatch_recall"] == pytest.approx(recall)
    assert found["alarm_rate"] == pytest.approx(called)
    assert found["mismatch_precision"] == pytest.approx(0.03 * recall / called)
    assert found["accuracy"] == pytest.approx(0.03 * recall + 0.97 * (1 - alarms))


def test_their_own_share_changes_nothing() -> None:
    decisions = (SCORES >= 0.5).astype(int)
    [line] = threshold_table(LABELS, SCORES, [0.5])
    for name, (value, interval) in figures_at_prevalence(LABELS, decisions, 0.5).items():
        assert value == pytest.approx(line[name])
        assert interval.low <= value <= interval.high


def test_a_threshold_for_rare_mismatches_raises_fewer_alarms() -> None:
    plain = choose_threshold(LABELS, SCORES)
    rare = choose_threshold(LABELS, SCORES, Objective(prevalence=0.1))
    assert rare.value < plain.value
    assert rare.objective == "accuracy at prevalence 0.1"
    target = choose_threshold(LABELS, SCORES, Objective("precision", target=0.6, prevalence=0.05))
    [line] = threshold_table(LABELS, SCORES, [target.value], prevalence=0.05)
    assert line["mismatch_precision"] >= 0.6
    [at_half] = threshold_table(LABELS, SCORES, [target.value])
    assert at_half["mismatch_precision"] > line["mismatch_precision"]


def test_a_cost_weighs_with_the_prevalence() -> None:
    """A missed mismatch costs 32 times as much where one pair in 33 is one: as 1 to 1 at half."""
    even = choose_threshold(LABELS, SCORES, Objective("accuracy"))
    rare = choose_threshold(LABELS, SCORES, Objective("cost", 32, 1, prevalence=1 / 33))
    assert rare.value == pytest.approx(even.value)


def test_few_false_alarms_leave_the_precision_open() -> None:
    """No false alarm among 100 matches may be one in 27 of all: at 3 %, half of what is called."""
    counts = CutCounts(*(np.array([count]) for count in (100.0, 40.0, 0.0, 60.0)))
    sure = {"mismatch_precision": Interval(1.0, 1.0), "alarm_rate": Interval(0.018, 0.018)}
    found = with_rare_alarms(sure, counts, 0.03, 100)
    assert found["mismatch_precision"].low == pytest.approx(0.334, abs=0.002)
    assert found["mismatch_precision"].high == 1.0
    assert found["alarm_rate"].high == pytest.approx(0.018 + 0.97 * 0.037, abs=0.001)


def test_rows_of_one_image_count_once() -> None:
    assert independent(np.array([1, 1, 1, 0]), ["a", "a", "b", "c"]) == 2
    assert independent(np.array([1, 1, 1, 0]), None) == 3


def test_what_is_expected_of_new_rows_is_for_the_prevalence() -> None:
    objective = Objective("mcc", prevalence=0.05)
    value = choose_threshold(LABELS, SCORES, objective).value
    [line] = threshold_table(LABELS, SCORES, [value], prevalence=0.05)
    found = expected_figures(LABELS, SCORES, objective, prevalence=0.05, resamples=100)
    for name, interval in found.items():
        assert interval.low <= line[name] <= interval.high, name
    again = expected_figures(LABELS, SCORES, objective, prevalence=0.05, resamples=100)
    assert again == found


def test_a_target_out_of_reach_names_the_share() -> None:
    with pytest.raises(InputError, match=r"3 % are mismatches; the best is 0\.\d+"):
        choose_threshold(
            [1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], Objective("precision", target=0.9, prevalence=0.03)
        )
