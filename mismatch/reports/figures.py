"""Figures of a threshold as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "FIGURE_NAMES",
    "decimal_range",
    "dropped_lines",
    "figure_lines",
    "percent_range",
    "weighed_lines",
]

FIGURE_NAMES = {  # as FIGURES of evaluation/threshold.py has them → for people
    "accuracy": "accuracy",
    "mismatch_precision": "mismatches: precision",
    "mismatch_recall": "mismatches: recall",
    "mismatch_f1": "mismatches: F1",
    "match_precision": "matches: precision",
    "match_recall": "matches: recall",
    "match_f1": "matches: F1",
    "alarm_rate": "called mismatches",
}


def figure_lines(
    figures: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> list[str]:
    """Return a line for each figure, with its interval (low, high)."""
    width = max(map(len, FIGURE_NAMES.values()))
    return [
        f"{words:<{width}}  {_decimal(figures[name])}  {decimal_range(*intervals[name])}"
        for name, words in FIGURE_NAMES.items()
    ]


def _decimal(value: float) -> str:
    """Return four decimals, or a dash for a figure that does not exist."""
    return f"{value:.4f}" if value == value else "–     "


def weighed_lines(prevalence: float | None) -> list[str]:
    """Return a line on the share of mismatches that figures are for, where it was given."""
    if prevalence is None:
        return []
    share = f"{100 * prevalence:g} %"
    return [f"these figures are for pairs of which {share} are mismatches; the rows are weighed so"]


def dropped_lines(dropped: Sequence[str]) -> list[str]:
    """Return a line on what of a model's decisions goes with its earlier scores or threshold."""
    if not dropped:
        return []
    return [f"the model loses {' and '.join(dropped)}; `mismatch tune-threshold` chooses others"]


def decimal_range(low: float, high: float) -> str:
    """Return `0.9312..0.9587`, or a dash where there is no interval."""
    return "–" if low != low else f"{low:.4f}..{high:.4f}"


def percent_range(low: float, high: float) -> str:
    """Return `93.1% to 95.9%`, or a dash where there is no interval."""
    return "–" if low != low else f"{low:.1%} to {high:.1%}"
