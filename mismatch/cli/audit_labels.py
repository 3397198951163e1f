"""`mismatch audit-labels`: see `mismatch.audit_labels`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import MODEL_OPTIONS, ROW_OPTIONS, ROWS, SAFE_CSV
from mismatch.cli.value_types import SEED, OutputFile
from mismatch.cli.verb import echo_lines, option, verb

__all__ = ["command"]


@verb(
    "Rank rows whose label is probably wrong.",
    *MODEL_OPTIONS,
    option("--csv rows", ROWS, required=True),
    *ROW_OPTIONS,
    option("--output", OutputFile(), required=True),
    option("--report", OutputFile()),
    option("--top", click.IntRange(1), metavar="N"),
    option("--only", metavar="COLUMN=VALUE"),
    option("--exclude-kind", multiple=True, metavar="KIND"),
    option("--kind-column", metavar="COLUMN"),
    SAFE_CSV,
    option("--folds", click.IntRange(2, 50), 5),
    option("--repeats", click.IntRange(1, 50), 2),
    option("--seed", SEED, 0),
    option("--cache", click.Path(path_type=Path, file_okay=False), metavar="DIR"),
)
def command(model: str, rows: Path, output: Path, report: Path | None, **options: Any) -> None:
    """Rank the rows of a labelled file by how probably their label is wrong (1 = the text describes
    the image).

    A model's own score on rows that it was trained on says little: it has learnt the wrong labels
    too. So only its towers are used, heads are trained again without each fold of images and their
    texts, and a row is scored by heads that never saw it; the labels of the nearest pairs are asked
    as well. Adds rank, label_error_score, out_of_sample_probability, reason and status to the
    columns. Nothing is changed: look at the first rows, then decide.

    Options:
    --csv: Rows image_path,text,label.
    --output: Table of the rows, the most suspicious first: .csv, .tsv, .jsonl, .parquet.
    --report: HTML page with pictures of the first 100 rows, or of --top.
    --top: Only the N most suspicious rows.  [default: all, those that can't be scored last]
    --only: Rank rows with this value alone, as label=1; heads are trained on all.
    --exclude-kind: Leave rows of this kind out of the ranking; may be repeated.
    --kind-column: Column of kinds, judged apart.  [default: kind, where there is one]
    --folds: Parts of the images, each scored by a head that never saw it.
    --repeats: Times that this is done, with other folds.
    --seed: Seed of the folds and the heads.
    --cache: Folder of cached embeddings.  [default: the user's cache folder]
    """
    from mismatch.jobs.audit_labels import audit_labels

    audit = audit_labels(model, rows, output, report=report, **options)
    echo_lines(audit.summary())
    for line in audit.first_lines():
        click.echo(line)
    pictures = f", pictures to {report}" if report else ""
    click.echo(f"{audit.written:,} rows written to {output}{pictures}")
