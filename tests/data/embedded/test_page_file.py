"""mismatch.data.embedded.page_file: pyarrow reads what is written of one page."""

from __future__ import annotations

import pytest

from mismatch.data.embedded.page_file import MARK, PagePlan, footer_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PLAIN = 0
# a head in Thrift's compact protocol: a data page of 13 bytes, and of 2 values that are plain
HEAD = bytes([0x15, 0, 0x15, 26, 0x15, 26, 0x2C, 0x15, 4, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0])
PAGE = HEAD + b"\3\0\0\0one" + b"\2\0\0\0hi"


def test_a_page_is_a_file_of_its_own() -> None:
    plan = PagePlan(0, (PLAIN,), 0)
    data = MARK + PAGE + footer_of(plan, 0, len(PAGE), rows=2, unpacked=13)
    table = pq.read_table(pa.BufferReader(data))
    assert table.column(0).to_pylist() == [b"one", b"hi"]


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_as_many_levels_as_may_be_null(depth: int) -> None:
    plan = PagePlan(0, (PLAIN, 3), depth)
    data = MARK + PAGE + footer_of(plan, 0, len(PAGE), rows=2, unpacked=13)
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        column = file.schema.column(0)
        assert column.max_definition_level == depth
        assert column.path == ".".join(["0"] * max(1, depth))
        assert file.metadata.num_rows == 2
