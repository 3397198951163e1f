"""`mismatch validate`: are these files fit to train on? Every row and every image is looked at; all problems are reported together."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mismatch.cli.options import row_options
from mismatch.cli.progress import progress_bar
from mismatch.data.columns import Columns
from mismatch.files import write_json

__all__ = ["command"]


@click.command(short_help="Check rows and images before training.")
@click.argument("csv_files", metavar="CSV...", nargs=-1, required=True, type=click.Path(path_type=Path))
@row_options
@click.option("--num-workers", type=click.IntRange(0), help="Threads that decode images.  [default: one per CPU]")
@click.option("--max-problems", type=click.IntRange(1), default=50, show_default=True, help="Problems to list per file; the rest is counted.")
@click.option("--report", "report_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the report as JSON to FILE too.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    csv_files: tuple[Path, ...], image_base_path: str, columns: Columns, num_workers: int | None, max_problems: int, report_file: Path | None, as_json: bool
) -> None:
    """Check files of image_path,text,label before training: CSV, TSV, JSONL, Parquet or a Hugging Face dataset.

    Columns, labels, texts, and every image, which is really decoded. Exit 0: every row can be trained on; 1: some can't; 2: a file can't be opened.
    """
    from mismatch.data.audit import validate_files
    from mismatch.runtime.hardware import available_cpus
    from mismatch.runtime.preprocess import open_image

    workers = available_cpus() if num_workers is None else num_workers
    report = validate_files(
        csv_files, image_base_path, check_image=open_image, columns=columns, workers=workers, progress=progress_bar, max_problems=max_problems
    )
    if report_file is not None:
        write_json(report_file, report.to_dict())
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines()))
    if not report.ok:
        raise click.exceptions.Exit(1)
