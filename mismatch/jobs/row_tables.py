"""Rows as a table of text, in the format that the file's name asks for; and what a row that is
rejected is written with.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TextIO

from mismatch.data.pairs import DELIMITERS, SUFFIXES
from mismatch.data.readers.arrow import import_pyarrow
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.atomic import WaitingNames, atomic_binary, atomic_file

__all__ = [
    "FORMULA",
    "GROUP_ROWS",
    "NUMBER",
    "PARQUET_OUTPUT",
    "RowTable",
    "RowWriter",
    "check_table",
    "harmless",
    "rejected_header",
    "rejected_values",
    "row_table",
    "table_kind",
]

# a cell that begins so is a formula; the last four where a spreadsheet folds them
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
# endings of what a table would not be, were it written as CSV under such a name
OTHER_FORMATS = frozenset(
    [
        *(".xls", ".xlsb", ".xlsm", ".xlsx", ".ods", ".pdf", ".html", ".xml", ".yaml", ".yml"),
        *(".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz"),
        *(".arrow", ".avro", ".feather", ".orc", ".npy", ".npz", ".h5", ".pickle", ".pkl"),
        *(".db", ".sqlite"),
    ]
)
GROUP_ROWS = 65_536  # rows of Parquet that are held and written together
PARQUET_OUTPUT = "an output that ends in .parquet"  # needs pyarrow
REJECTED = ("reason", "line", "raw")
ALL_TEXT: Mapping[str, type] = MappingProxyType({})


class RowTable(Protocol):
    """Where rows go."""

    def writerow(self, row: Sequence[object]) -> None:
        """Write one row, a value for each column."""


class RowWriter:
    """Rows as CSV with plain line ends. A row with a carriage return is quoted whole: until Python
    3.13, csv leaves a lone one bare.
    """

    def __init__(self, file: TextIO, *, safe: bool = False, delimiter: str = ",") -> None:
        """Write to `file`. `safe`: no cell is a formula; `delimiter`: a tab for TSV."""
        self._safe = safe
        self._plain = csv.writer(file, lineterminator="\n", delimiter=delimiter)
        self._quoted = csv.writer(
            file, lineterminator="\n", delimiter=delimiter, quoting=csv.QUOTE_ALL
        )

    def writerow(self, row: Iterable[object]) -> None:
        """Write one row."""
        values = list(map(harmless, row)) if self._safe else list(row)
        writer = self._quoted if any("\r" in str(value) for value in values) else self._plain
        writer.writerow(values)


def harmless(value: object) -> object:
    """Return a cell, behind an apostrophe where a spreadsheet would run it as a formula: it begins
    with = + - @, a tab or a line's end, and is no number.
    """
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else value


def table_kind(output: str | Path) -> str:
    """Return what a file of this name holds, as it would be read: csv, tsv, jsonl or parquet.
    InputError for the ending of another format, MissingExtraError where its writer is not
    installed.
    """
    ending = Path(output).suffix.lower()
    if ending in OTHER_FORMATS:
        raise InputError(
            f"{output} ends in {ending}, which is not written here; .csv, .tsv, .jsonl and .parquet"
            " are"
        )
    kind = SUFFIXES.get(ending, "csv")
    if kind == "parquet":
        import_pyarrow(PARQUET_OUTPUT)
    return kind


def check_table(path: Path, *, safe: bool = False) -> str:
    """Return what a file of this name holds; InputError and MissingExtraError as `row_table`, to be
    raised before anything is computed.
    """
    kind = table_kind(path)
    if safe and kind not in DELIMITERS:
        raise InputError(
            f"`safe_csv` goes with CSV, and {path} is none: no spreadsheet runs what is in it",
        )
    return kind


@contextmanager
def row_table(
    path: Path,
    header: Sequence[str],
    *,
    safe: bool = False,
    names: WaitingNames | None = None,
    numbers: Mapping[str, type] = ALL_TEXT,
) -> Iterator[RowTable]:
    """Yield a table under the header: CSV, TSV, JSON lines or Parquet of texts, by the name; it
    takes its name when the block ends, see `atomic_file`.

    `safe`: no cell is a formula; InputError for a format in which no spreadsheet runs any. `names`:
    it takes its name with other files, see `together`. `numbers`: columns that hold numbers or
    None, and whether these are int or float: CSV has nine digits of one, and nothing for None.
    MissingExtraError without pyarrow.
    """
    kind = check_table(path, safe=safe)
    if kind == "parquet":
        with atomic_binary(path, names) as file, _parquet(file, header, numbers) as table:
            yield table
        return
    with atomic_file(path, names) as text:
        if kind == "jsonl":
            yield _JsonRows(text, header)
            return
        writer = RowWriter(text, safe=safe, delimiter=DELIMITERS[kind])
        writer.writerow(header)
        yield writer if not numbers else _TextRows(writer, header, numbers)


def rejected_header(header: Sequence[str]) -> list[str]:
    """Return the columns of rejected rows: their own, why they are rejected, where they stand in
    their file, and the text that stands there.
    """
    prefix = ""
    # a file that was rejected before has these columns already
    while {f"{prefix}{name}" for name in REJECTED} & {*header}:
        prefix += "rejected_"
    return [*header, *(f"{prefix}{name}" for name in REJECTED)]


def rejected_values(row: Row, header: Sequence[str], reason: str) -> list[object]:
    """Return what `rejected_header` names. The text is left out where the columns hold all that the
    row says.
    """
    return [*(row.columns.get(name, "") for name in header), reason, row.line, row.raw]


class _TextRows:
    """Numbers as texts of nine digits."""

    def __init__(self, table: RowTable, header: Sequence[str], numbers: Mapping[str, type]) -> None:
        self._table = table
        self._is_number = [name in numbers for name in header]

    def writerow(self, row: Sequence[object]) -> None:
        cells = zip(row, self._is_number, strict=True)
        self._table.writerow(
            [_number_text(value) if is_number else value for value, is_number in cells]
        )


def _number_text(value: object) -> str:
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)


class _JsonRows:
    """An object a line."""

    def __init__(self, file: Any, header: Sequence[str]) -> None:
        self._file = file
        self._header = header

    def writerow(self, row: Sequence[object]) -> None:
        values = dict(zip(self._header, row, strict=True))
        self._file.write(json.dumps(values, ensure_ascii=False) + "\n")


class _ParquetRows:
    """Columns of text or numbers, in row groups of `GROUP_ROWS`."""

    def __init__(self, arrow: Any, writer: Any, schema: Any) -> None:
        self._arrow = arrow
        self._writer = writer
        self._schema = schema
        self._is_text = [kind == arrow.string() for kind in schema.types]
        self._rows: list[list[object]] = []

    def writerow(self, row: Sequence[object]) -> None:
        cells = zip(row, self._is_text, strict=True)
        self._rows.append([str(value) if is_text else value for value, is_text in cells])
        if len(self._rows) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        kinds = self._schema.types
        arrays = [
            self._arrow.array(values, kind) for values, kind in zip(columns, kinds, strict=True)
        ]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows.clear()


@contextmanager
def _parquet(
    file: Any, header: Sequence[str], numbers: Mapping[str, type]
) -> Iterator[_ParquetRows]:
    arrow, parquet = import_pyarrow(PARQUET_OUTPUT)
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[numbers.get(name, str)]) for name in header])
    with parquet.ParquetWriter(file, schema) as writer:
        rows = _ParquetRows(arrow, writer, schema)
        yield rows
        rows.flush()
