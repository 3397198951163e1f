"""Parts of the rows have the figures of these rows alone."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.evaluation.metrics import binary_metrics
from mismatch.evaluation.slice_metrics import MAX_SLICE_VALUES, by_kind, by_value, measured

LABELS = np.array([1, 0, 1, 0, 1, 0, 0, 1])
SCORES = np.array([0.9, 0.2, 0.7, 0.8, 0.3, 0.6, 0.1, 0.8])
CUTS = np.full(8, 0.5)
IMAGES = list("aabbccdd")


def test_measured_counts_rows_and_has_an_interval_for_every_figure() -> None:
    found = measured(LABELS, SCORES, 0.5, groups=IMAGES)
    assert (found["rows"], found["mismatches"]) == (8, 4)
    assert found["metrics"]["accuracy"] == pytest.approx(5 / 8)
    assert set(found["metrics"]) - set(found["intervals"]) == {"confusion_matrix"}
    assert all(
        low <= found["metrics"]["accuracy"] <= high
        for low, high in [found["intervals"]["accuracy"]]
    )


def test_values_of_a_column_the_most_frequent_first() -> None:
    column = ["x", "x", "y", "y", "y", "y", "x", "z"]
    found = by_value(column, LABELS, SCORES, CUTS, IMAGES)
    assert list(found) == ["y", "x"]  # z has one row
    inside = [2, 3, 4, 5]
    assert (
        found["y"]["metrics"]["auroc"]
        == binary_metrics(LABELS[inside], SCORES[inside], 0.5)["auroc"]
    )
    assert found["y"]["metrics"]["confusion_matrix"] == [[0, 2], [1, 1]]


def test_a_row_is_decided_by_its_own_threshold() -> None:
    cuts = np.where(np.arange(8) < 4, 0.85, 0.5)
    assert by_value(["x"] * 4 + ["y"] * 4, LABELS, SCORES, cuts, IMAGES)["x"]["metrics"][
        "confusion_matrix"
    ] == [[2, 0], [1, 1]]


def test_each_kind_of_mismatch_stands_against_all_matches() -> None:
    column = ["match", "random", "match", "hard", "match", "hard", "random", "match"]
    found = by_kind(column, LABELS, SCORES, CUTS, IMAGES)
    assert list(found) == ["random", "hard"]
    assert found["hard"]["metrics"]["confusion_matrix"] == [[0, 2], [1, 3]]
    assert found["random"]["metrics"]["mismatch_recall"] == 1
    assert (found["random"]["rows"], found["random"]["mismatches"]) == (6, 2)


def test_of_many_values_only_the_most_frequent_are_measured() -> None:
    column = [str(i // 2) for i in range(2 * MAX_SLICE_VALUES + 20)]
    truth = np.arange(len(column)) % 2
    assert (
        len(by_value(column, truth, truth * 0.5, np.full(len(column), 0.2), column))
        == MAX_SLICE_VALUES
    )
