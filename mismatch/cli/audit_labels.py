"""`mismatch audit-labels`: see `mismatch.audit_labels`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.flags import with_flags
from mismatch.cli.number_types import SEED
from mismatch.cli.options import job_row_options, model_options, safe_csv_option
from mismatch.cli.output_file import OutputFile

if TYPE_CHECKING:
    from mismatch.evaluation.label_errors import LabelFinding

__all__ = ["command"]

MOST_LINES = 5  # rows on the terminal
MOST_LETTERS = 60  # of a text there


@click.command(short_help="Rank rows whose label is probably wrong.")
@model_options
@click.option(
    "--csv",
    "rows",
    required=True,
    type=click.Path(path_type=Path),
    help="Rows image_path,text,label.",
)
@job_row_options
@click.option(
    "--output",
    required=True,
    type=OutputFile(),
    help="Table of the rows, the most suspicious first: .csv, .tsv, .jsonl, .parquet.",
)
@click.option(
    "--report",
    type=OutputFile(),
    help="HTML page with pictures of the first 100 rows, or of --top.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1),
    help="Only the N most suspicious rows.  [default: all, those that can't be scored last]",
)
@safe_csv_option
@click.option(
    "--folds",
    type=click.IntRange(2, 50),
    default=5,
    show_default=True,
    help="Parts of the images, each scored by a head that never saw it.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 50),
    default=2,
    show_default=True,
    help="Times that this is done, with other folds.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the folds and the heads.")
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of cached embeddings.  [default: the user's cache folder]",
)
def command(model: str, rows: Path, output: Path, **options: Any) -> None:
    """Rank the rows of a labelled file by how probably their label is wrong (1 = the text describes
    the image).

    A model's own score on rows that it was trained on says little: it has learnt the wrong labels
    too. So only its towers are used, heads are trained anew without each fold of images and their
    texts, and a row is scored by heads that never saw it; the labels of the nearest pairs are asked
    as well. Adds rank, label_error_score, out_of_sample_probability, reason and status to the
    columns. Nothing is changed: look at the first rows, then decide.
    """
    from mismatch.jobs.audit_labels import audit_labels

    audit = audit_labels(model, rows, output, **options)
    running = click.get_current_context().command
    lines = [with_flags(line, running) for line in audit.summary()]
    lines += _lines(audit.ranked(MOST_LINES))
    report = options["report"]
    pictures = f", pictures to {report}" if report else ""
    lines.append(f"{audit.written:,} rows written to {output}{pictures}")
    click.echo("\n".join(lines))


def _lines(findings: Iterable[LabelFinding]) -> Iterator[str]:
    """Yield a line for each row."""
    for finding in findings:
        text = finding.text
        if len(text) > MOST_LETTERS:
            text = text[: MOST_LETTERS - 1] + "…"
        yield (
            f"{finding.rank:>3}. line {finding.line}: {finding.image_path} {text!r}:"
            f" {finding.reason}"
        )
