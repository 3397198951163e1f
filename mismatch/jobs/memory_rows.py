"""Rows that a job hands back as they came: tables as tables, mappings as mappings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mismatch.data.readers.memory import RowsLike, row_mappings
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.jobs.options import RowSource

__all__ = ["check_image_is_file", "in_memory", "keep_rows", "pick_rows"]


def in_memory(rows: RowsLike) -> bool:
    """Return whether rows are no path or URL."""
    return not isinstance(rows, (str, os.PathLike, Remote))


def keep_rows(rows: RowsLike) -> RowsLike:
    """Return rows that can be picked from by number: a table as it is, an iterable as a list.

    A path stays a path.
    """
    if not in_memory(rows) or hasattr(rows, "columns") or hasattr(rows, "column_names"):
        return rows
    return [dict(row) for row in row_mappings(rows)]  # a generator may fill one mapping again


def pick_rows(
    rows: RowsLike, numbers: Sequence[int], added: Mapping[str, Sequence[Any]] | None = None
) -> Any:
    """Return these rows of what `keep_rows` returned, by their numbers from 0; each may come again.

    `added`: columns that replace others or stand behind them, a value for each number. A pandas
    table stays one, with its own index; other tables stay what they are unless columns are added,
    then it is a list of mappings, as of an iterable.
    """
    columns = added or {}
    if hasattr(rows, "iloc"):  # pandas
        frame = rows.iloc[list(numbers)]
        return frame.assign(**columns) if columns else frame
    if not columns:
        if hasattr(rows, "iter_rows"):  # polars
            return rows[list(numbers)]
        if hasattr(rows, "take"):  # pyarrow
            return rows.take(list(numbers))
        if hasattr(rows, "select"):  # datasets
            return rows.select(list(numbers))
    mappings = rows if isinstance(rows, list) else list(row_mappings(rows))
    picked = [dict(mappings[number]) for number in numbers]
    for name, values in columns.items():
        for row, value in zip(picked, values, strict=True):
            row[name] = value
    return picked


def check_image_is_file(source: RowSource, images: Iterable[str], row: Row, option: str) -> None:
    """Refuse to write the paths of images that are in memory: their files go when the job ends.

    `source`: rows that are not a path themselves. InputError.
    """
    if not isinstance(source.path, Path):
        return
    folder = source.path.parent
    for image in images:
        if (Path(source.base) / image).parent == folder:
            raise InputError(
                f"row {row.line}: its image is in memory, and {option} would name a file that is"
                " there no longer; leave it out, or give the paths of images"
            )
