"""Which tables a job may replace: those whose columns are what it writes, by the format that
the file's name asks for.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mismatch.data.pairs import DELIMITERS
from mismatch.data.readers.arrow import import_pyarrow
from mismatch.data.readers.text_files import MAX_RECORD
from mismatch.data.rows import MAX_FIELD
from mismatch.errors import InputError, MismatchError
from mismatch.io.descriptors import descriptor_of
from mismatch.io.outputs import OutputKind
from mismatch.jobs.row_tables import PARQUET_OUTPUT, harmless, table_kind

__all__ = ["exact_table", "extended_table", "read_names", "refuse_unasked"]

# bytes of a JSON line: two texts as long as may be, each character as an escape of six
MAX_LINE = 12 * MAX_FIELD
MAX_FOOTER = 2**26  # bytes of what a Parquet file says of itself
MARK = b"PAR1"  # stands at both ends of a Parquet file
Reader = Callable[[Path], Sequence[str] | None]


def extended_table(
    name: str, columns: Callable[[], Iterable[str]], added: Sequence[str]
) -> OutputKind:
    """Return the kind of a table of the rows' own columns, or some of them, with those that are
    added behind them, and no others; `columns` is called where a file is there.
    """

    def is_known(path: Path) -> bool:
        names = read_names(path) or []
        row_columns = names[: -len(added)]
        if names[-len(added) :] != list(added):
            return False
        wanted = list(columns())
        return {*row_columns} <= {*wanted, *(str(harmless(column)) for column in wanted)}

    return OutputKind(name, is_known)


def exact_table(name: str, header: Callable[[], Sequence[str]]) -> OutputKind:
    """Return the kind of a table with these columns and no others; `header` is called where a file
    is there.
    """
    return OutputKind(name, lambda path: read_names(path) == list(header()))


def refuse_unasked(option: str, paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse files that are there, unless `overwrite`: rows to train on look the same
    whether a command or a person has written them.

    InputError. Empty files and devices may be written to.
    """
    for path in paths:
        if descriptor_of(path) is not None:
            continue
        if not overwrite and path.is_file() and path.stat().st_size:
            raise InputError(
                f"{option} {path} is there already; choose another name, or pass `overwrite=True`"
            )


def read_names(path: Path) -> list[str] | None:
    """Return the names of a table's columns, in order, as the format that its name asks for has
    them; None where it has no such header.
    """
    kind = table_kind(path)
    try:
        names = READERS.get(kind, _csv_names)(path)
    except (OSError, ValueError, RecursionError, csv.Error, MismatchError):
        return None
    return None if names is None else list(names)


def _csv_names(path: Path) -> Sequence[str] | None:
    delimiter = DELIMITERS[table_kind(path)]
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = iter(lambda: file.readline(MAX_RECORD), "")
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
        records = csv.reader(lines, strict=True, delimiter=delimiter)
        header = next(records, None)
        if header is not None and any(len(record) > len(header) for record in records):
            return None  # somebody has added cells
        return header


def _json_names(path: Path) -> Sequence[str] | None:
    """Return the names of all rows' values, as somebody may have added some to one of them."""
    names: dict[str, None] = {}
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(MAX_LINE), b""):
            row = json.loads(line)
            if not isinstance(row, dict):
                return None
            names |= dict.fromkeys(row)
    return list(names) or None


def _parquet_names(path: Path) -> Sequence[str] | None:
    with path.open("rb") as file:
        head = file.read(len(MARK))
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if head != MARK or len(tail) < 8 or tail[4:] != MARK:
        return None
    [footer] = struct.unpack("<I", tail[:4])
    return None if footer > MAX_FOOTER else _schema_names(path)


def _schema_names(path: Path) -> Sequence[str] | None:
    pyarrow, parquet = import_pyarrow(PARQUET_OUTPUT)
    try:
        names: list[Any] = parquet.read_schema(path).names
    except pyarrow.ArrowException:
        return None
    return [str(name) for name in names]


READERS: dict[str, Reader] = {"parquet": _parquet_names, "jsonl": _json_names}
