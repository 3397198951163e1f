"""Calibrations and thresholds that a model's folder may not carry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.score_specs import Calibration, ScoreKind, ScoreSpec, SliceThresholds, Threshold

BENT = Calibration(1.0, 0.0, 99, "piecewise", knots=(-1.0, 1.0), bent=(-2.0, 3.0))
CHOSEN = Threshold(0.5, "accuracy", 500, "2026-11-26T00:00:00+00:00")


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 1e300},
        {"intercept": -1e300},
        {"knots": (-1e308, 1e308)},
        {"bent": (-1e308, 1e308)},
        {"knots": (0.0, 5e-324)},
    ],
)
def test_numbers_that_would_overflow_are_no_calibration(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="calibrate again"):
        replace(BENT, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "value"), [("probability", 5.0), ("probability", -0.1), ("cosine", -1.5)]
)
def test_a_threshold_lies_where_scores_lie(kind: ScoreKind, value: float) -> None:
    beyond = replace(CHOSEN, value=value)
    changes: list[dict[str, Any]] = [
        {"default_threshold": value},
        {"threshold": beyond},
        {"threshold": CHOSEN, "earlier": (beyond,)},
        {"slices": SliceThresholds("kind", {"a": value}, {"a": 40})},
    ]
    for change in changes:
        with pytest.raises(InputError, match="choose the threshold again"):
            replace(ScoreSpec(kind, 0.5), **change)


def test_a_threshold_may_lie_just_above_every_score() -> None:
    above = replace(CHOSEN, value=1 + 1e-9)
    assert ScoreSpec("probability", 0.5, threshold=above).threshold_in_use > 1
    assert ScoreSpec("cosine", -0.2).threshold_in_use == -0.2
