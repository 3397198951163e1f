"""Mismatches that were made, as lines for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mismatch.io.text import plural

if TYPE_CHECKING:
    from mismatch.jobs.make_negatives import NegativesResult

__all__ = ["WARN_FROM", "negatives_lines"]

WARN_FROM = 0.55  # blind AUROC from which texts give labels away


def negatives_lines(result: NegativesResult) -> Iterator[str]:
    """Yield the result for people."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.kinds.items())
    yield (
        f"{result.rows}: {result.matches:,} matches and {result.mismatches:,} mismatches ({kinds})"
    )
    if result.missing:
        yield (
            f"warning: {result.missing:,} mismatches could not be made: every text that was"
            " looked at may fit the image too"
        )
    if result.labelled_mismatches:
        yield f"{plural(result.labelled_mismatches, 'row')} labelled 0 left out"
    if result.unusable:
        more = "; …" if result.unusable > 1 else ""
        yield (
            f"warning: {plural(result.unusable, 'row')} that can't be used left out"
            f" ({result.first_problem}{more})"
        )
    if result.blind_auroc is None:
        return
    yield (
        f"blind AUROC of the texts alone: {result.blind_auroc:.3f} (0.5 is best: labels can't be"
        " told without the images)"
    )
    if result.blind_auroc > WARN_FROM:
        words = ", ".join(
            f"{telltale.word!r} ({telltale.mismatches:.0%} of {telltale.rows} rows are mismatches)"
            for telltale in result.telltales
        )
        yield (
            f"warning: the texts give labels away, by words as {words}; fewer attribute mismatches,"
            " or more rows, help"
        )
