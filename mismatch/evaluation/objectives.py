"""What a threshold is chosen for: the best of a figure, the least cost, or a share that is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import InputError

__all__ = ["FIGURES", "NAMES", "CutCounts", "Kind", "Label", "Objective", "check_prevalence"]

Floats = NDArray[np.float64]
Kind = Literal["accuracy", "f1", "balanced-accuracy", "mcc", "cost", "precision", "recall"]
Label = Literal["mismatch", "match"]
AT = " at prevalence "
MAX_COST = 1e12  # above which sums over rows may no longer be finite
# objectives that need no target and no costs; f1 is that of the matches
NAMES = ("accuracy", "f1", "balanced-accuracy", "mcc")
WRITTEN = re.compile(
    r"(?:(?P<plain>[a-z0-9-]+)|cost:miss=(?P<miss>[^,]+),alarm=(?P<alarm>\S+)|(?P<label>\w+)"
    r" (?P<share>precision|recall)>=(?P<target>\S+))(?: at prevalence (?P<prevalence>.+))?"
)


def check_prevalence(prevalence: object) -> None:
    """Raise InputError for what is no share of mismatches; None is one that nobody has given."""
    if prevalence is None:
        return
    is_number = isinstance(prevalence, (int, float)) and not isinstance(prevalence, bool)
    if not is_number or not 0 < float(cast(float, prevalence)) < 1:
        raise InputError(
            f"`prevalence` is {prevalence!r}; the share of mismatches in use is needed, above 0 and"
            " below 1: 0.03 for three in a hundred",
            option="prevalence",
        )


@dataclass(frozen=True)
class CutCounts:
    """At each of K cuts: how many matches and mismatches lie at or above it, and below it. (K,)
    each; no whole numbers where rows are weighed.
    """

    true_match: Floats
    false_match: Floats  # missed mismatches
    false_mismatch: Floats  # false alarms
    true_mismatch: Floats

    def precision(self, label: Label) -> Floats:
        """Return the precision of the label; nan where no row is decided that way."""
        right, wrong = (
            (self.true_match, self.false_match)
            if label == "match"
            else (self.true_mismatch, self.false_mismatch)
        )
        return _share(right, right + wrong)

    def recall(self, label: Label) -> Floats:
        """Return the recall of the label."""
        right, missed = (
            (self.true_match, self.false_mismatch)
            if label == "match"
            else (self.true_mismatch, self.false_match)
        )
        return _share(right, right + missed)

    def f1(self, label: Label) -> Floats:
        """Return the harmonic mean of precision and recall."""
        right = self.true_match if label == "match" else self.true_mismatch
        return _share(2 * right, 2 * right + self.false_match + self.false_mismatch)

    def at_prevalence(self, prevalence: float | None) -> CutCounts:
        """Return the counts of as many rows, of which this share are mismatches; None: as they
        are.
        """
        if prevalence is None:
            return self
        matches = self.true_match + self.false_mismatch
        mismatches = self.true_mismatch + self.false_match
        rows = matches + mismatches
        match_weight = _share(rows * (1 - prevalence), matches)
        mismatch_weight = _share(rows * prevalence, mismatches)
        return CutCounts(
            self.true_match * match_weight,
            self.false_match * mismatch_weight,
            self.false_mismatch * match_weight,
            self.true_mismatch * mismatch_weight,
        )

    @property
    def rows(self) -> Floats:
        """Return how many rows there are, at each threshold."""
        return self.true_match + self.false_match + self.false_mismatch + self.true_mismatch

    @property
    def accuracy(self) -> Floats:
        """Return the share of right decisions."""
        return (self.true_match + self.true_mismatch) / self.rows

    @property
    def alarms(self) -> Floats:
        """Return the share of the rows that are called mismatches."""
        return (self.true_mismatch + self.false_mismatch) / self.rows

    @property
    def mcc(self) -> Floats:
        """Return Matthews correlation; 0 where all rows have one label or one decision."""
        called = self.true_match + self.false_match
        others = self.true_mismatch + self.false_mismatch
        matches = self.true_match + self.false_mismatch
        mismatches = self.true_mismatch + self.false_match
        below = np.sqrt(called * others * matches * mismatches)
        return np.nan_to_num(
            _share(
                self.true_match * self.true_mismatch - self.false_match * self.false_mismatch, below
            )
        )


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return share


# what is said of a threshold → from its counts
FIGURES: dict[str, Callable[[CutCounts], Floats]] = {
    "accuracy": lambda counts: counts.accuracy,
    "mismatch_precision": lambda counts: counts.precision("mismatch"),
    "mismatch_recall": lambda counts: counts.recall("mismatch"),
    "mismatch_f1": lambda counts: counts.f1("mismatch"),
    "match_precision": lambda counts: counts.precision("match"),
    "match_recall": lambda counts: counts.recall("match"),
    "match_f1": lambda counts: counts.f1("match"),
    "alarm_rate": lambda counts: counts.alarms,
}


@dataclass(frozen=True)
class Objective:
    """`precision` and `recall` keep `target` for `of`, and make the other one of the two as large
    as they can.
    """

    kind: Kind = "accuracy"
    cost_miss: float = 1.0  # of a mismatch that passes as a match
    cost_false_alarm: float = 1.0  # of a match that is called a mismatch
    target: float = 0.0  # 0..1
    of: Label = "mismatch"
    # share of mismatches where the threshold is used, 0..1; None: as among the rows
    prevalence: float | None = None

    def __post_init__(self) -> None:
        check_prevalence(self.prevalence)
        if self.kind not in get_args(Kind):
            raise InputError(
                f"objective {self.kind!r} is unknown; one of {', '.join(get_args(Kind))} is needed"
            )
        if self.kind == "cost" and not all(
            0 < cost <= MAX_COST for cost in (self.cost_miss, self.cost_false_alarm)
        ):
            raise InputError(
                f"costs of {self.cost_miss} and {self.cost_false_alarm} are given; both must be"
                f" above 0 and at most {MAX_COST:g}"
            )
        if self.kind in ("precision", "recall") and not 0 < self.target <= 1:
            raise InputError(
                f"a target {self.kind} of {self.target} is given; a share above 0 and at most 1 is"
                " needed"
            )
        if self.of not in get_args(Label):
            raise InputError(f"a target is one of mismatches or matches, not of {self.of!r}")

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read what `str` writes; InputError for anything else."""
        match = WRITTEN.fullmatch(written)
        parsed: dict[str, Any] = {} if match is None else match.groupdict()
        try:
            share = parsed.get("prevalence")
            more: dict[str, Any] = {} if share is None else {"prevalence": float(share)}
            if parsed.get("share"):
                target = float(parsed["target"])
                return cls(parsed["share"], target=target, of=parsed["label"], **more)
            if parsed.get("miss"):
                return cls("cost", float(parsed["miss"]), float(parsed["alarm"]), **more)
            if parsed.get("plain") in NAMES:
                return cls(parsed["plain"], **more)
        except ValueError:
            pass
        raise InputError(
            f"objective {written!r} is unknown; one of {', '.join(NAMES)}, cost:miss=5,alarm=1 or"
            " 'mismatch precision>=0.95' is needed"
        )

    def __str__(self) -> str:
        written: str = self.kind
        if self.kind == "cost":
            written = f"cost:miss={self.cost_miss:g},alarm={self.cost_false_alarm:g}"
        elif self.kind in ("precision", "recall"):
            written = f"{self.of} {self.kind}>={self.target:g}"
        # only where it is given: versions before 0.2 read what they know
        return written if self.prevalence is None else f"{written}{AT}{self.prevalence:g}"

    def describe(self) -> str:
        """Return it for people: `best accuracy`."""
        words = self._aim()
        if self.prevalence is None:
            return words
        return f"{words}, where {100 * self.prevalence:g} % of the pairs are mismatches"

    def _aim(self) -> str:
        if self.kind == "cost":
            return (
                f"least cost, a missed mismatch at {self.cost_miss:g} and a false alarm at"
                f" {self.cost_false_alarm:g}"
            )
        if self.kind in ("precision", "recall"):
            other = "recall" if self.kind == "precision" else "precision"
            return f"{self.kind} of {self.of}es at least {self.target:g}, with the most {other}"
        names = {"f1": "F1 of the matches", "mcc": "Matthews correlation"}
        return f"best {names.get(self.kind, self.kind)}"

    def worth(self, row_counts: CutCounts) -> Floats:
        """Return (K,): the more the better; -inf where a target is not reached."""
        counts = row_counts.at_prevalence(self.prevalence)
        if self.kind == "cost":
            return -(
                self.cost_miss * counts.false_match + self.cost_false_alarm * counts.false_mismatch
            )
        if self.kind in ("precision", "recall"):
            precision = counts.precision(self.of)
            recall = counts.recall(self.of)
            kept = precision if self.kind == "precision" else recall
            other = recall if self.kind == "precision" else precision
            return np.where(
                np.nan_to_num(kept, nan=-1.0) >= self.target - 1e-12, np.nan_to_num(other), -np.inf
            )
        if self.kind == "f1":
            return np.nan_to_num(counts.f1("match"))
        if self.kind == "balanced-accuracy":
            return (counts.recall("match") + counts.recall("mismatch")) / 2
        return counts.accuracy if self.kind == "accuracy" else counts.mcc
