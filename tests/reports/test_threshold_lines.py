"""Lines for people about a threshold; whole outputs are in test_tune_threshold."""

from __future__ import annotations

from typing import Any

from mismatch.evaluation.bootstrap import Interval
from mismatch.evaluation.review import Coverage
from mismatch.evaluation.threshold import FIGURES, threshold_table
from mismatch.jobs.calibration_result import Figure
from mismatch.jobs.tune_threshold import ThresholdResult
from mismatch.reports.threshold_lines import threshold_lines
from mismatch.specs import ReviewBand, SliceThresholds, Threshold


def result(**more: Any) -> ThresholdResult:
    facts: dict[str, Any] = {
        "threshold": Threshold(0.4, "f1", 300, "2026-03-04"),
        "figures": {name: Figure(0.9, (0.85, 0.95)) for name in FIGURES},
        "review": None,
        "coverage": None,
        "slices": None,
        "thresholds": threshold_table([0, 1], [0.2, 0.7], [0.5]),
        "model": "m",
        "csv": "rows.csv",
        "rows": 300,
        "stored": True,
        "level": 0.95,
    }
    return ThresholdResult(**(facts | more))


def test_the_threshold_its_figures_and_the_table() -> None:
    lines = threshold_lines(result(level=0.9))
    assert lines[0] == "threshold 0.4000: best F1 of the matches, on 300 rows"
    assert lines[2].endswith("these   90% of the times, on new rows")
    assert lines[-1].split() == ["0.5", *["1.0000"] * 6, "50.0%"]
    assert any("are few" in line for line in threshold_lines(result(rows=60)))


def test_a_band_and_slices_stand_below() -> None:
    left = Coverage(0.8, 0.02, Interval(0.7, 0.9), Interval(0.01, 0.03))
    lines = threshold_lines(result(review=ReviewBand(0.3, 0.5), coverage=left))
    assert lines[-2:] == [
        (
            "review band 0.3000 to 0.5000: the machine decides 80.0% of the rows alone"
            " (70.0% to 90.0%)"
        ),
        "and is wrong in 2.00% of these (1.0% to 3.0%)",
    ]
    slices = SliceThresholds("shop", {"a": 0.35}, {"a": 1200})
    assert threshold_lines(result(slices=slices))[-2:] == [
        "thresholds by shop (any other value: 0.4000)",
        "  0.3500  a  (1,200 rows)",
    ]
