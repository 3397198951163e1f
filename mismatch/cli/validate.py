"""`mismatch validate`: see `mismatch.audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import NUM_WORKERS, ROW_OPTIONS, ROWS
from mismatch.cli.value_types import OutputFile
from mismatch.cli.verb import echo_json, echo_lines, flag, option, verb
from mismatch.io.text import printable

__all__ = ["command"]


@verb(
    "Check rows and images before training.",
    click.Argument(["rows"], metavar="CSV...", nargs=-1, required=True, type=ROWS),
    *ROW_OPTIONS,
    NUM_WORKERS,
    option("--max-problems", click.IntRange(1), 50),
    option("--report", OutputFile(), multiple=True, metavar="FILE"),
    flag("--json as_json"),
    option("--backbone", metavar="FAMILY[:MODEL]"),
    flag("--strict"),
    option("--fix", OutputFile(), metavar="FILE"),
    flag("--overwrite"),
)
def command(rows: tuple[Path, ...], as_json: bool, strict: bool, **options: Any) -> None:
    """Check files of image_path,text,label before training: train.csv val.csv test.csv, in this
    order.

    Columns, labels, texts, and every image, which is really decoded; repeated and contradictory
    rows; HTML, garbled, missing and boilerplate texts, other scripts; blank, animated, very long or
    small images; one picture with texts of two things; images and texts in two files. The extra
    [audit] adds near-duplicate images, texts that have slid against their images, and whether texts
    alone, or images alone, tell the labels. Rows without labels are checked as matching pairs.

    Exit 0: every row can be used; 1: some can't, or with --strict something is doubtful; 2: a file
    can't be opened. --fix loses no row: first CSV = FILE + rejected; repeated rows, contradictions,
    and rows whose image (or a near-duplicate) stands in a later CSV are rejected too. A path that
    names no file is written as the file that it means.

    Options:
    --max-problems: Problems to list per file, shared among their kinds; the rest is counted.
    --report: Write the report to FILE too, as .html with pictures or as .json; repeatable.
    --json: Print the report as JSON.
    --backbone: Name texts that this backbone cuts or can't read, and those that fit other images.
    --strict: Exit 1 for warnings too.
    --fix: Write the first CSV's rows that can be used to FILE, the others with reason, line
        and raw text to out.rejected.csv for out.csv; in the format that the name says.
    --overwrite: Replace tables that an earlier --fix wrote, of rows with the same columns.
    """
    from mismatch.jobs.audit import audit

    report = audit(*rows, **options)
    if as_json:
        echo_json(report.to_dict())
    else:
        echo_lines(map(printable, report.lines()))
    fixed = report.fixed
    if fixed is not None:
        where = f"{fixed.path}, {fixed.rejected:,} to {fixed.rejected_path}"
        click.echo(f"{fixed.rows:,} rows written to {where}", err=True)
    if not report.ok or (strict and report.doubtful):
        raise click.exceptions.Exit(1)
