"""mismatch.data.readers.parquet_pages: heads of pages, as pyarrow writes them and as no writer does;
what is refused by them is in test_readers_arrow.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.readers.parquet_footer import read_chunks
from mismatch.data.readers.parquet_pages import Leaf, PageError, page_heads, rows_at_a_time

ROWS = 5_000


@pytest.mark.parametrize(
    ("options", "encoding", "pages"),
    [
        ({}, 8, 2),
        ({"use_dictionary": False}, 0, 1),
        (
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY", "compression": "zstd"},
            7,
            1,
        ),
        ({"data_page_version": "2.0", "compression": "none"}, 8, 2),
        ({"use_dictionary": False, "data_page_size": 1_000, "write_page_checksum": True}, 0, 5),
    ],
)
def test_heads_are_read_as_they_were_written(
    tmp_path: Path, options: dict[str, Any], encoding: int, pages: int
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = [f"a red shirt {number}" for number in range(ROWS)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet", **options)
    with (
        pq.ParquetFile(tmp_path / "rows.parquet") as file,
        (tmp_path / "rows.parquet").open("rb") as data,
    ):
        chunk = file.metadata.row_group(0).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        heads = list(page_heads(data, start, chunk.total_compressed_size))
        count = rows_at_a_time(
            data,
            read_chunks(data, groups=1, columns=1)[0],
            [Leaf(0, is_list=False, is_expanded=False)],
            max_rows=4096,
        )
    assert len(heads) >= pages
    assert sum(head.values for head in heads if not head.is_dictionary) == ROWS
    assert {head.encoding for head in heads if not head.is_dictionary} == {encoding}
    assert sum(head.unpacked for head in heads) <= chunk.total_uncompressed_size
    assert heads[0].is_dictionary is (encoding == 8)
    assert count == min(4096, 2**26 // heads[0].unpacked if encoding == 7 else 4096)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def head(unpacked: int, packed: int, values: int, *, before: bytes = b"") -> bytes:
    """Of a data page, in Thrift's compact protocol."""
    numbers = [b"\x15" + varint(2 * number) for number in (0, unpacked, packed)]
    details = b"\x2c" + b"\x15" + varint(2 * values) + b"\x15\x00" + b"\x00"
    return before + b"".join(numbers) + details + b"\x00"


@pytest.mark.parametrize(
    ("data", "unpacked"),
    [
        (head(7, 0, 3), 7),
        (head((1 << 33) + 7, 0, 3), 7),  # Thrift keeps 32 bits
        (head(2**31 - 1, 0, 3), 2**31 - 1),
        (head(7, 0, 3)[:-1] + b"\x48\x05hello" + b"\x00", 7),  # a field that nobody knows
        # unpacked once more, by its whole number
        (head(7, 0, 3)[:-1] + b"\x05\x04\x12" + b"\x00", 9),
        (head(7, 0, 3)[:-1] + b"\x49\x25\x02\x04" + b"\x00", 7),  # a list of numbers
        (head(7, 0, 3)[:-1] + b"\x4b\x00" + b"\x00", 7),  # an empty map
    ],
)
def test_heads_are_read_as_thrift_reads_them(data: bytes, unpacked: int) -> None:
    [found] = page_heads(io.BytesIO(data), 0, len(data))
    assert (found.unpacked, found.values, found.is_dictionary) == (unpacked, 3, False)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\xff" * 100,
        b"\x1c" * 1_000,
        b"\x19\xfc" + b"\xff" * 9 + b"\x01",
        head(7, 0, 3)[:-3],
        b"\x15" + b"\x80" * 11,
        head(7, 0, 3, before=b"\x1d"),
        b"\x15\x00\x15\x01\x15\x00\x2c\x15\x06\x00\x00",  # -1 bytes
    ],
    ids=["empty", "ones", "deep", "long list", "cut", "endless number", "no type", "negative"],
)
def test_damage_is_said(data: bytes) -> None:
    with pytest.raises(PageError, match="the head of a page is damaged"):
        list(page_heads(io.BytesIO(data), 0, len(data)))
