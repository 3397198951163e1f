"""Mismatches that were made, as lines for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mismatch.io.text import plural

if TYPE_CHECKING:
    from mismatch.jobs.make_negatives import NegativesResult

__all__ = ["WARN_FROM", "negatives_lines"]

WARN_FROM = 0.55  # blind AUROC from which texts give labels away


def negatives_lines(result: NegativesResult) -> Iterator[str]:
    """Yield the result for people."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.kinds.items())
    mismatches = f"{result.mismatches:,} mismatches" + (f" ({kinds})" if kinds else "")
    rows = result.rows if isinstance(result.rows, (str, Path)) else "rows in memory"
    yield f"{rows}: {result.matches:,} matches and {mismatches}"
    if result.missing:
        yield (
            f"warning: {result.missing:,} mismatches could not be made: every text that was"
            " looked at may fit the image too"
        )
    yield from _doubtful_lines(result)
    for kind, count in result.told.items():
        yield (f"left out: {count:,} of kind {kind}, which the texts alone tell from the rows' own")
    if result.labelled_mismatches:
        yield f"{plural(result.labelled_mismatches, 'row')} labelled 0 left out"
    if result.unusable:
        more = "; …" if result.unusable > 1 else ""
        yield (
            f"warning: {plural(result.unusable, 'row')} that can't be used left out"
            f" ({result.first_problem}{more})"
        )
    yield from _blind_lines(result)


def _doubtful_lines(result: NegativesResult) -> Iterator[str]:
    """Say how many mismatches may be matches."""
    if result.mismatches:
        yield (
            f"{result.likely_true:.1%} of the mismatches are true of their images all the same, by"
            " estimate"
        )
    if result.doubtful:
        share = result.doubtful / (result.doubtful + result.mismatches)
        place = f" in {result.doubtful_rows}" if isinstance(result.doubtful_rows, Path) else ""
        yield (
            f"{result.doubtful:,} doubtful mismatches ({share:.1%}) are kept apart{place}: their"
            " texts may fit the images too"
        )


def _blind_lines(result: NegativesResult) -> Iterator[str]:
    """Say how well the texts alone tell the labels."""
    if result.blind_auroc is None:
        return
    yield (
        f"blind AUROC of the texts alone: {result.blind_auroc:.3f} (0.5 or less is best: labels"
        " can't be told without the images)"
    )
    if result.blind_aurocs:
        kinds = ", ".join(f"{kind} {auroc:.3f}" for kind, auroc in result.blind_aurocs.items())
        yield f"blind AUROC by kind, against the rows' own texts: {kinds}"
    if result.blind_auroc > WARN_FROM:
        words = ", ".join(
            f"{telltale.word!r} ({telltale.mismatches:.0%} of {telltale.rows} rows are mismatches)"
            for telltale in result.telltales
        )
        yield (
            f"warning: the texts give labels away, by words as {words}; fewer attribute mismatches,"
            " or more rows, help"
        )
