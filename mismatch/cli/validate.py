"""`mismatch validate`: see `mismatch.audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mismatch.cli.flags import with_flags
from mismatch.cli.number_types import WORKERS
from mismatch.cli.options import job_row_options
from mismatch.cli.output_file import OutputFile
from mismatch.io.text import printable

__all__ = ["command"]


@click.command(short_help="Check rows and images before training.")
@click.argument("rows", metavar="CSV...", nargs=-1, required=True, type=click.Path(path_type=Path))
@job_row_options
@click.option(
    "--num-workers", type=WORKERS, help="Threads that decode images.  [default: one per CPU]"
)
@click.option(
    "--max-problems",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Problems to list per file; the rest is counted.",
)
@click.option(
    "--report",
    multiple=True,
    type=OutputFile(),
    metavar="FILE",
    help=(
        "Write the report to FILE too, with pictures if it ends in .html, else as JSON; repeatable."
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--backbone",
    metavar="FAMILY[:MODEL]",
    help=(
        "Name texts that are longer than this backbone's context or in a language that it can't"
        " read."
    ),
)
@click.option("--strict", is_flag=True, help="Exit 1 for warnings too.")
@click.option(
    "--fix",
    type=OutputFile(),
    metavar="FILE",
    help=(
        "Write the first CSV's rows that are fit to train on to FILE, the others with reason, line"
        " and raw text to out.rejected.csv for out.csv; the name says the format: .csv, .tsv,"
        " .jsonl, .parquet."
    ),
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace tables that an earlier --fix wrote, of rows with the same columns.",
)
@click.pass_context
def command(
    ctx: click.Context, /, rows: tuple[Path, ...], as_json: bool, strict: bool, **options: Any
) -> None:
    """Check files of image_path,text,label before training: train.csv val.csv test.csv, in this
    order.

    Columns, labels, texts, and every image, which is really decoded; repeated and contradictory
    rows; HTML, garbled and boilerplate texts, other scripts; animated, very long or small images;
    images and texts in two files. With the extra [audit] also near-duplicate images, in one file or
    in two of them (then a test tells less than it seems), and whether texts alone, or images alone,
    tell the labels.

    Exit 0: every row can be trained on; 1: some can't, or with --strict something is doubtful; 2: a
    file can't be opened. --fix loses no row: first CSV = FILE + rejected; repeated rows,
    contradictions, and rows whose image (or a near-duplicate) stands in a later CSV are rejected
    too.
    """
    from mismatch.jobs.audit import audit

    report = audit(*rows, **options)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        lines = (with_flags(printable(line), ctx.command) for line in report.lines())
        click.echo("\n".join(lines))
    if report.fixed is not None:
        fixed = report.fixed
        click.echo(
            f"{fixed.rows:,} rows written to {fixed.path}, {fixed.rejected:,} to"
            f" {fixed.rejected_path}",
            err=True,
        )
    if not report.ok or (strict and report.doubtful):
        raise click.exceptions.Exit(1)
