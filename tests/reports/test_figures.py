"""Figures of a threshold as lines for people."""

from __future__ import annotations

from mismatch.evaluation.threshold import FIGURES
from mismatch.reports.figures import FIGURE_NAMES, decimal_range, figure_lines, percent_range


def test_figures_have_a_line_each() -> None:
    assert set(FIGURE_NAMES) == set(FIGURES)
    lines = figure_lines(dict.fromkeys(FIGURES, 0.5), dict.fromkeys(FIGURES, (0.4, 0.6)))
    assert len(lines) == len(FIGURES)
    assert lines[1] == "mismatches: precision  0.5000  0.4000..0.6000"
    assert decimal_range(float("nan"), float("nan")) == "–"
    assert percent_range(0.1, 0.25) == "10.0% to 25.0%"
    assert percent_range(float("nan"), float("nan")) == "–"
