"""`mismatch split`: see `mismatch.split`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import PICTURE_OPTIONS, ROW_OPTIONS, ROWS
from mismatch.cli.value_types import Parsed, numbers
from mismatch.cli.verb import echo_result, flag, option, verb

__all__ = ["command"]


def _fractions(word: str) -> tuple[float, ...]:
    return numbers(word, "0.8,0.1,0.1")


@verb(
    "Split rows into train, val and test without leaks.",
    click.Argument(["rows"], metavar="CSV", type=ROWS),
    option("--output-dir", click.Path(path_type=Path, file_okay=False), required=True),
    option("--fractions", Parsed("fractions", _fractions), (0.8, 0.1, 0.1), show_default=False),
    flag("--group-by-text"),
    option("--group-column group_columns", multiple=True, metavar="NAME"),
    option("--stratify-column stratify_columns", multiple=True, metavar="NAME"),
    option("--seed", int, 0),
    flag("--overwrite"),
    flag("--json as_json"),
    *PICTURE_OPTIONS,
    *ROW_OPTIONS,
)
def command(rows: Path, as_json: bool, **options: Any) -> None:
    """Split a file of rows image_path,text[,label] into train.csv, val.csv and test.csv.

    Rows of one image, or of near-duplicate images (encoded or scaled again), never stand on two
    sides; labels are spread evenly. All columns are kept. Rows that can't be used, as their image
    can't be read, go to rejected.csv with the reason, their line and what stands there. Exit 0:
    done; 2: nothing was written.

    Options:
    --output-dir: Folder for train.csv, val.csv and test.csv.
    --fractions: Shares of the rows; two numbers make no test.csv.  [default: 0.8,0.1,0.1]
    --group-by-text: Keep rows with the same text on one side too.
    --group-column: Keep rows with the same value in this column on one side; repeatable.
    --stratify-column: Spread this column's values evenly, as the labels are; repeatable.
    --seed: Another seed gives another split; the order of the rows does not matter.
    --overwrite: Replace files of an earlier split of rows with the same columns; its test.csv goes
        where none is made.
    --json: Print what was done as JSON.
    """
    from mismatch.jobs.split import split

    echo_result(split(rows, **options), as_json=as_json)
