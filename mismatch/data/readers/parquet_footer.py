"""What the footer of a Parquet file says of its pieces of columns, read without pyarrow, which ends
the whole process where some of that is damaged.
"""

from __future__ import annotations

import os
import struct
from typing import IO, Any

from mismatch.data.readers.parquet_pages import I64, LIST, Chunk, CompactReader, PageError

__all__ = ["read_chunks"]

DAMAGED = "its footer is damaged"
TAIL = 8  # bytes at the end: the length of the footer, and a mark
# fields of the footer, of a row group in it, and of a piece of a column in that
ROW_GROUPS = 4
COLUMNS = 1
DESCRIPTION = 3
ENCODINGS = 2
CODEC = 4
PACKED_SIZE = 7
DATA_OFFSET = 9
DICTIONARY_OFFSET = 11


def read_chunks(file: IO[bytes], *, groups: int, columns: int) -> list[list[Chunk]]:
    """Return the pieces of so many row groups, one for each of so many columns; PageError where
    the footer is damaged.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - TAIL))
    [size] = struct.unpack("<I", file.read(TAIL)[:4])
    file.seek(max(0, end - TAIL - size))
    try:
        footer = _FooterReader(file.read(size)).struct()
        chunks = [_chunks(group) for group in footer.get(ROW_GROUPS) or []]
    except (IndexError, TypeError, AttributeError, KeyError) as error:
        raise PageError(DAMAGED) from error
    if len(chunks) != groups or any(len(group) != columns for group in chunks):
        raise PageError(DAMAGED)
    return chunks


def _chunks(group: dict[int, Any]) -> list[Chunk]:
    return [_chunk(column[DESCRIPTION]) for column in group[COLUMNS]]


def _chunk(fields: dict[int, Any]) -> Chunk:
    start = fields[DATA_OFFSET]
    if dictionary := fields.get(DICTIONARY_OFFSET):
        start = min(start, dictionary)
    size = fields[PACKED_SIZE]
    if min(start, size) < 0:
        raise PageError(DAMAGED)
    return Chunk(start, size, fields[CODEC] != 0, frozenset(fields[ENCODINGS]))


class _FooterReader(CompactReader):
    """One that keeps long numbers and lists too."""

    def value(self, kind: int, depth: int) -> Any:
        if kind == I64:
            return self.zigzag(bits=64)
        return self.items(kind, depth) if kind == LIST else super().value(kind, depth)
