"""Whether the thresholds of slices that a model has were those of the rows that it decided."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mismatch.data.readers.memory import value_text
from mismatch.io.text import plural
from mismatch.specs import SliceThresholds

__all__ = ["SliceUse", "warn_of_value"]

SHOWN = 3  # values that have a threshold
REMEMBERED = 1_000  # warnings that are not given again

logger = logging.getLogger(__name__)


@dataclass
class SliceUse:
    """Counts the rows that a threshold of their slice decided.

    `slices`: the model's; None where it has none, and there is nothing to say.
    `common`: threshold of all other rows, on similarity_score.
    `rows`: rows so far.
    `sliced`: those of them whose slice has a threshold.
    """

    slices: SliceThresholds | None
    common: float
    rows: int = 0
    sliced: int = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Count a row by the values of its columns."""
        self.rows += 1
        if self.slices is not None:
            value = value_text(columns.get(self.slices.column))
            self.sliced += self.slices.threshold_of(value) is not None

    def counted(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield rows, each counted."""
        for row in rows:
            self.add(row)
            yield row

    def warning(self) -> str | None:
        """Return what to say where no row had a threshold of its slice; None where one had."""
        if self.slices is None or self.sliced or not self.rows:
            return None
        return (
            f"the model has thresholds by the column {_shown(self.slices)}, and"
            f" {plural(self.rows, 'row')} had no such value: the common threshold,"
            f" {self.common:.4f}, decided all; is the column missing, or called otherwise?"
        )


def warn_of_value(slices: SliceThresholds | None, common: float, value: object) -> None:
    """Say, once for each value, that one given for a pair has no threshold of its own."""
    if slices is None or value is None:
        return
    text = value_text(value)
    if slices.threshold_of(text) is None:
        _warn_once(
            f"`slice_value` {text!r} has no threshold of its own: the model has some by the column"
            f" {_shown(slices)}; the common threshold, {common:.4f}, decided"
        )


@lru_cache(REMEMBERED)
def _warn_once(message: str) -> None:
    logger.warning(message)


def _shown(slices: SliceThresholds) -> str:
    """Return the column, and the first of the values that have a threshold."""
    names = [repr(name) for name in slices.values]
    values = ", ".join([*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])])
    return f"{slices.column!r} (for {values})"
