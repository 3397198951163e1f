"""Labelled rows with their scores and the threshold that decided each, and the rows that were
decided wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Decisions", "ErrorKind", "WrongRow", "worst_rows"]

MAX_ERRORS_SHOWN = 24  # of each kind of error
# a mismatch that was taken for a match, or a match that was taken for a mismatch
ErrorKind = Literal["missed", "alarms"]


@dataclass(frozen=True)
class Decisions:
    """Labelled rows and how they were decided; N values in each list."""

    labels: Sequence[int]  # 1: the text describes the image
    scores: Sequence[float]  # probability of a match 0..1; cosine -1..1 for zero-shot
    thresholds: Sequence[float]  # a row is called a match from here on


@dataclass(frozen=True)
class WrongRow:
    """A row whose decision is wrong."""

    line: int  # of its file, or the row's number from 1
    image_path: str  # as written
    text: str
    label: int  # 0 or 1
    score: float
    threshold: float
    picture: str | None = None  # data URL; None: it is read from `image_path` when it is needed

    @property
    def kind(self) -> ErrorKind | None:
        """Return what is wrong; None where nothing is."""
        called_match = self.score >= self.threshold
        if called_match == (self.label == 1):
            return None
        return "missed" if called_match else "alarms"


def worst_rows(rows: Sequence[WrongRow]) -> dict[ErrorKind, list[WrongRow]]:
    """Return the surest errors among some rows, at most 24 of each kind.

    `missed`: mismatches taken for matches, the highest score first. `alarms`: matches taken for
    mismatches, the lowest score first.
    """
    missed = [row for row in rows if row.kind == "missed"]
    alarms = [row for row in rows if row.kind == "alarms"]
    missed.sort(key=lambda row: (-row.score, row.line))
    alarms.sort(key=lambda row: (row.score, row.line))
    return {"missed": missed[:MAX_ERRORS_SHOWN], "alarms": alarms[:MAX_ERRORS_SHOWN]}
