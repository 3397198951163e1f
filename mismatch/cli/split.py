"""`mismatch split`: one file of rows as train, val and test, with nothing in two of them."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import row_options
from mismatch.cli.parts import hold
from mismatch.cli.pictures import Pictures, picture_options
from mismatch.data.columns import Columns

if TYPE_CHECKING:
    from mismatch.data.split import SplitReport

__all__ = ["command"]

REJECTED = "rejected.csv"


class Fractions(click.ParamType[tuple[float, ...]]):
    """Two or three shares."""

    name = "fractions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            shares = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, as 0.8,0.1,0.1", param, ctx)
        if len(shares) not in (2, 3) or not min(shares) > 0 or not math.isfinite(sum(shares)):
            self.fail(
                f"{value!r}: two or three shares above 0 are needed, of train, val and test",
                param,
                ctx,
            )
        return tuple(share / sum(shares) for share in shares)


@dataclass
class _Table:
    """What is remembered of the rows: numbers, not texts."""

    lines: list[int] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)
    labels: list[int | None] = field(default_factory=list)
    strata: list[tuple[Any, ...]] = field(default_factory=list)
    joined: list[list[int]] = field(default_factory=list)  # columns, as hashes
    reasons: dict[int, str] = field(default_factory=dict)  # of rows that are left out, by line


@click.command(short_help="Split rows into train, val and test without leaks.")
@click.argument("csv_file", metavar="CSV", type=click.Path(path_type=Path))
@click.option(
    "--output-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for train.csv, val.csv and test.csv.",
)
@click.option(
    "--fractions",
    type=Fractions(),
    default="0.8,0.1,0.1",
    show_default=True,
    help="Shares of the rows; two numbers make no test.csv.",
)
@click.option("--group-by-text", is_flag=True, help="Keep rows with the same text on one side too.")
@click.option(
    "--group-column",
    "group_columns",
    multiple=True,
    metavar="NAME",
    help="Keep rows with the same value in this column on one side; repeatable.",
)
@click.option(
    "--stratify-column",
    "strata",
    multiple=True,
    metavar="NAME",
    help="Spread this column's values evenly, as the labels are; repeatable.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Another seed gives another split; the order of the rows does not matter.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help=(
        "Replace files of an earlier split of rows with the same columns; its test.csv goes where"
        " none is made."
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@picture_options
@row_options
def command(csv_file: Path, output_dir: Path, columns: Columns, **options: Any) -> None:
    """Split a file of rows image_path,text[,label] into train.csv, val.csv and test.csv.

    Rows of one image, or of near-duplicate images (encoded or scaled anew), never stand on two
    sides; labels are spread evenly. All columns are kept. Rows that can't be used, as their image
    can't be read, go to rejected.csv with the reason, their line and what stands there. Exit 0:
    done; 2: nothing was written.
    """
    from mismatch.cli.earlier_split import is_earlier_split
    from mismatch.data.pairs import all_columns, place, rows_files
    from mismatch.data.split import NAMES, assign, join, report_of
    from mismatch.errors import InputError
    from mismatch.outputs import check_outputs

    fractions: Sequence[float] = options["fractions"]
    header = all_columns(csv_file, require_label=False, columns=columns)
    if unknown := [
        name for name in (*options["group_columns"], *options["strata"]) if name not in header
    ]:
        raise InputError(
            f"{csv_file}: there is no column {unknown[0]!r}; found {', '.join(map(repr, header))}"
        )
    targets = [output_dir / f"{name}.csv" for name in NAMES[: len(fractions)]]
    unused = [output_dir / f"{name}.csv" for name in NAMES[len(fractions) :]]
    written = [("the output", path, None) for path in (*targets, output_dir / REJECTED)]
    check_outputs(written, rows_files(csv_file))
    hold(
        output_dir,
        folder=True,
        inside=re.compile(
            "|".join(re.escape(path.name) for path in (*targets, *unused, output_dir / REJECTED))
        ),
    )
    if there := [
        path
        for path in (*targets, output_dir / REJECTED)
        if path.exists() and not options["overwrite"]
    ]:
        raise InputError(
            f"{there[0]} exists already; choose another --output-dir, or say --overwrite"
        )
    _check_earlier(targets, header)
    earlier = [path for path in targets if path.is_file()]
    stale = [
        path
        for path in unused
        if earlier and is_earlier_split(path, earlier, csv_file, header, columns)
    ]
    table = _read(csv_file, header, columns, options)
    images, broken = table.pictures.groups(
        options["image_base_path"], look=options["near_duplicates"], workers=options["num_workers"]
    )
    _leave_out(table, images, broken)
    if not table.lines:
        line, reason = next(iter(table.reasons.items()), (1, "there are no rows under the header"))
        raise InputError(f"{place(csv_file, line)}: {reason}; no row can be used")
    groups = join(images, table.joined)
    paths = list(table.pictures.paths)
    first = [row[0] for row in table.pictures.rows]
    splits = assign(
        groups,
        table.strata,
        [paths[image] for image in first],
        fractions=fractions,
        seed=options["seed"],
    )
    report = report_of(groups, splits, table.labels, first, len(fractions))
    report.near_duplicates = len(set(first)) - len(set(images))
    _write(
        csv_file,
        header,
        dict(zip(table.lines, splits, strict=True)),
        table.reasons,
        targets,
        columns,
    )
    for path in stale:
        path.unlink()
    if options["as_json"]:
        click.echo(json.dumps({**report.to_dict(), "rejected": len(table.reasons)}, indent=2))
        return
    click.echo("\n".join(_said(report, len(table.reasons), targets, fractions)))


def _check_earlier(targets: Sequence[Path], header: list[str]) -> None:
    """Refuse to replace what no split of rows with these columns wrote."""
    from mismatch.jobs.row_tables import rejected_header
    from mismatch.jobs.table_kinds import exact_table
    from mismatch.outputs import check_outputs

    rows = exact_table("a part of such a split", lambda: header)
    rejected = exact_table("a table of its rejected rows", lambda: rejected_header(header))
    check_outputs(
        [
            *(("--output-dir", path, rows) for path in targets),
            ("--output-dir", targets[0].parent / REJECTED, rejected),
        ]
    )


def _read(csv_file: Path, header: list[str], columns: Columns, options: dict[str, Any]) -> _Table:
    from mismatch.data.pairs import read_rows

    table = _Table()
    by = [*(["text"] if options["group_by_text"] else []), *options["group_columns"]]
    table.joined = [[] for _ in by]
    for row in read_rows(csv_file, require_label="label" in header, columns=columns):
        if row.problem:
            table.reasons[row.line] = row.problem
            continue
        table.lines.append(row.line)
        table.pictures.add(columns.images(row.image_path))
        table.labels.append(row.label)
        table.strata.append((row.label, *(row.columns.get(name, "") for name in options["strata"])))
        for values, name in zip(table.joined, by, strict=True):
            values.append(hash(row.columns.get(name, "")))
    return table


def _leave_out(table: _Table, images: list[int], broken: Mapping[int, str]) -> None:
    """Rows whose image can't be read; the reason is kept."""
    good = [row not in broken for row in range(len(table.lines))]
    table.reasons |= {table.lines[row]: reason for row, reason in broken.items()}
    columns: list[list[Any]] = [
        table.lines,
        images,
        table.pictures.rows,
        table.labels,
        table.strata,
        *table.joined,
    ]
    for column in columns:
        column[:] = compress(column, good)


