"""A split, as lines for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.jobs.split_result import SplitPart, SplitResult

__all__ = ["split_lines"]


def split_lines(result: SplitResult) -> Iterator[str]:
    """Yield the result for people."""
    shares = result.shares
    for (name, part), share in zip(result.splits.items(), shares, strict=True):
        yield (
            f"{result.parts[name]}: {part.rows:,} rows ({part.rows / result.rows:.1%};"
            f" {share:.1%} asked for) over {part.images:,} images{_kinds(part)}"
        )
    alike = ""
    if result.near_duplicate_images:
        count = result.near_duplicate_images
        alike = f"; {count:,} images are near-duplicates of another one"
    yield (
        f"{result.rows:,} rows in {result.groups:,} groups, the largest of"
        f" {result.largest_group:,} rows{alike}"
    )
    empty = [str(result.parts[name]) for name, part in result.splits.items() if not part.rows]
    if empty:
        verb = "holds" if len(empty) == 1 else "hold"
        yield f"warning: {' and '.join(empty)} {verb} no rows; ask for larger shares"
    if result.largest_group > min(shares) * result.rows:
        yield (
            "warning: the largest group is larger than the smallest split should be, so that shares"
            " can't be kept; use fewer columns to group by"
        )
    if result.rejected:
        yield (
            f"{result.rejected:,} rows can't be used and are in {result.rejected_rows}, with the"
            " reason"
        )


def _kinds(part: SplitPart) -> str:
    """Return `: 60 matches, 60 mismatches`, or nothing where no row has a label."""
    names = (("1", "matches"), ("0", "mismatches"))
    kinds = [f"{part.labels[key]:,} {name}" for key, name in names if part.labels.get(key)]
    return f": {', '.join(kinds)}" if kinds else ""
