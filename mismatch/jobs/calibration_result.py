"""What a calibration says: the fit, its threshold, and how far other rows could move both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mismatch.jobs.results import Result
from mismatch.reports.calibration_lines import calibration_lines
from mismatch.specs import Calibration, Threshold

__all__ = ["CalibrationResult", "Figure", "Point"]


class Figure(NamedTuple):
    """A figure, and how far other rows could move it."""

    value: float
    interval: tuple[float, float]  # low and high, at the `level` that was asked for


@dataclass(frozen=True)
class Point:
    """The probability at one logit, and where it would lie had other rows been labelled."""

    logit: float  # a raw backbone's is its cosine
    probability: float  # a match's, 0..1
    interval: tuple[float, float]  # the probability's low and high


@dataclass(frozen=True)
class CalibrationResult(Result):
    """A calibration with its threshold, and how good both are.

    `model`: folder or name, as given.
    `rows`: labelled ones that could be scored.
    `matches`: those of `rows` with label 1.
    `auroc`: 0..1; a calibration doesn't change it.
    `calibration`: slope, intercept and knots, as they are stored.
    `threshold`: the new threshold, on the calibrated probability 0..1.
    `before`: log_loss, brier and ece as the model was; nan for raw cosines.
    `after`: the same figures of the calibrated model, on rows that the fit has not seen.
    `figures`: accuracy, precision, recall and F1, 0..1, to expect of new rows.
    `points`: the probability, 0..1, and its interval at some logits.
    `level`: level of the intervals, 0.5..0.999.
    `dropped`: what the model had and loses: thresholds by slice, a review band; in words.
    `prevalence`: share of mismatches, 0..1, that `figures` are for; None: as among the rows.
    """

    model: str
    rows: int
    matches: int
    auroc: float
    calibration: Calibration
    threshold: Threshold
    before: dict[str, float]
    after: dict[str, float]
    figures: dict[str, Figure]
    points: list[Point]
    level: float
    dropped: tuple[str, ...] = ()
    prevalence: float | None = None

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return calibration_lines(self)

    def to_dict(self) -> dict[str, object]:
        """Return it with plain JSON types only, under the names of its fields."""
        figures = {
            name: {"value": figure.value, "interval": list(figure.interval)}
            for name, figure in self.figures.items()
        }
        facts = super().to_dict() | {"figures": figures}
        del facts["level"]  # the caller gave it
        return facts
