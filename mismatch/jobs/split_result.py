"""What a split is: how large its parts are, and their rows."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from mismatch.jobs.results import Result, as_json
from mismatch.reports.split_lines import split_lines

__all__ = ["SplitPart", "SplitResult"]


@dataclass(frozen=True)
class SplitPart:
    """What one part of a split holds."""

    rows: int
    labels: dict[str, int]  # rows of each label, "0" and "1"; "None": of no label
    images: int  # distinct ones


@dataclass(frozen=True)
class SplitResult(Result):
    """A split: how large its parts are, and their rows.

    `rows`: rows that are in a part.
    `groups`: groups of rows that stay together.
    `largest_group`: rows of the largest group.
    `near_duplicate_images`: images that are another one's near-duplicate; 0 if not looked for.
    `splits`: the figures of "train", "val" and, with three fractions, "test".
    `rejected`: rows that can't be used.
    `shares`: shares of the parts, 0..1, as asked for; they add up to 1.
    `parts`: name of a part → the file that was written; without `output_dir` its rows: a
        table of the kind that `rows` was, else a list of mappings.
    `rejected_rows`: the same for rows that can't be used, with their `reason`; None where there are
        none.
    """

    rows: int
    groups: int
    largest_group: int
    near_duplicate_images: int
    splits: dict[str, SplitPart]
    rejected: int
    shares: tuple[float, ...] = field(repr=False)
    parts: dict[str, Any] = field(repr=False)
    rejected_rows: Any = field(default=None, repr=False)

    @property
    def train(self) -> Any:
        """Return the part to train on, as in `parts`."""
        return self.parts["train"]

    @property
    def val(self) -> Any:
        """Return the part to choose by, as in `parts`."""
        return self.parts["val"]

    @property
    def test(self) -> Any:
        """Return the part to measure by, as in `parts`; None with two fractions."""
        return self.parts.get("test")

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return list(split_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without rows, with plain JSON types only."""
        names = [item.name for item in fields(self) if item.repr]
        return {name: as_json(getattr(self, name)) for name in names}
