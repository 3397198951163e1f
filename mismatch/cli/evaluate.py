"""`mismatch evaluate`: see `mismatch.evaluate`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from mismatch.cli import options as shared
from mismatch.cli.value_types import SEED
from mismatch.cli.verb import echo_result, flag, option, verb

__all__ = ["command"]


@verb(
    "Measure a model on labelled rows.",
    *shared.MODEL_OPTIONS,
    option("--csv rows", shared.ROWS, required=True),
    *shared.ROW_OPTIONS,
    shared.THRESHOLD,
    shared.REVIEW_BAND,
    shared.LONG_TEXT,
    shared.PREVALENCE,
    option("--slice slices", multiple=True, metavar="COLUMN"),
    option("--kind-column", metavar="COLUMN"),
    option("--against", metavar="DIR"),
    flag("--stress"),
    option("--stress-rows", click.IntRange(1), 500, metavar="N"),
    option("--brand-column", metavar="COLUMN"),
    option("--seed", SEED, 0),
    option("--report", click.Path(path_type=Path, file_okay=False), metavar="DIR"),
    shared.SAFE_CSV,
    flag("--json as_json"),
)
def command(model: str, rows: Path, report: Path | None, as_json: bool, **options: Any) -> None:
    """Measure a model on labelled rows: accuracy, precision, recall, F1, AUROC, calibration and
    more, each with its bootstrap interval.

    A row without a usable label is refused. A row whose image or text can't be used is counted and
    left out of the figures.

    Options:
    --csv: Rows image_path,text,label; also TSV, JSONL, Parquet, Arrow, webdataset, a dataset.
    --slice: Figures for each value of this column too; may be repeated.
    --kind-column: Column that names the kinds of mismatch, for figures of each.
        [default: kind, where there is one]
    --against: Another model, compared on the same rows by paired tests; its own threshold decides.
    --stress: Score matched rows again with texts and images changed, and see whether decisions
        follow or withstand.
    --stress-rows: Matched rows that --stress draws.
    --brand-column: Column with the brand that --stress removes from the text.
        [default: a capitalised first word]
    --seed: Seed of what --stress draws.
    --report: Folder for report.html (needs the extra [report]), report.json and predictions.csv.
    --json: Print the figures as JSON.
    """
    from mismatch.jobs.evaluate import evaluate

    run = shlex.join(["mismatch", *sys.argv[1:]])
    result = evaluate(model, rows, command=run, report=report, **options)
    echo_result(result, as_json=as_json)
    if report is not None:
        click.echo(f"report.html, report.json and predictions.csv written to {report}", err=True)
