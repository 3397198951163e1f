"""Images in the column of an Arrow file or stream, as save_to_disk of Hugging Face datasets writes
them: mapped into memory, each read where it stands.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mismatch.data.embedded.columns import ImageColumn, image_columns, image_values
from mismatch.data.embedded.damage import explained_damage
from mismatch.data.readers.arrow_values import is_compressed
from mismatch.errors import InputError

__all__ = ["ArrowImages", "batches_of", "check_uncompressed", "open_batches"]

FILE_MARK = b"ARROW1"  # of the format that has its batches listed at its end
MAX_BATCHES = 2**20


def open_batches(arrow: Any, source: Any) -> Any:
    """Return a reader of the batches of a mapped file, which may have either of Arrow's formats.
    It has `schema`.
    """
    source.seek(0)
    is_file = source.read(len(FILE_MARK)) == FILE_MARK
    source.seek(0)
    return arrow.ipc.open_file(source) if is_file else arrow.ipc.open_stream(source)


def batches_of(reader: Any) -> Iterator[Any]:
    """Yield the batches of what `open_batches` returns."""
    if not hasattr(reader, "num_record_batches"):
        yield from reader
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def check_uncompressed(arrow: Any, source: Any, name: object) -> None:
    """Refuse compressed batches: a small file may hold any number of bytes in them."""
    source.seek(0)
    start = 8 if source.read(len(FILE_MARK)) == FILE_MARK else 0  # where its stream begins
    source.seek(start)
    for message in arrow.ipc.MessageReader.open_stream(source):
        if is_compressed(message.type, message.metadata.to_pybytes()):
            raise InputError(
                f"{name} holds compressed batches, which save_to_disk does not write; write the"
                " dataset again with it"
            )


class ArrowImages:
    """The images of one file. Thread-safe."""

    def __init__(self, path: str | Path, arrow: Any) -> None:
        """Map the file, and find its batches; InputError for one that is damaged."""
        self.path = path
        self._lock = threading.Lock()
        self._arrow = arrow
        with self._reading():
            self._source = arrow.memory_map(str(path))
            check_uncompressed(arrow, self._source, path)
            self._find_batches(open_batches(arrow, self._source))

    def _find_batches(self, reader: Any) -> None:
        self.columns = image_columns(self._arrow, reader.schema)
        numbers = [reader.schema.get_field_index(column.name) for column in self.columns]
        self._starts: list[int] = []  # row of the file, of each batch
        self._batches: list[list[Any]] = []  # its columns of images
        self._checked: set[tuple[int, int]] = set()  # batches and columns
        self.count = 0
        for batch in batches_of(reader):
            if len(self._starts) >= MAX_BATCHES:
                raise InputError(f"{self.path} has more than {MAX_BATCHES:,} batches")
            self._starts.append(self.count)
            self._batches.append([batch.column(number) for number in numbers])
            self.count += batch.num_rows

    def value(self, column: ImageColumn, row: int) -> bytes | None:
        """Return the bytes of an image; None where the row has none. InputError for damage."""
        number = bisect.bisect_right(self._starts, row) - 1
        place = self.columns.index(column)
        array = self._batches[number][place]
        with self._reading():
            with self._lock:
                if (number, place) not in self._checked:
                    array.validate(full=True)
                    self._checked.add((number, place))
            values = image_values(self._arrow, array)
            value = values[row - self._starts[number]]
            return value.as_py() if value.is_valid else None

    def _reading(self) -> AbstractContextManager[None]:
        """Turn damage into an InputError."""
        return explained_damage(self.path, "Arrow", self._arrow.ArrowException)
