"""What a calibration says as a value; how it comes about is in test_calibrate."""

from __future__ import annotations

import json
from typing import Any

from mismatch.evaluation.threshold import FIGURES
from mismatch.jobs.calibration_result import CalibrationResult, Figure, Point
from mismatch.specs import Calibration, Threshold

QUALITY = {"log_loss": 0.3, "brier": 0.1, "ece": 0.02}


def result(**more: Any) -> CalibrationResult:
    facts: dict[str, Any] = {
        "model": "m",
        "rows": 80,
        "matches": 4,
        "auroc": 0.9,
        "calibration": Calibration(1.0, 0.0, 80),
        "threshold": Threshold(0.4, "mcc", 80, "2026-03-04"),
        "before": QUALITY,
        "after": QUALITY,
        "figures": dict.fromkeys(FIGURES, Figure(0.5, (0.4, 0.6))),
        "points": [Point(0.0, 0.1, (0.0, 0.2)), Point(1.0, 0.8, (0.7, 0.9))],
        "level": 0.95,
    }
    return CalibrationResult(**(facts | more))


def test_it_is_plain_json_without_what_the_caller_gave() -> None:
    facts = json.loads(json.dumps(result().to_dict()))
    assert facts["figures"]["accuracy"] == {"value": 0.5, "interval": [0.4, 0.6]}
    assert facts["prevalence"] is None
    assert "level" not in facts


def test_what_does_not_exist_is_a_dash_for_people() -> None:
    nan = float("nan")
    lines = result(figures=dict.fromkeys(FIGURES, Figure(nan, (nan, nan)))).summary()
    assert not any("nan" in line for line in lines)
    assert any("5 % are mismatches" in line for line in result(prevalence=0.05).summary())
