"""Rows of Parquet and of a folder that save_to_disk of Hugging Face datasets wrote, streamed
through pyarrow.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mismatch.data.readers.arrow_values import EMBEDDED, ArrowValues, is_compressed, is_readable
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
from mismatch.errors import InputError, MachineError, MissingExtraError
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
STRINGS = "BYTE_ARRAY"  # a type of Parquet
BATCH = 4096  # rows that are held at a time


def import_pyarrow(what: str) -> tuple[Any, Any]:
    """Import pyarrow and pyarrow.parquet; MissingExtraError, which says what needs them, where they
    are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(what, "parquet") from error
    return pa, pq


def arrow_header(reading: Reading) -> list[str]:
    """Return the columns as rows have them; those that hold bytes are left out."""
    source = _Source(reading)
    names = reading.names(source.kept) or []
    reading.present(source.kept, names, source.unreadable)
    return names


def arrow_rows(reading: Reading) -> Iterator[Row]:
    """Stream the rows, a few thousand at a time."""
    source = _Source(reading)
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
        self.reading = reading
        self.path = reading.path if isinstance(reading.path, Remote) else Path(reading.path)
        self.is_folder = isinstance(self.path, Path) and self.path.is_dir()
        self.files = (
            dataset_files(self.path)
            if isinstance(self.path, Path) and self.is_folder
            else [self._file()]
        )
        self.size = sum(map(_size, self.files))  # bytes
        self.pa, self.pq = import_pyarrow(f"reading {self.path}")
        schema = self._schema()
        self.kept = [
            field.name
            for field in schema
            if field.name == reading.columns.image or is_readable(self.pa, field.type)
        ]
        self.unreadable = {
            field.name: str(field.type) for field in schema if field.name not in self.kept
        }
        self._values = ArrowValues(
            self.pa, reading.columns, self.kept, class_names(schema.metadata or {})
        )
        self._characters = 0  # of all values that have been handed out

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yield each with how many rows stand before it; InputError for a file that is damaged."""
        try:
            yield from self._dataset_batches() if self.is_folder else self._parquet_batches()
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
        if not start.startswith(b"PAR1") and (problem := content_problem(start)):
            raise InputError(f"{self.path} is no Parquet file but {problem}")
        return self.path

    def _schema(self) -> Any:
        try:
            if not self.is_folder:
                with self._parquet() as parquet:
                    return parquet.schema_arrow
            if not self.files:
                raise InputError(f"{self.path} names no data files")
            with self.pa.memory_map(str(self.files[0])) as source:
                return self.pa.ipc.open_stream(source).schema
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
        kind = "an Arrow dataset" if self.is_folder else "a Parquet file"
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
            leaves = self._leaves(described, chunks)
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
                for batch in parquet.iter_batches(
                    batch_size=count, row_groups=[group], columns=self.kept, use_threads=False
                ):
                    yield before, batch
                    before += batch.num_rows

    def _pages(self) -> Any:
        """Open the file, of which no more is read than is asked for: heads stand far from each
        other.
        """
        return (
            self.path.open() if isinstance(self.path, Remote) else self.path.open("rb", buffering=0)
        )

    def _leaves(self, parquet: Any, chunks: list[list[Chunk]]) -> list[Leaf]:
        """Return those of the kept columns."""
        kept = {*self.kept}
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

    def _dataset_batches(self) -> Iterator[tuple[int, Any]]:
        """Yield all, each with how many rows stand before it; mapped, so that one that nobody looks
        into is not read.
        """
        before = 0
        for file in self.files:
            with self.pa.memory_map(str(file)) as source:
                self._refuse_compressed(source)
                source.seek(0)
                for batch in self.pa.ipc.open_stream(source):
                    for start in range(0, batch.num_rows, BATCH):
                        part = batch.slice(start, BATCH)
                        part.validate(full=True)
                        yield before + start, part
                    before += batch.num_rows

    def _refuse_compressed(self, source: Any) -> None:
        for message in self.pa.ipc.MessageReader.open_stream(source):
            if is_compressed(message.type, message.metadata.to_pybytes()):
                raise InputError(
                    f"{self.path} holds compressed batches, which save_to_disk does not write;"
                    " write the dataset again with it"
                )


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
