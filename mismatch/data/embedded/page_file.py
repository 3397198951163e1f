"""One page of a column as a Parquet file of its own, so that pyarrow, which reads whole pieces of
columns, decodes a single page.

The page, and the dictionary that it may need, stand there as they are; only a footer is written.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from mismatch.data.readers.parquet_pages import BINARY, I32, I64, LIST, STRUCT

__all__ = ["CODECS", "MARK", "PagePlan", "footer_of"]

MARK = b"PAR1"
BYTES = 6  # type of Parquet: BYTE_ARRAY
OPTIONAL = 1
REQUIRED = 0
# pyarrow's names of what pages are packed by → Parquet's numbers
CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "LZ4": 7, "ZSTD": 6}


class PagePlan(NamedTuple):
    """What has to be said of a page's column."""

    codec: int
    encodings: tuple[int, ...]
    depth: int  # how many of the column and what it stands in may be null


def footer_of(plan: PagePlan, dictionary: int, page: int, *, rows: int, unpacked: int) -> bytes:
    """Return what stands behind the pages of a file that begins with `MARK`, with so many rows. Its
    column is called 0; what it stands in is a column 0 again, as often as there are levels.

    `dictionary`, `page`: bytes of these pages, 0 for no dictionary; `unpacked`: bytes of both.
    """
    names = ["0"] * max(1, plan.depth)
    start = len(MARK)
    chunk = [
        (1, I32, BYTES),
        (2, LIST, (I32, list(plan.encodings))),
        (3, LIST, (BINARY, names)),
        (4, I32, plan.codec),
        (5, I64, rows),
        (6, I64, unpacked),
        (7, I64, dictionary + page),
        (9, I64, start + dictionary),
    ]
    if dictionary:
        chunk.append((11, I64, start))
    column = [(2, I64, start), (3, STRUCT, chunk)]
    group = [(1, LIST, (STRUCT, [column])), (2, I64, unpacked), (3, I64, rows)]
    footer = _struct(
        [
            (1, I32, 2),
            (2, LIST, (STRUCT, _schema(plan.depth))),
            (3, I64, rows),
            (4, LIST, (STRUCT, [group])),
        ]
    )
    return footer + struct.pack("<I", len(footer)) + MARK


def _schema(depth: int) -> list[list[tuple[int, int, Any]]]:
    """Return a root, columns that stand in each other, and in the last of them the bytes."""
    schema: list[list[tuple[int, int, Any]]] = [[(4, BINARY, "root"), (5, I32, 1)]]
    schema += [[(3, I32, OPTIONAL), (4, BINARY, "0"), (5, I32, 1)]] * (depth - 1)
    repetition = OPTIONAL if depth else REQUIRED
    schema.append([(1, I32, BYTES), (3, I32, repetition), (4, BINARY, "0")])
    return schema


def _struct(fields: list[tuple[int, int, Any]]) -> bytes:
    """Return fields in Thrift's compact protocol: number, type and value, by number."""
    parts = []
    before = 0
    for number, kind, value in fields:
        parts.append(bytes([(number - before) << 4 | kind]) + _value(kind, value))
        before = number
    return b"".join(parts) + b"\0"


def _value(kind: int, value: Any) -> bytes:
    if kind in (I32, I64):
        return _varint(value * 2)  # none is below 0
    if kind == BINARY:
        data = str(value).encode()
        return _varint(len(data)) + data
    if kind == STRUCT:
        return _struct(value)
    item_kind, items = value
    count = len(items)
    head = bytes([count << 4 | item_kind]) if count < 15 else bytes([0xF0 | item_kind])
    long_count = b"" if count < 15 else _varint(count)
    return head + long_count + b"".join(_value(item_kind, item) for item in items)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)
