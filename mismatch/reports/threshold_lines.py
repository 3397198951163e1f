"""A chosen threshold, as lines for people on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mismatch.reports.figures import dropped_lines, figure_lines, percent_range, weighed_lines

if TYPE_CHECKING:
    from mismatch.jobs.tune_threshold import ThresholdResult

__all__ = ["threshold_lines"]

FEW = 200  # rows, below which intervals are so wide that it says so
COLUMNS = (
    "mismatch_precision",
    "mismatch_recall",
    "mismatch_f1",
    "match_precision",
    "match_recall",
    "match_f1",
)
HEADS = f"{'precision':<11}{'recall':<8}F1"


def threshold_lines(result: ThresholdResult) -> list[str]:
    """Return the result for people."""
    from mismatch.evaluation.threshold import describe_objective

    threshold = result.threshold
    words = describe_objective(threshold.objective)
    lines = [
        f"threshold {threshold.value:.4f}: {words}, on {result.rows:,} rows",
        "",
        f"{'':<21}  these   {result.level:.0%} of the times, on new rows",
    ]
    values = {name: figure.value for name, figure in result.figures.items()}
    lines += figure_lines(
        values, {name: figure.interval for name, figure in result.figures.items()}
    )
    lines += weighed_lines(result.prevalence)
    if result.rows < FEW:
        lines.append(
            f"{result.rows:,} rows are few: believe the intervals, not the figures; {FEW} and more"
            " make them narrower"
        )
    lines += [
        "",
        f"{'':<11}{'of the mismatches':<26}{'of the matches':<26}called",
        f"{'threshold':<11}{HEADS:<26}{HEADS:<26}mismatches",
    ]
    lines += [_row(row) for row in result.thresholds]
    return lines + _band_lines(result) + _slice_lines(result) + dropped_lines(result.dropped)


def _row(row: dict[str, float]) -> str:
    """Return one line of the table of thresholds."""
    cells = [f"{row[name]:.4f}" if row[name] == row[name] else "–" for name in COLUMNS]
    sides = [f"{precision:<11}{recall:<8}{f1}" for precision, recall, f1 in (cells[:3], cells[3:])]
    return f"{row['threshold']:<11.4g}{sides[0]:<26}{sides[1]:<26}{row['alarm_rate']:.1%}"


def _band_lines(result: ThresholdResult) -> list[str]:
    """Return what is said of the review band."""
    band = result.review
    left = result.coverage
    if band is None or left is None:
        return []
    alone = (
        f"the machine decides {left.automatic:.1%} of the rows alone"
        f" ({percent_range(*left.automatic_interval)})"
    )
    return [
        "",
        f"review band {band.low:.4f} to {band.high:.4f}: {alone}",
        f"and is wrong in {left.risk:.2%} of these ({percent_range(*left.risk_interval)})",
    ]


def _slice_lines(result: ThresholdResult) -> list[str]:
    """Return what is said of thresholds by slice."""
    slices = result.slices
    if slices is None:
        return []
    common = f"any other value: {result.threshold.value:.4f}"
    rows = [
        f"  {value:.4f}  {name}  ({slices.rows[name]:,} rows)"
        for name, value in slices.values.items()
    ]
    return ["", f"thresholds by {slices.column} ({common})", *rows]