def _write(
    csv_file: Path,
    header: list[str],
    split_of: dict[int, int],
    reasons: dict[int, str],
    targets: Sequence[Path],
    columns: Columns,
) -> None:
    """All files at once, or none; rows in the order in which they stand."""
    from mismatch.data.pairs import read_rows
    from mismatch.jobs.row_tables import rejected_header, rejected_values, row_table

    folder = targets[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        tables = [stack.enter_context(row_table(path, header)) for path in targets]
        if reasons:
            rejected = stack.enter_context(row_table(folder / REJECTED, rejected_header(header)))
        for row in read_rows(csv_file, require_label="label" in header, columns=columns):
            if row.line in reasons:
                rejected.writerow(rejected_values(row, header, reasons[row.line]))
            else:
                tables[split_of[row.line]].writerow([row.columns.get(name, "") for name in header])
    if not reasons:
        # of an earlier split, whose place the new one has taken
        (folder / REJECTED).unlink(missing_ok=True)


def _said(
    report: SplitReport, rejected: int, targets: Sequence[Path], fractions: Sequence[float]
) -> Iterator[str]:
    for path, share, labels, images in zip(
        targets, fractions, report.labels, report.images, strict=True
    ):
        kinds = ", ".join(
            f"{labels[label]:,} {name}"
            for label, name in ((1, "matches"), (0, "mismatches"))
            if labels[label]
        )
        got = labels.total() / report.rows
        yield (
            f"{path}: {labels.total():,} rows ({got:.1%}; {share:.1%} asked for) over {images:,}"
            f" images{f': {kinds}' if kinds else ''}"
        )
    alike = (
        f"; {report.near_duplicates:,} images are near-duplicates of another one"
        if report.near_duplicates
        else ""
    )
    yield (
        f"{report.rows:,} rows in {report.groups:,} groups, the largest of {report.largest:,}"
        f" rows{alike}"
    )
    if report.largest > min(fractions) * report.rows:
        yield (
            "warning: the largest group is larger than the smallest split should be, so that shares"
            " can't be kept; use fewer columns to group by"
        )
    if rejected:
        yield (
            f"{rejected:,} rows can't be used and are in {targets[0].parent / REJECTED}, with the"
            " reason"
        )
