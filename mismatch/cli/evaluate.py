"""`mismatch evaluate`: see `mismatch.evaluate`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mismatch.cli.flags import with_flags
from mismatch.cli.number_types import SEED
from mismatch.cli.options import (
    job_row_options,
    long_text_option,
    model_options,
    review_band_option,
    safe_csv_option,
)
from mismatch.io.atomic import finite

__all__ = ["command"]


@click.command(short_help="Measure a model on labelled rows.")
@model_options
@click.option(
    "--csv",
    "rows",
    required=True,
    type=click.Path(path_type=Path),
    help="Rows image_path,text,label; also TSV, JSONL, Parquet, a datasets folder.",
)
@job_row_options
@click.option(
    "--threshold",
    type=float,
    help="Score from which a pair is a match.  [default: the model's own]",
)
@review_band_option
@long_text_option
@click.option(
    "--slice",
    "slices",
    multiple=True,
    default=(),
    metavar="COLUMN",
    help="Figures for each value of this column too; may be repeated.",
)
@click.option(
    "--kind-column",
    metavar="COLUMN",
    help=(
        "Column that names the kinds of mismatch, for figures of each.  [default: kind, where"
        " there is one]"
    ),
)
@click.option(
    "--against",
    metavar="DIR",
    help="Another model, compared on the same rows by paired tests; its own threshold decides.",
)
@click.option(
    "--stress",
    is_flag=True,
    help=(
        "Score matched rows again with texts and images changed, and see whether decisions follow"
        " or withstand."
    ),
)
@click.option(
    "--stress-rows",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    metavar="N",
    help="Matched rows that --stress draws.",
)
@click.option(
    "--brand-column",
    metavar="COLUMN",
    help=(
        "Column with the brand that --stress removes from the text.  [default: a capitalised first"
        " word]"
    ),
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of what --stress draws.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for report.html (needs the extra [report]), report.json and predictions.csv.",
)
@safe_csv_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(model: str, rows: Path, as_json: bool, **options: Any) -> None:
    """Measure a model on labelled rows: accuracy, precision, recall, F1, AUROC, calibration and
    more, each with its bootstrap interval.

    A row without a usable label is refused. A row whose image or text can't be used is counted and
    left out of the figures.
    """
    from mismatch.cli.evaluation_lines import result_lines
    from mismatch.jobs.evaluate import evaluate

    run = shlex.join(["mismatch", *sys.argv[1:]])
    result = evaluate(model, rows, command=run, **options)
    report = result.to_dict()
    if as_json:
        click.echo(json.dumps(finite(report), indent=2, ensure_ascii=False))
    else:
        running = click.get_current_context().command
        lines = "\n".join(result_lines(report, result.long_text_note))
        click.echo(with_flags(lines, running))
    if options["report"] is not None:
        folder = options["report"]
        click.echo(f"report.html, report.json and predictions.csv written to {folder}", err=True)
