"""What a threshold is chosen for, as `tune_threshold` is asked: its options, checked together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mismatch.errors import InputError
from mismatch.evaluation.objectives import Objective, check_prevalence
from mismatch.jobs.value_checks import check_number, check_numbers
from mismatch.specs import ReviewBand

__all__ = ["CONFIDENCE", "SHRINKAGE", "ObjectiveName", "ThresholdChoice"]

CONFIDENCE = 0.95  # of `max_missed`
SHRINKAGE = 200.0  # rows
MAX_SHRINKAGE = 1e12  # rows
ObjectiveName = Literal["accuracy", "f1", "balanced-accuracy", "mcc", "cost"]


@dataclass(frozen=True)
class ThresholdChoice:
    """What is chosen, and for what: the parameters of `tune_threshold`, checked."""

    objective: ObjectiveName | None
    cost_miss: float
    cost_false_alarm: float
    target_precision: float | None
    target_recall: float | None
    target_of: Literal["mismatch", "match"]
    max_missed: float | None
    confidence: float
    thresholds: Sequence[float] | None
    slice_column: str | None
    shrinkage: float
    review_band: ReviewBand | None
    max_risk: float | None
    prevalence: float | None

    def __post_init__(self) -> None:
        check_prevalence(self.prevalence)
        check_number("shrinkage", self.shrinkage, 0, MAX_SHRINKAGE)
        if self.thresholds is not None:
            check_numbers("thresholds", self.thresholds, -1, 1)
        self._check_aims()
        self._check_needs()
        self._check_band()

    def _check_aims(self) -> None:
        """Refuse two answers to the question what is chosen."""
        aims = ("objective", "target_precision", "target_recall", "max_missed")
        names = [name for name in aims if getattr(self, name) is not None]
        if len(names) > 1:
            raise InputError(
                f"`{names[0]}` and `{names[1]}` don't go together; one of them says what is chosen"
            )
        if self.slice_column is not None and self.max_missed is not None:
            raise InputError(
                "`max_missed` promises for all rows together; it has no `slice_column`"
            )

    def _check_needs(self) -> None:
        """Refuse an option, changed from its default, without the one that it belongs to."""
        has_target = self.target_precision is not None or self.target_recall is not None
        changed = {
            "cost_miss": (self.cost_miss != 1, self.objective == "cost", "objective='cost'"),
            "cost_false_alarm": (
                self.cost_false_alarm != 1,
                self.objective == "cost",
                "objective='cost'",
            ),
            "target_of": (self.target_of != "mismatch", has_target, "target_precision"),
            "confidence": (
                self.confidence != CONFIDENCE,
                self.max_missed is not None,
                "max_missed",
            ),
            "shrinkage": (
                self.shrinkage != SHRINKAGE,
                self.slice_column is not None,
                "slice_column",
            ),
        }
        for name, (is_changed, has_other, other) in changed.items():
            if is_changed and not has_other:
                raise InputError(f"`{name}` has no effect without `{other}`; pass both or neither")

    def _check_band(self) -> None:
        """Refuse two answers to the question which scores are reviewed."""
        band: object = self.review_band
        if band is not None and not isinstance(band, ReviewBand):
            raise InputError(
                f"`review_band` is a {type(band).__name__}; a mismatch.ReviewBand is needed",
                option="review_band",
            )
        if band is not None and self.max_risk is not None:
            raise InputError(
                "`review_band` gives a band and `max_risk` chooses one; pass one of the two"
            )
        if self.slice_column is not None and (band is not None or self.max_risk is not None):
            raise InputError("`slice_column` and a review band don't go together")

    @property
    def is_default(self) -> bool:
        """Return whether nobody has said what is chosen."""
        aims = (self.objective, self.target_precision, self.target_recall, self.max_missed)
        return all(aim is None for aim in aims)

    def goal(self) -> Objective | None:
        """Return what is best; None for `max_missed`."""
        goal = self._goal()
        return None if goal is None else replace(goal, prevalence=self.prevalence)

    def _goal(self) -> Objective | None:
        if self.max_missed is not None:
            return None
        if self.target_precision is not None:
            return Objective("precision", target=self.target_precision, of=self.target_of)
        if self.target_recall is not None:
            return Objective("recall", target=self.target_recall, of=self.target_of)
        if self.objective != "cost":
            return Objective(self.objective or "accuracy")
        if self.cost_miss == self.cost_false_alarm:
            raise InputError(
                "`objective='cost'` with equal costs is accuracy; pass `cost_miss` and"
                " `cost_false_alarm`"
            )
        return Objective("cost", self.cost_miss, self.cost_false_alarm)
