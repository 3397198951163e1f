"""`mismatch validate`: are these files fit to train on? Every row and every image is looked at; all
problems are reported together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import WORKERS
from mismatch.cli.options import row_options
from mismatch.cli.output_file import OutputFile
from mismatch.cli.parts import hold
from mismatch.cli.progress import progress_bar
from mismatch.data.columns import Columns
from mismatch.files import write_json
from mismatch.jobs.table_kinds import exact_table, refuse_unasked
from mismatch.outputs import OutputKind, check_outputs, json_report, page

if TYPE_CHECKING:
    from mismatch.data.audit import AuditReport
    from mismatch.data.findings import TextReader

__all__ = ["command"]

AUDIT = ("imagehash", "sklearn")  # import names of what the extra [audit] brings for this


@click.command(short_help="Check rows and images before training.")
@click.argument(
    "csv_files", metavar="CSV...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@row_options
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
    "report_files",
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
    "fixed",
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
def command(
    csv_files: tuple[Path, ...],
    image_base_path: str,
    columns: Columns,
    report_files: tuple[Path, ...],
    **options: Any,
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
    from mismatch.cli.audit_page import write_audit_page
    from mismatch.data.audit import validate_files
    from mismatch.data.pairs import rows_files
    from mismatch.jobs.row_tables import check_table
    from mismatch.runtime.hardware import available_cpus
    from mismatch.runtime.preprocess import open_image

    if options["fixed"] is not None:
        check_table(options["fixed"])
    elif options["overwrite"]:
        raise click.UsageError("--overwrite goes with --fix; a report replaces an older one")
    check_outputs(
        _outputs(report_files, options["fixed"], lambda: _header(csv_files, columns)),
        [file for path in csv_files for file in rows_files(path)],
    )
    if options["fixed"] is not None:
        refuse_unasked(
            "--fix", [options["fixed"], _rejected(options["fixed"])], overwrite=options["overwrite"]
        )
    for path in (*report_files, *([] if options["fixed"] is None else [options["fixed"]])):
        hold(path)
    complete = all(find_spec(name) for name in AUDIT)
    report = validate_files(
        csv_files,
        image_base_path,
        check_image=open_image,
        columns=columns,
        duplicates=complete,
        reader=None if options["backbone"] is None else _reader(options["backbone"]),
        workers=available_cpus() if options["num_workers"] is None else options["num_workers"],
        progress=progress_bar,
        max_problems=options["max_problems"],
    )
    for path in report_files:
        write_audit_page(path, report) if _is_page(path) else write_json(path, report.to_dict())
    if options["as_json"]:
        click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines()))
    if not complete:
        click.echo(
            "not looked for: near-duplicate images, and labels that texts or images alone tell;"
            ' that needs pip install "mismatch-clip[audit]"',
            err=True,
        )
    if options["fixed"] is not None:
        kept, rejected, reasons = _fix(
            report, csv_files, image_base_path, columns, options["fixed"]
        )
        click.echo(
            f"{kept:,} rows written to {options['fixed']}, {rejected:,} to {reasons}", err=True
        )
    if not report.ok or (options["strict"] and report.doubtful):
        raise click.exceptions.Exit(1)


def _outputs(
    reports: Sequence[Path], fixed: Path | None, header: Callable[[], list[str]]
) -> list[tuple[str, Path, OutputKind]]:
    """What is written; `header` gives the columns of the rows that are fit."""
    from mismatch.cli.audit_page import TITLE
    from mismatch.jobs.row_tables import rejected_header

    pages = page("a report", TITLE)
    figures = json_report("a report", ("ok", "files", "warnings", "leaks"))
    outputs = [("--report", path, pages if _is_page(path) else figures) for path in reports]
    if fixed is not None:
        outputs.append(("--fix", fixed, exact_table("a table of such rows", header)))
        outputs.append(
            (
                "--fix",
                _rejected(fixed),
                exact_table("a table of such rows, rejected,", lambda: rejected_header(header())),
            )
        )
    return outputs


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _reader(backbone: str) -> TextReader:
    """A backbone's tokenizer."""
    from mismatch.errors import MissingExtraError
    from mismatch.runtime.tokenize import Tokenizer

    try:
        from mismatch.backbones.registry import load_backbone

        return Tokenizer(load_backbone(backbone).text_spec)
    except ModuleNotFoundError as error:
        raise MissingExtraError("--backbone", "train") from error


def _fix(
    report: AuditReport, files: Sequence[Path], base: str, columns: Columns, target: Path
) -> tuple[int, int, Path]:
    """The first file's rows in two files, both or neither; how many there are in each, and where
    the rejected ones are.
    """
    from mismatch.data.fix import sorted_out
    from mismatch.jobs.row_tables import rejected_header, rejected_values, row_table

    other = _rejected(target)
    header = _header(files, columns)
    leaked = {
        image: str(files[second])
        for (first, second), images in report.leaks.items()
        if first == 0
        for image in images
    }
    leaked |= {
        image: str(path)
        for path, audit in zip(files[1:], report.files[1:], strict=True)
        for image in audit.images
    }
    counts = [0, 0]
    with row_table(target, header) as good, row_table(other, rejected_header(header)) as bad:
        for row, reason in sorted_out(
            files[0], base, broken=report.broken, leaked=leaked, columns=columns
        ):
            if reason is None:
                good.writerow([row.columns.get(name, "") for name in header])
            else:
                bad.writerow(rejected_values(row, header, reason))
            counts[reason is not None] += 1
    return counts[0], counts[1], other


def _header(files: Sequence[Path], columns: Columns) -> list[str]:
    """The columns of the first file's rows."""
    from mismatch.data.pairs import all_columns

    return all_columns(files[0], require_label=True, columns=columns)


def _rejected(target: Path) -> Path:
    """out.csv → out.rejected.csv."""
    return target.with_suffix(f".rejected{target.suffix}")
