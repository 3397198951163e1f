"""A calibration, as lines for people on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mismatch.reports.figures import decimal_range, dropped_lines, figure_lines, weighed_lines

if TYPE_CHECKING:
    from mismatch.jobs.calibration_result import CalibrationResult

__all__ = ["calibration_lines"]

ENOUGH = 500  # rows, below which it says how far to trust it
FLAT = 0.1  # between the least and the largest probability, below which a score says little


def calibration_lines(result: CalibrationResult) -> list[str]:
    """Return the result for people."""
    threshold = result.threshold
    mismatches = result.rows - result.matches
    unit = "logit" if result.before["log_loss"] == result.before["log_loss"] else "cosine"
    lines = [
        (
            f"{result.rows:,} rows, {result.matches:,} matches and {mismatches:,} mismatches; AUROC"
            f" {result.auroc:.4f}, which a calibration doesn't change"
        ),
        f"calibration: {result.calibration.kind}",
        "",
        f"{'':<12}before  after (rows that the fit has not seen)",
    ]
    for name, words in (("log_loss", "log-loss"), ("brier", "Brier score"), ("ece", "ECE")):
        old = result.before[name]
        was = "–     " if old != old else f"{old:.4f}"
        lines.append(f"{words:<12}{was}  {result.after[name]:.4f}")
    lines += [
        "",
        f"{unit}     probability  {result.level:.0%} of the times, had other rows been labelled",
    ]
    lines += [
        f"{point.logit:<9.4g}  {point.probability:.4f}       {decimal_range(*point.interval)}"
        for point in result.points
    ]
    lines += [
        "",
        f"threshold {threshold.value:.4f} ({threshold.objective})",
        f"{'':<21}  these   {result.level:.0%} of the times, on new rows",
    ]
    values = {name: figure.value for name, figure in result.figures.items()}
    lines += figure_lines(
        values, {name: figure.interval for name, figure in result.figures.items()}
    )
    probabilities = [point.probability for point in result.points]
    if (spread := max(probabilities) - min(probabilities)) < FLAT:
        lines.append(
            f"the probabilities hardly differ (by {spread:.4f}): on these rows the model's scores"
            " tell next to nothing of matches and mismatches; check the labels, or train it"
        )
    lines += weighed_lines(result.prevalence)
    if result.rows < ENOUGH:
        times = (ENOUGH / result.rows) ** 0.5
        lines.append(
            f"{result.rows:,} rows are few: believe the intervals; with {ENOUGH} labels they are"
            f" {times:.1f} times as narrow"
        )
    return lines + dropped_lines(result.dropped)
