"""Platt scaling finds the slope and intercept that made the labels, and stays sane where there are
none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.calibration import (
    fit_calibration,
    fit_piecewise,
    fit_platt,
    fit_temperature,
)
from mismatch.evaluation.metrics import auroc, expected_calibration_error, log_loss
from mismatch.runtime.scoring import log_odds, scores_from_logits, sigmoid
from mismatch.specs import Calibration, ScoreSpec


def simulated(
    slope: float, intercept: float, rows: int = 60_000, center: float = 0.0, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    logits = center + spread * rng.normal(size=rows)
    return logits, (rng.random(rows) < sigmoid(slope * logits + intercept)).astype(int)


def scores(logits: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    return scores_from_logits(logits, ScoreSpec("probability", 0.5, calibration))


@pytest.mark.parametrize(
    ("slope", "intercept", "center", "spread"),
    [
        (1.0, 0.0, 0, 1),
        (2.5, -1.0, 0, 1),
        (0.3, 0.7, 2, 3),
        (40.0, -8.0, 0.2, 0.05),
        (0.01, 0.1, 50, 200),
    ],
)
def test_it_recovers_what_made_the_labels(
    slope: float, intercept: float, center: float, spread: float
) -> None:
    logits, labels = simulated(slope, intercept, center=center, spread=spread)
    fitted = fit_platt(logits, labels)
    assert fitted.slope == pytest.approx(slope, rel=0.05)
    assert fitted.slope * center + fitted.intercept == pytest.approx(
        slope * center + intercept, abs=0.05
    )
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
def test_what_can_not_be_fitted_is_refused(
    logits: list[float], labels: list[int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        fit_platt(logits, labels)


def held_out(calibration: Calibration, curve: Any, seed: int = 9) -> float:
    """Log-loss on rows that it has not seen."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, 20_000)
    return log_loss(
        (rng.random(20_000) < sigmoid(curve(logits))).astype(int), scores(logits, calibration)
    )


CURVES = {
    "temperature": lambda x: 2 * x,
    "platt": lambda x: 1.5 * x - 1,
    "piecewise": lambda x: np.where(x < 0, 0.4 * x, 2.5 * x),
}


@pytest.mark.parametrize("kind", CURVES)
def test_the_kind_that_made_the_labels_is_chosen(kind: str) -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 8_000)
    labels = (rng.random(8_000) < sigmoid(CURVES[kind](logits))).astype(int)
    fitted = fit_calibration(logits, labels)
    assert fitted.kind == kind
    ideal = held_out_ideal(CURVES[kind])
    assert held_out(fitted, CURVES[kind]) < ideal + 0.005
    if kind == "piecewise":
        assert (
            held_out(fitted, CURVES[kind])
            < held_out(fit_platt(logits, labels), CURVES[kind]) - 0.01
        )


def held_out_ideal(curve: Any) -> float:
    rng = np.random.default_rng(9)
    logits = rng.normal(0, 2, 20_000)
    return log_loss(
        (rng.random(20_000) < sigmoid(curve(logits))).astype(int), sigmoid(curve(logits))
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_bent_calibration_keeps_every_rank_and_has_neither_jumps_nor_plateaus(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, 2_000)
    # steps, which no bounded slope follows
    labels = (rng.random(2_000) < sigmoid(np.sign(logits) * 6 * (np.abs(logits) > 1))).astype(int)
    fitted = fit_piecewise(logits, labels)
    assert fitted.kind == "piecewise"
    slopes = np.diff(fitted.bent) / np.diff(fitted.knots)
    assert (slopes >= 0.25 - 1e-9).all()
    assert (slopes <= 4 + 1e-9).all()
    line = np.linspace(-30, 30, 5_001)
    rise = np.diff(log_odds(line, fitted)) / np.diff(line)
    assert (rise >= 0.25 * fitted.slope - 1e-9).all()
    assert (rise <= 4 * fitted.slope + 1e-9).all()
    assert auroc(labels, log_odds(logits, fitted)) == auroc(labels, logits)


def test_cosines_within_a_tenth_become_probabilities() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(3_000) < 0.5).astype(int)
    cosines = rng.normal(0.22 + 0.04 * labels, 0.02)
    fitted = fit_calibration(cosines, labels)
    probabilities = scores(cosines, fitted)
    assert fitted.kind == "platt"
    assert expected_calibration_error(labels, probabilities) < 0.03
    assert probabilities.min() < 0.05
    assert probabilities.max() > 0.95


def test_few_rows_are_not_bent() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 900)
    labels = (rng.random(900) < sigmoid(CURVES["piecewise"](logits))).astype(int)
    assert fit_calibration(logits, labels).kind == "platt"
    assert fit_calibration(logits, labels, kind="piecewise").kind == "piecewise"


def test_one_mismatch_alone_is_calibrated_too() -> None:
    """No fold without it has both labels."""
    assert fit_calibration([1.0, 2.0, 3.0, -1.0], [1, 1, 1, 0]).kind == "platt"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(
        InputError, match="no calibration 'isotonic'; one of auto, temperature, platt, piecewise"
    ):
        fit_calibration([0.0, 1.0], [0, 1], kind="isotonic")
    with pytest.raises(InputError, match=r"no calibration \[\]"):
        fit_calibration([0.0, 1.0], [0, 1], kind=[])  # type: ignore[arg-type]


def test_temperature_leaves_the_middle_where_it_is() -> None:
    logits, labels = simulated(2.0, 0.0, rows=5_000)
    fitted = fit_temperature(logits, labels)
    assert (fitted.kind, fitted.intercept) == ("temperature", 0.0)
    assert fitted.slope == pytest.approx(2.0, rel=0.1)
    assert fit_temperature([0.0, 0.0], [0, 1]).slope > 0
