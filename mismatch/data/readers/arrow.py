"""Rows of Parquet and of a folder that save_to_disk of Hugging Face datasets wrote, streamed
through pyarrow.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mismatch.data.embedded.arrow import batches_of, check_uncompressed, open_batches
from mismatch.data.embedded.row_names import RowNames
from mismatch.data.readers.arrow_values import EMBEDDED, ArrowValues, import_pyarrow, is_readable
from mismatch.data.readers.dataset_folder import dataset_files
from mismatch.data.readers.parquet_footer import read_chunks
from mismatch.data.readers.parquet_pages import (
    DELTA_STRINGS,
    Chunk,
    Leaf,
    PageError,
    rows_at_a_time,
)
from mismatch.data.readers.text_files import START, content_problem, open_rows
from mismatch.data.rows import MAX_FIELD, Reading, Row, is_too_long
from mismatch.errors import InputError, MachineError
from mismatch.io.remote import READ, Remote
from mismatch.io.retries import is_transient, reason

__all__ = [
    "EMBEDDED",
    "arrow_header",
    "arrow_rows",
    "class_names",
    "import_pyarrow",
]

NUL = "a NUL character stands in this row; take it out"
TOO_LONG = f"a value is longer than {MAX_FIELD:,} characters"
ROW_BYTES = 16  # that a row counts for, however little it says
# characters for each byte of a file, from which on, above `FREE`, it is taken for a bomb
PACKED = 1_000
FREE = 2**28  # characters
ARROW = ".arrow"
ARROW_MARK = b"ARROW1"
STRINGS = "BYTE_ARRAY"  # a type of Parquet
BATCH = 4096  # rows that are held at a time


def arrow_header(reading: Reading) -> list[str]:
    """Return the columns as rows have them; those that hold bytes are left out."""
    source = _Source(reading)
    names = source.reading.names(source.kept) or []
    source.reading.present(source.kept, names, source.unreadable)
    return names


def arrow_rows(reading: Reading) -> Iterator[Row]:
    """Stream the rows, a few thousand at a time."""
    source = _Source(reading)
    reading = source.reading
    names = reading.names(source.kept)
    if names is None:
        return
    present = reading.present(source.kept, names, source.unreadable)
    for before, batch in source.batches():
        for within, lists, problems in source.texts(batch):
            first = before + within + 1
            for i, values in enumerate(zip(*lists, strict=True)):
                yield _row(
                    first + i,
                    dict(zip(names, values, strict=True)),
                    present,
                    problems.get(i),
                    reading,
                )


def _row(
    number: int,
    columns: dict[str, str],
    present: tuple[str, ...],
    problem: str | None,
    reading: Reading,
) -> Row:
    if is_too_long(columns.values()):
        return Row(number, "", "", None, {}, TOO_LONG, intact=False)
    if "\0" in "".join(columns.values()):
        return Row(
            number,
            columns.get("image_path", ""),
            columns.get("text", ""),
            None,
            columns,
            NUL,
            intact=False,
        )
    return reading.row(number, columns, present, problem)


class _Source:
    """The batches of a Parquet file or a dataset, and their columns as texts."""

    def __init__(self, reading: Reading) -> None:
        self.path = reading.path if isinstance(reading.path, Remote) else Path(reading.path)
        self.is_folder = isinstance(self.path, Path) and self.path.is_dir()
        self.is_arrow = self.is_folder or self.path.suffix.lower() == ARROW
        if self.is_arrow and isinstance(self.path, Remote):
            raise InputError(f"{self.path} is an Arrow file in a store; download it")
        self.files = (
            dataset_files(self.path)
            if isinstance(self.path, Path) and self.is_folder
            else [self._file()]
        )
        self.size = sum(map(_size, self.files))  # bytes
        self.pa, self.pq = import_pyarrow(f"reading {self.path}")
        schema = self._schema()
        local = self.path if isinstance(self.path, Path) else None
        self.names = RowNames(self.pa, schema, reading.columns, local)
        columns = self.names.columns
        self.reading = replace(reading, columns=columns)
        self.kept = self.names.added() + [
            field.name
            for field in schema
            if field.name == columns.image or is_readable(self.pa, field.type)
        ]
        self.unreadable = {
            field.name: str(field.type) for field in schema if field.name not in self.kept
        }
        self._values = ArrowValues(self.pa, columns, self.kept, class_names(schema.metadata or {}))
        self._characters = 0  # of all values that have been handed out

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yield each with how many rows stand before it; InputError for a file that is damaged."""
        try:
            yield from self._arrow_batches() if self.is_arrow else self._parquet_batches()
        except (
            self.pa.ArrowException,
            OSError,
            PageError,
            UnicodeDecodeError,
            struct.error,
        ) as error:
            raise self._damaged(error) from error

    def texts(self, batch: Any) -> Iterator[tuple[int, list[list[str]], dict[int, str]]]:
        """Yield a batch in parts: how many of its rows stand before one, and what
        `ArrowValues.texts` says of it. InputError for damage and for bombs.
        """
        try:
            for before, part in self._values.slices(batch):
                lists, problems = self._values.texts(part)
                self._characters += ROW_BYTES * part.num_rows + sum(
                    sum(map(len, values)) for values in lists
                )
                if self._characters > max(FREE, PACKED * self.size):
                    raise InputError(
                        f"{self.path} unpacks to more than {PACKED:,} times its size;"
                        " write it again"
                        " without what repeats"
                    )
                yield before, lists, problems
        except (self.pa.ArrowException, ValueError, RecursionError) as error:
            raise self._damaged(error) from error

    def _file(self) -> Path | Remote:
        with open_rows(self.path, "utf-8") as file:
            # of an object, reading fetches megabytes
            start = b"" if isinstance(self.path, Remote) else file.read(START)
        kind = "Arrow" if self.is_arrow else "Parquet"
        mark = ARROW_MARK if self.is_arrow else b"PAR1"
        if not start.startswith(mark) and (problem := content_problem(start)):
            raise InputError(f"{self.path} is no {kind} file but {problem}")
        return self.path

    def _schema(self) -> Any:
        try:
            if not self.is_arrow:
                with self._parquet() as parquet:
                    return parquet.schema_arrow
            if not self.files:
                raise InputError(f"{self.path} names no data files")
            with self.pa.memory_map(str(self.files[0])) as source:
                return open_batches(self.pa, source).schema
        except (
            self.pa.ArrowException,
            OSError,
            PageError,
            UnicodeDecodeError,
            struct.error,
        ) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError | MachineError:
        if isinstance(error, OSError) and is_transient(error):
            return MachineError(f"{self.path} can't be read: {reason(error)}")
        kind = "an Arrow dataset" if self.is_arrow else "a Parquet file"
        return InputError(
            f"{self.path} can't be read as {kind}:"
            f" {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        )

    def _parquet(self, **options: Any) -> Any:
        """Read a column's piece at a time, however large the row groups are."""
        if isinstance(self.path, Remote):
            return self.pq.ParquetFile(
                self.path.open(), buffer_size=READ, pre_buffer=False, **options
            )
        return self.pq.ParquetFile(self.path, buffer_size=2**16, pre_buffer=False, **options)

    def _parquet_batches(self) -> Iterator[tuple[int, Any]]:
        """Yield those of all row groups, each with how many rows stand before it."""
        with self._parquet() as described, self._pages() as file:
            metadata = described.metadata
            chunks = read_chunks(file, groups=metadata.num_row_groups, columns=metadata.num_columns)
            read = self.names.read(self.kept)
            leaves = self._leaves(described, chunks, read)
            columns = {leaf: described.schema.column(leaf.number) for leaf in leaves}
        indexed = [
            column.path
            for leaf, column in columns.items()
            if column.physical_type == STRINGS and not leaf.is_expanded
        ]
        with (
            self._parquet(metadata=metadata, read_dictionary=indexed) as parquet,
            self._pages() as pages,
        ):
            before = 0
            for group, pieces in enumerate(chunks):
                if metadata.row_group(group).num_rows == 0:
                    continue  # it has no pages
                count = rows_at_a_time(pages, pieces, leaves, max_rows=BATCH)
                there = self.names.of_group(self.path, group)
                start = before
                for batch in parquet.iter_batches(
                    batch_size=count, row_groups=[group], columns=read, use_threads=False
                ):
                    part = slice(before - start, before - start + batch.num_rows)
                    holds = None if there is None else there[part]
                    yield before, self.names.named(batch, self.kept, self.path, before, holds)
                    before += batch.num_rows

    def _pages(self) -> Any:
        """Open the file, of which no more is read than is asked for: heads stand far from each
        other.
        """
        return (
            self.path.open() if isinstance(self.path, Remote) else self.path.open("rb", buffering=0)
        )

    def _leaves(self, parquet: Any, chunks: list[list[Chunk]], read: list[str]) -> list[Leaf]:
        """Return those of the columns that are read."""
        kept = {*read}
        leaves = []
        for number in range(len(parquet.schema)):
            column = parquet.schema.column(number)
            parts = column.path.split(".")
            if any(".".join(parts[:count]) in kept for count in range(1, len(parts) + 1)):
                # pyarrow reads no indices of that encoding
                is_expanded = column.physical_type == STRINGS and any(
                    DELTA_STRINGS in group[number].encodings for group in chunks
                )
                leaves.append(Leaf(number, column.max_repetition_level > 0, is_expanded))
        return leaves

    def _arrow_batches(self) -> Iterator[tuple[int, Any]]:
        """Yield all, each with how many rows stand before it; mapped, so that one that nobody looks
        into is not read.
        """
        before = 0
        for file in self.files:
            within = 0  # rows of the file
            with self.pa.memory_map(str(file)) as source:
                check_uncompressed(self.pa, source, self.path)
                for batch in batches_of(open_batches(self.pa, source)):
                    for start in range(0, batch.num_rows, BATCH):
                        part = batch.slice(start, BATCH)
                        part.validate(full=True)
                        holds = self.names.of_batch(part)
                        first = within + start
                        named = self.names.named(part, self.kept, file, first, holds)
                        yield before + first, named
                    within += batch.num_rows
            before += within


def _size(file: Path | Remote) -> int:
    """Return its bytes; 0 of a file that is not there, which opening it says."""
    if isinstance(file, Path):
        return file.stat().st_size if file.exists() else 0
    with file.open() as opened:
        return opened.seek(0, io.SEEK_END)


def class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Map a column → the names of its classes, which datasets stores as numbers; a label is what it
    is called, not where it stands in that list.
    """
    try:
        features = (
            json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        )
        return {
            name: list(map(str, feature["names"]))
            for name, feature in features.items()
            if _is_class(feature)
        }
    except (ValueError, AttributeError, RecursionError):
        return {}


def _is_class(feature: Any) -> bool:
    return (
        isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    )
