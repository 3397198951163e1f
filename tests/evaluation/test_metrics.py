"""Figures worked out by hand, and AUROC against counting every pair."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.metrics import (
    auroc,
    average_precision,
    binary_metrics,
    brier_score,
    confusion_matrix,
    expected_calibration_error,
    log_loss,
    matthews,
    reliability,
)

LABELS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
SCORES = [0.9, 0.8, 0.5, 0.2, 0.7, 0.4, 0.3, 0.3, 0.1, 0.0]


def test_counts_at_a_threshold_by_hand() -> None:
    metrics = binary_metrics(LABELS, SCORES, 0.5)  # 0.5 itself is a match
    assert metrics["confusion_matrix"] == [[5, 1], [1, 3]]
    assert metrics["rows"] == 10
    assert metrics["threshold"] == 0.5
    assert metrics["accuracy"] == 0.8
    assert [metrics[name] for name in ("precision", "recall", "f1")] == pytest.approx(
        [3 / 4, 3 / 4, 3 / 4]
    )
    assert [metrics[f"mismatch_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(
        [5 / 6, 5 / 6, 5 / 6]
    )
    assert metrics["auroc"] == pytest.approx((6 + 6 + 5 + 2) / 24)
    assert metrics["average_precision"] == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 8) / 4)


@pytest.mark.parametrize(
    ("threshold", "matrix"),
    [(0.0, [[0, 6], [0, 4]]), (1.0, [[6, 0], [4, 0]]), (0.35, [[4, 2], [1, 3]])],
)
def test_the_confusion_matrix_has_labels_as_rows(threshold: float, matrix: list[list[int]]) -> None:
    assert binary_metrics(LABELS, SCORES, threshold)["confusion_matrix"] == matrix
    assert confusion_matrix(LABELS, np.array(SCORES) >= threshold).tolist() == matrix


def test_without_a_predicted_match_precision_and_f1_are_0() -> None:
    metrics = binary_metrics([1, 0], [0.1, 0.2], 0.5)
    assert [
        metrics[name]
        for name in ("precision", "recall", "f1", "mismatch_precision", "mismatch_recall")
    ] == [0, 0, 0, 0.5, 1]


@pytest.mark.parametrize("seed", range(20))
def test_auroc_counts_pairs_and_half_the_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, 60), [0, 1])
    scores = rng.integers(0, 8, 62) / 8 if seed % 2 else rng.random(62)  # many ties, or none
    wins = [(p > n) + (p == n) / 2 for p, n in product(scores[labels == 1], scores[labels == 0])]
    assert auroc(labels, scores) == pytest.approx(np.mean(wins), abs=1e-12)
    assert auroc(labels, -scores) == pytest.approx(1 - np.mean(wins), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_average_precision_steps_over_distinct_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, scores = np.append(rng.integers(0, 2, 40), 1), rng.integers(0, 6, 41) / 6
    expected, recall = 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        said = scores >= cut
        now = labels[said].sum() / labels.sum()
        expected, recall = expected + (now - recall) * labels[said].mean(), now
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "value"),
    [([0, 1], [0.5, 0.5], 0.5), ([0, 1], [0.1, 0.9], 1.0), ([0, 1], [0.9, 0.1], 0.0)],
)
def test_auroc_at_its_ends(labels: list[int], scores: list[float], value: float) -> None:
    assert auroc(labels, scores) == value


def test_log_loss_by_hand() -> None:
    assert log_loss([1, 0, 1], [0.8, 0.3, 0.5]) == pytest.approx(
        -(math.log(0.8) + math.log(0.7) + math.log(0.5)) / 3
    )
    assert math.isfinite(log_loss([1, 0], [0.0, 1.0]))
    assert math.isnan(log_loss([1, 0], [-0.2, 0.3]))  # cosines are no probabilities


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_a_ranking_does_not_exist(label: int) -> None:
    metrics = binary_metrics([label] * 3, [0.2, 0.6, 0.7], 0.5)
    assert math.isnan(metrics["auroc"])
    assert math.isnan(metrics["average_precision"]) == (label == 0)
    assert metrics["accuracy"] == pytest.approx(2 / 3 if label else 1 / 3)


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([], [], "at least one"),
        ([1], [0.1, 0.2], "equally many"),
        ([[1]], [[0.5]], "equally many"),
        ([2], [0.5], "0 or 1"),
        ([0.5], [0.5], "0 or 1"),
        ([1], [float("nan")], "nan"),
    ],
)
def test_what_can_not_be_measured_is_refused(
    labels: list[float], scores: list[float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        binary_metrics(labels, scores, 0.5)


def test_brier_and_calibration_error_by_hand() -> None:
    labels, scores = [1, 1, 0, 1], [0.9, 0.95, 0.05, 0.05]
    assert brier_score(labels, scores) == pytest.approx((0.01 + 0.0025 + 0.0025 + 0.9025) / 4)
    np.testing.assert_allclose(
        reliability(labels, scores, bins=10), [[0.05, 0.5, 2], [0.925, 1, 2]]
    )
    assert expected_calibration_error(labels, scores, bins=10) == pytest.approx(
        (2 * 0.45 + 2 * 0.075) / 4
    )
    assert expected_calibration_error([1, 0], [1.0, 0.0]) == 0


def test_cosines_have_neither() -> None:
    assert np.isnan(brier_score([1, 0], [0.3, -0.1]))
    assert np.isnan(expected_calibration_error([1, 0], [0.3, -0.1]))
    assert reliability([1, 0], [0.3, -0.1]).shape == (0, 3)


def test_calibrated_scores_are_off_by_chance_alone() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(1000)
    assert (
        0.005 < expected_calibration_error((rng.random(1000) < scores).astype(int), scores) < 0.06
    )


@pytest.mark.parametrize(
    ("counts", "value"),
    [
        ((5, 0, 0, 5), 1),
        ((0, 5, 5, 0), -1),
        ((5, 5, 5, 5), 0),
        ((5, 0, 5, 0), 0),
        ((6, 1, 2, 3), 16 / 1120**0.5),
    ],
)
def test_matthews(counts: tuple[int, int, int, int], value: float) -> None:
    assert matthews(*counts) == pytest.approx(value, abs=0.01)
