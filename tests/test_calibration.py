"""Platt scaling finds the slope and intercept that made the labels, and stays sane where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.calibration import fit_platt
from mismatch.evaluation.metrics import auroc, log_loss
from mismatch.runtime.scoring import scores_from_logits, sigmoid
from mismatch.specs import Calibration, ScoreSpec


def simulated(slope: float, intercept: float, rows: int = 60_000, center: float = 0.0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    logits = center + spread * rng.normal(size=rows)
    return logits, (rng.random(rows) < sigmoid(slope * logits + intercept)).astype(int)


def scores(logits: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    return scores_from_logits(logits, ScoreSpec("probability", 0.5, calibration))


@pytest.mark.parametrize(
    ("slope", "intercept", "center", "spread"), [(1.0, 0.0, 0, 1), (2.5, -1.0, 0, 1), (0.3, 0.7, 2, 3), (40.0, -8.0, 0.2, 0.05), (0.01, 0.1, 50, 200)]
)
def test_it_recovers_what_made_the_labels(slope: float, intercept: float, center: float, spread: float) -> None:
    logits, labels = simulated(slope, intercept, center=center, spread=spread)
    fitted = fit_platt(logits, labels)
    assert fitted.slope == pytest.approx(slope, rel=0.05)
    assert fitted.slope * center + fitted.intercept == pytest.approx(slope * center + intercept, abs=0.05)
    assert fitted.rows == 60_000


def test_the_mean_probability_is_the_share_of_matches_and_the_loss_falls() -> None:
    logits, labels = simulated(0.4, -1.0, rows=5_000, spread=4)
    fitted = fit_platt(logits, labels)
    assert scores(logits, fitted).mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert log_loss(labels, scores(logits, fitted)) < log_loss(labels, scores(logits, None)) - 0.1
    assert auroc(labels, scores(logits, fitted)) == auroc(labels, logits)


def test_it_is_the_minimum_of_the_smoothed_loss() -> None:
    logits, labels = simulated(1.3, 0.4, rows=400)
    fitted, n = fit_platt(logits, labels), labels.sum()
    target = np.where(labels == 1, (n + 1) / (n + 2), 1 / (400 - n + 2))

    def loss(slope: float, intercept: float) -> float:
        z = slope * logits + intercept
        return float((np.logaddexp(0, z) - target * z).mean())

    best = loss(fitted.slope, fitted.intercept)
    for a, b in [(1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (1e-3, -1e-3)]:
        assert loss(fitted.slope + a, fitted.intercept + b) > best


def test_logits_that_rank_the_wrong_way_round_keep_a_slope_above_0() -> None:
    logits, labels = simulated(-2.0, 0.0, rows=2_000)
    fitted = fit_platt(logits, labels)
    assert fitted.slope > 0
    assert scores(logits, fitted) == pytest.approx(labels.mean(), abs=0.01)


@pytest.mark.parametrize("gap", [1e-6, 1.0, 1e6])
def test_labels_that_a_cut_separates_give_finite_numbers(gap: float) -> None:
    logits = np.array([-2.0, -1.0, 1.0, 2.0]) * gap
    fitted = fit_platt(logits, [0, 0, 1, 1])
    assert np.isfinite([fitted.slope, fitted.intercept]).all()
    assert fitted.slope > 0
    assert ((scores(logits, fitted) > 0.5) == [False, False, True, True]).all()
    assert 0.5 < scores(logits, fitted)[3] < 0.9  # smoothed targets: 4 rows prove little


@pytest.mark.parametrize("value", [0.0, 3.0, 1e9])
def test_constant_logits_give_the_base_rate(value: float) -> None:
    fitted = fit_platt([value] * 100, [1] * 80 + [0] * 20)
    assert fitted.slope > 0
    assert scores(np.array([value]), fitted)[0] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([1.0, 2.0], [1, 1], "2 and 0"),
        ([1.0, 2.0], [0, 0], "0 and 2"),
        ([], [], "at least one"),
        ([1.0, float("inf")], [0, 1], "finite"),
        ([1.0, float("nan")], [0, 1], "nan"),
        ([1.0], [0, 1], "equally"),
    ],
)
def test_what_can_not_be_fitted_is_refused(logits: list[float], labels: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit_platt(logits, labels)
