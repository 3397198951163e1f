"""`mismatch make-negatives`: see `mismatch.make_negatives`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import SEED
from mismatch.cli.options import job_row_options
from mismatch.cli.output_file import OutputFile
from mismatch.cli.pictures import picture_options
from mismatch.io.text import plural, printable

if TYPE_CHECKING:
    from mismatch.jobs.make_negatives import NegativesResult

__all__ = ["command"]


@click.command(short_help="Make mismatches from matching pairs.")
@click.argument("rows", metavar="CSV", type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=OutputFile(),
    help="Matches and mismatches, with a column `kind`: .csv, .tsv, .jsonl, .parquet.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace an --output that was made earlier from rows with the same columns.",
)
@click.option(
    "--kinds",
    metavar="SHARES",
    default="random=0.5,hard=0.3,attribute=0.2",
    show_default=True,
    help=(
        "random: another row's text; hard: one much like the own; attribute: the own with a colour,"
        " material, count, … exchanged."
    ),
)
@click.option(
    "--per-positive",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Mismatches for each match.",
)
@click.option(
    "--lexicon",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML with classes of words of your own, as `shape: [round, square]`.",
)
@click.option(
    "--backbone",
    metavar="FAMILY[:MODEL]",
    help="Take this backbone's texts' embeddings for hard mismatches.  [default: common words]",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Another seed makes other mismatches."
)
@picture_options
@job_row_options
def command(rows: Path, **options: Any) -> None:
    """Make a labelled set from a file of matching pairs image_path,text (rows labelled 0 are left
    out).

    Never a text that fits the image too: of a near-duplicate image, or one that says much the same.
    Texts are exchanged among rows, so that each is a mismatch as often as a match where possible,
    and the labels can't be told from the texts alone; how well they can is reported as blind AUROC.
    Split first, then make mismatches in each part.
    """
    from mismatch.jobs.make_negatives import make_negatives

    result = make_negatives(rows, **options)
    click.echo("\n".join(map(printable, _lines(result))))


def _lines(result: NegativesResult) -> Iterator[str]:
    """Yield the result for people."""
    from mismatch.jobs.make_negatives import WARN_FROM

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
            f"{one.word!r} ({one.mismatches:.0%} of {one.rows} rows are mismatches)"
            for one in result.telltales
        )
        yield (
            f"warning: the texts give labels away, by words as {words}; fewer attribute mismatches,"
            " or more rows, help"
        )
