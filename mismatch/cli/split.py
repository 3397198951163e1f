"""`mismatch split`: see `mismatch.split`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import job_row_options
from mismatch.cli.pictures import picture_options

if TYPE_CHECKING:
    from mismatch.jobs.split import SplitPart, SplitResult

__all__ = ["command"]


class Fractions(click.ParamType[tuple[float, ...]]):
    """Shares, as in 0.8,0.1,0.1."""

    name = "fractions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, as 0.8,0.1,0.1", param, ctx)


@click.command(short_help="Split rows into train, val and test without leaks.")
@click.argument("rows", metavar="CSV", type=click.Path(path_type=Path))
@click.option(
    "--output-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for train.csv, val.csv and test.csv.",
)
@click.option(
    "--fractions",
    type=Fractions(),
    default=(0.8, 0.1, 0.1),
    help="Shares of the rows; two numbers make no test.csv.  [default: 0.8,0.1,0.1]",
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
    "stratify_columns",
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
@job_row_options
def command(rows: Path, fractions: tuple[float, ...], as_json: bool, **options: Any) -> None:
    """Split a file of rows image_path,text[,label] into train.csv, val.csv and test.csv.

    Rows of one image, or of near-duplicate images (encoded or scaled anew), never stand on two
    sides; labels are spread evenly. All columns are kept. Rows that can't be used, as their image
    can't be read, go to rejected.csv with the reason, their line and what stands there. Exit 0:
    done; 2: nothing was written.
    """
    from mismatch.jobs.split import split

    result = split(rows, fractions=fractions, **options)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        shares = [share / sum(fractions) for share in fractions]
        click.echo("\n".join(_lines(result, shares)))


def _lines(result: SplitResult, shares: Sequence[float]) -> Iterator[str]:
    """Yield the result for people."""
    for (name, part), share in zip(result.splits.items(), shares, strict=True):
        yield (
            f"{result.parts[name]}: {part.rows:,} rows ({part.rows / result.rows:.1%};"
            f" {share:.1%} asked for) over {part.images:,} images{_kinds(part)}"
        )
    alike = ""
    if result.near_duplicate_images:
        count = result.near_duplicate_images
        alike = f"; {count:,} images are near-duplicates of another one"
    yield (
        f"{result.rows:,} rows in {result.groups:,} groups, the largest of"
        f" {result.largest_group:,} rows{alike}"
    )
    empty = [str(result.parts[name]) for name, part in result.splits.items() if not part.rows]
    if empty:
        verb = "holds" if len(empty) == 1 else "hold"
        yield f"warning: {' and '.join(empty)} {verb} no rows; ask for larger shares"
    if result.largest_group > min(shares) * result.rows:
        yield (
            "warning: the largest group is larger than the smallest split should be, so that shares"
            " can't be kept; use fewer columns to group by"
        )
    if result.rejected:
        yield (
            f"{result.rejected:,} rows can't be used and are in {result.rejected_rows}, with the"
            " reason"
        )


def _kinds(part: SplitPart) -> str:
    """Return `: 60 matches, 60 mismatches`, or nothing where no row has a label."""
    names = (("1", "matches"), ("0", "mismatches"))
    kinds = [f"{part.labels[key]:,} {name}" for key, name in names if part.labels.get(key)]
    return f": {', '.join(kinds)}" if kinds else ""
