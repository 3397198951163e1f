"""How logits become scores and scores decisions, as data: frozen dataclasses that a model's folder
carries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self

from mismatch.errors import InputError
from mismatch.reference import Reference
from mismatch.spec_base import Spec, brief, check_choice

__all__ = [
    "Calibration",
    "LongText",
    "ReviewBand",
    "ScoreKind",
    "ScoreSpec",
    "SliceThresholds",
    "Threshold",
    "slice_key",
]

WHOLE_NUMBER = re.compile(r"(-?\d+)\.0")
TRUTH = re.compile("true|false", re.IGNORECASE)
MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d(:\d\d)?)(\.(?P<fraction>\d+))?"
    r" ?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)

LARGEST_LOG_ODDS = 1e9  # beyond any real calibration; scores would overflow far beyond it
SLACK = 1e-6  # by which rounding may take a cosine over 1, and a threshold over the highest score

CalibrationKind = Literal["temperature", "platt", "piecewise"]


@dataclass(frozen=True)
class Calibration(Spec):
    """probability = sigmoid(bend(slope · logit + intercept)).

    `temperature` has no intercept, `platt` both; `piecewise` bends the log-odds along straight
    lines between knots, the outer ones going on without end.

    `slope`: factor of the logit, > 0, so that ranks stay.
    `intercept`: what is added to slope * logit.
    `rows`: validation rows that it was fitted on.
    `kind`: temperature, platt or piecewise; files of earlier versions, which lack this and the next
        two, mean platt.
    `knots`: log-odds before the bend, rising; piecewise only.
    `bent`: log-odds after it, at the knots, rising too.
    """

    slope: float
    intercept: float
    rows: int
    kind: CalibrationKind = "platt"
    knots: tuple[float, ...] = ()
    bent: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self, "kind", CalibrationKind)
        if (
            (self.kind == "piecewise") != (len(self.knots) > 1)
            or len(self.knots) != len(self.bent)
            or not self.slope > 0
        ):
            raise InputError(
                f"a {self.kind} calibration of slope {self.slope} has {len(self.knots)} knots and"
                f" {len(self.bent)} values; calibrate again"
            )
        if not all(a < b for line in (self.knots, self.bent) for a, b in pairwise(line)):
            raise InputError(
                "the knots of a calibration and their values must rise; calibrate again"
            )
        steepness = [
            (high - low) / (right - left)
            for (left, right), (low, high) in zip(
                pairwise(self.knots), pairwise(self.bent), strict=True
            )
        ]
        for value in (self.slope, self.intercept, *self.knots, *self.bent, *steepness):
            if not abs(value) <= LARGEST_LOG_ODDS:
                raise InputError(
                    f"a calibration has the number {value:g}, which no rows lead to; calibrate"
                    " again"
                )


@dataclass(frozen=True)
class Threshold(Spec):
    """A decision threshold and where it came from.

    `value`: on similarity_score: probability 0..1, or cosine -1..1 for zero-shot.
    `objective`: what it maximises or keeps, as `evaluation.objectives` writes it.
    `rows`: validation rows that it was chosen on.
    `date`: ISO 8601, UTC.
    """

    value: float
    objective: str
    rows: int
    date: str


@dataclass(frozen=True)
class ReviewBand(Spec):
    """low <= similarity_score < high: a person should look.

    `low`: lowest similarity_score in the band.
    `high`: similarity_score above the band, which is not in it.
    `rows`: validation rows that it was chosen on; 0: given by hand.
    `max_risk`: share of errors, 0..1, at most, on each side of the band, that it was chosen for;
        None: it was chosen otherwise.
    """

    low: float
    high: float
    rows: int = 0
    max_risk: float | None = None

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise InputError(
                f"a review band from {self.low} to {self.high} is none; give the lower score first"
            )

    def __contains__(self, score: float) -> bool:
        return self.low <= score < self.high

    def holds_threshold(self, threshold: float) -> bool:
        """Return whether all scores below the band are mismatches by this threshold, and all from
        its end on matches.

        Only then are the decisions outside the band those that it was chosen for.
        """
        return self.low <= threshold <= self.high

    def check_thresholds(self, thresholds: Iterable[float], option: str = "review_band") -> None:
        """Refuse a band, given as this `option`, that does not hold one of the thresholds in use:
        InputError.
        """
        for threshold in thresholds:
            if not self.holds_threshold(threshold):
                raise InputError(
                    f"`{option}` from {self.low:g} to {self.high:g} does not hold the threshold"
                    f" {threshold:.4f}, by which the rows outside of it are decided; pass one that"
                    " does",
                    option=option,
                )


@dataclass(frozen=True)
class SliceThresholds(Spec):
    """Thresholds of their own for some values of a column, such as languages or categories; any
    other value has the model's.

    `column`: name of the column.
    `values`: value of the column → threshold on similarity_score.
    `rows`: value of the column → validation rows that its threshold was chosen on.
    """

    column: str
    values: dict[str, float]
    rows: dict[str, int]

    def threshold_of(self, text: str) -> float | None:
        """Return the threshold of a value, as a file of rows has it; None where it has none of its
        own.
        """
        return self.values.get(text, self._by_key.get(slice_key(text)))

    @cached_property
    def _by_key(self) -> dict[str, float]:
        return {slice_key(name): threshold for name, threshold in self.values.items()}


def slice_key(text: str) -> str:
    """Return the one text of all that files and libraries write for a value: `2` of 2.0, `true` of
    True, `2024-01-02` of 2024-01-02T00:00:00.000.
    """
    if TRUTH.fullmatch(text):
        return text.lower()
    if number := WHOLE_NUMBER.fullmatch(text):
        return number[1]  # a table's integers become floating-point as soon as one is missing
    moment = MOMENT.fullmatch(text)
    return text if moment is None else _moment_key(moment)


def _moment_key(moment: re.Match[str]) -> str:
    """Return the day where it is midnight of no zone, else the day, the time and the zone."""
    time = moment["time"] if len(moment["time"]) > len("00:00") else f"{moment['time']}:00"
    fraction = (moment["fraction"] or "").rstrip("0")
    if fraction:
        time += f".{fraction}"
    if moment["zone"] is None:
        return moment["day"] if time == "00:00:00" else f"{moment['day']} {time}"
    zone = "+0000" if moment["zone"] == "Z" else moment["zone"].replace(":", "")
    return f"{moment['day']} {time}{zone}"


ScoreKind = Literal["probability", "cosine"]
LongText = Literal["truncate", "chunk", "chunk-mean"]


@dataclass(frozen=True)
class ScoreSpec(Spec):
    """How logits become `similarity_score`, and from where on that is a match.

    `long_text` says what becomes of a text that is longer than the text tower's context: `truncate`
    scores it without its end; the others cut it into pieces that fit and score each, and the worst
    piece decides (`chunk`), or the mean of their logits (`chunk-mean`).

    `kind`: probability: a sigmoid of the logit, 0..1; cosine: -1..1, of zero-shot.
    `default_threshold`: used where none is stored: 0.5 for a trained model, the backbone's own for
        zero-shot.
    `calibration`: what makes the logit a calibrated one; None: it is taken as it is.
    `threshold`: the stored threshold; None: `default_threshold` is used.
    `long_text`: truncate, chunk or chunk-mean; files of earlier versions, which lack this and the
        next four, mean truncate and none.
    `review`: scores that a person should look at; None: there are none.
    `slices`: thresholds of some values of a column; None: one threshold for all.
    `earlier`: thresholds that were stored before this one, the oldest first.
    `reference`: scores to compare with, of bundles exported with `verify_rows`; else None.
    """

    kind: ScoreKind
    default_threshold: float
    calibration: Calibration | None = None
    threshold: Threshold | None = None
    long_text: LongText = "truncate"
    review: ReviewBand | None = None
    slices: SliceThresholds | None = None
    earlier: tuple[Threshold, ...] = ()
    reference: Reference | None = None

    def __post_init__(self) -> None:
        check_choice(self, "kind", ScoreKind)
        check_choice(self, "long_text", LongText)
        if self.review is not None and self.slices is not None:
            raise InputError(
                "a review band and thresholds by slice don't go together; store one of the two"
            )
        self._check_thresholds()

    def _check_thresholds(self) -> None:
        lowest = 0.0 if self.kind == "probability" else -1.0
        stored = [threshold for threshold in (self.threshold, *self.earlier) if threshold]
        values = [threshold.value for threshold in stored]
        values += [] if self.slices is None else self.slices.values.values()
        for value in (self.default_threshold, *values):
            if not lowest - SLACK <= value <= 1 + SLACK:
                raise InputError(
                    f"a stored threshold is {value:g}, and a {self.kind} lies in {lowest:g}..1;"
                    " choose the threshold again"
                )

    @property
    def threshold_in_use(self) -> float:
        """Return the stored threshold, else the default one."""
        return self.default_threshold if self.threshold is None else self.threshold.value

    @classmethod
    def from_dict(cls, data: dict[str, Any], **more: Any) -> Self:
        """Rebuild from `to_dict`."""
        cls._check_object(data)
        parts: dict[str, Any] = {
            name: kind.from_dict(data[name])
            for name, kind in _PARTS.items()
            if data.get(name) is not None
        }
        earlier = data.get("earlier", ())
        if not isinstance(earlier, list | tuple):
            raise InputError(f"{cls.__name__}.earlier is {brief(earlier)}; a list is needed")
        parts["earlier"] = tuple(Threshold.from_dict(threshold) for threshold in earlier)
        return super().from_dict(data, **parts | more)

    def with_threshold(self, threshold: Threshold) -> Self:
        """Return the same with another threshold; the one so far is remembered, with its date, rows
        and objective.
        """
        return replace(
            self,
            threshold=threshold,
            earlier=self.earlier if self.threshold is None else (*self.earlier, self.threshold),
        )


_PARTS: dict[str, type[Spec]] = {
    "calibration": Calibration,
    "threshold": Threshold,
    "review": ReviewBand,
    "slices": SliceThresholds,
    "reference": Reference,
}
