"""Rows as a table of text, in the format that the file's name asks for, as `predict` writes scores;
and what a row that is rejected is written with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import click

from mismatch.cli.tables import GROUP_ROWS, WHAT, RowWriter, table_kind
from mismatch.data.arrow_rows import import_pyarrow
from mismatch.data.pairs import DELIMITERS
from mismatch.data.rows import Row
from mismatch.files import atomic_binary, atomic_file

__all__ = ["RowTable", "check_table", "rejected_header", "rejected_values", "row_table"]

REJECTED = ("reason", "line", "raw")


class RowTable(Protocol):
    """Where rows go."""

    def writerow(self, row: Sequence[object]) -> None:
        """Write one row, a value for each column."""


def check_table(path: Path, *, safe: bool = False) -> str:
    """What a file of this name holds; UsageError and MissingExtraError as `row_table`, to be said
    before anything is computed.
    """
    kind = table_kind(path)
    if safe and kind not in DELIMITERS:
        raise click.UsageError(
            f"--safe-csv goes with CSV, and {path} is none: no spreadsheet runs what is in it"
        )
    return kind


@contextmanager
def row_table(path: Path, header: Sequence[str], *, safe: bool = False) -> Iterator[RowTable]:
    """A table under the header: CSV, TSV, JSON lines or Parquet of texts, by the name; it takes its
    name when the block ends, see `atomic_file`.

    `safe`: no cell is a formula; UsageError for a format in which no spreadsheet runs any.
    MissingExtraError without pyarrow.
    """
    kind = check_table(path, safe=safe)
    if kind == "parquet":
        with atomic_binary(path) as file, _parquet(file, header) as table:
            yield table
        return
    with atomic_file(path) as text:
        if kind == "jsonl":
            yield _JsonRows(text, header)
            return
        writer = RowWriter(text, safe=safe, delimiter=DELIMITERS[kind])
        writer.writerow(header)
        yield writer


def rejected_header(header: Sequence[str]) -> list[str]:
    """The columns of rejected rows: their own, why they are rejected, where they stand in their
    file, and the text that stands there.
    """
    prefix = ""
    # of a file that was rejected before
    while {f"{prefix}{name}" for name in REJECTED} & {*header}:
        prefix += "rejected_"
    return [*header, *(f"{prefix}{name}" for name in REJECTED)]


def rejected_values(row: Row, header: Sequence[str], reason: str) -> list[object]:
    """What `rejected_header` names. The text is left out where the columns hold all that the row
    says.
    """
    return [*(row.columns.get(name, "") for name in header), reason, row.line, row.raw]


class _JsonRows:
    """An object a line."""

    def __init__(self, file: Any, header: Sequence[str]) -> None:
        self._file = file
        self._header = header

    def writerow(self, row: Sequence[object]) -> None:
        values = dict(zip(self._header, row, strict=True))
        self._file.write(json.dumps(values, ensure_ascii=False) + "\n")


class _ParquetRows:
    """Columns of text, in row groups of `GROUP_ROWS`."""

    def __init__(self, arrow: Any, writer: Any, schema: Any) -> None:
        self._arrow = arrow
        self._writer = writer
        self._schema = schema
        self._rows: list[list[str]] = []

    def writerow(self, row: Sequence[object]) -> None:
        self._rows.append(list(map(str, row)))
        if len(self._rows) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [self._arrow.array(values, self._arrow.string()) for values in columns]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows.clear()


@contextmanager
def _parquet(file: Any, header: Sequence[str]) -> Iterator[_ParquetRows]:
    arrow, parquet = import_pyarrow(WHAT)
    schema = arrow.schema([(name, arrow.string()) for name in header])
    with parquet.ParquetWriter(file, schema) as writer:
        rows = _ParquetRows(arrow, writer, schema)
        yield rows
        rows.flush()
