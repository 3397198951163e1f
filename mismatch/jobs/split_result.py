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
    """A split: how large its parts are, and their rows."""

    rows: int  # that are in a part
    groups: int  # of rows that stay together
    largest_group: int  # its rows
    near_duplicate_images: int  # images that are another one's near-duplicate; 0 if not looked for
    splits: dict[str, SplitPart]  # "train", "val" and, of three fractions, "test"
    rejected: int  # rows that can't be used
    shares: tuple[float, ...] = field(repr=False)  # of the parts, as asked for; they add up to 1
    # by the name of the part the file that was written; without `output_dir` its rows: a table of
    # the kind that `rows` was, else a list of mappings
    parts: dict[str, Any] = field(repr=False)
    # the same of rows that can't be used, with their `reason`; None where there are none
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
        """Return the part to measure by, as in `parts`; None of two fractions."""
        return self.parts.get("test")

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return list(split_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without rows, with plain JSON types only."""
        names = [one.name for one in fields(self) if one.repr]
        return {name: as_json(getattr(self, name)) for name in names}
