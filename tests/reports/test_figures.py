"""Figures of a threshold as lines for people."""

from __future__ import annotations

from mismatch.evaluation.threshold import FIGURES
from mismatch.reports.figures import (
    FIGURE_NAMES,
    decimal_range,
    figure_lines,
    percent_range,
    weighed_lines,
)


def test_figures_have_a_line_each() -> None:
    assert set(FIGURE_NAMES) == set(FIGURES)
    lines = figure_lines(dict.fromkeys(FIGURES, 0.5), dict.fromkeys(FIGURES, (0.4, 0.6)))
    assert len(lines) == len(FIGURES)
    assert lines[1] == "mismatches: precision  0.5000  0.4000..0.6000"
    assert decimal_range(float("nan"), float("nan")) == "–"
    assert percent_range(0.1, 0.25) == "10.0% to 25.0%"
    assert percent_range(float("nan"), float("nan")) == "–"


def test_a_figure_that_does_not_exist_is_a_dash() -> None:
    nan = float("nan")
    lines = figure_lines(dict.fromkeys(FIGURES, nan), dict.fromkeys(FIGURES, (nan, nan)))
    assert not any("nan" in line for line in lines)
    assert lines[1] == "mismatches: precision  –       –"


def test_a_share_of_mismatches_is_said_where_it_was_given() -> None:
    assert weighed_lines(None) == []
    [line] = weighed_lines(0.03)
    assert "3 % are mismatches" in line
