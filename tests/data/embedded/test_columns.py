"""mismatch.data.embedded.columns: which columns hold images."""

from __future__ import annotations

import pytest

from mismatch.data.embedded.columns import ImageColumn, chosen_column, image_columns, image_values

pa = pytest.importorskip("pyarrow")

PAIR = pa.struct({"bytes": pa.binary(), "path": pa.string()})
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "plain": pa.binary(),
        "image": PAIR,
        "large": pa.large_binary(),
        "several": pa.list_(pa.binary()),
        "sound": pa.struct({"bytes": pa.binary(), "rate": pa.int64()}),
        "text": pa.string(),
    }
)


def test_columns_of_bytes_and_what_datasets_makes_of_an_image() -> None:
    columns = image_columns(pa, SCHEMA)
    assert columns == [
        ImageColumn("plain", False),
        ImageColumn("image", True),
        ImageColumn("large", False),
    ]
    assert [column.leaf for column in columns] == ["plain", "image.bytes", "large"]


def test_the_column_that_is_asked_for_or_the_usual_one() -> None:
    columns = image_columns(pa, SCHEMA)
    assert chosen_column(columns, "large") == columns[2]
    assert chosen_column(columns, "text") is None
    assert chosen_column(columns, "") == columns[1]
    assert chosen_column(columns[2:], "") == columns[2]
    assert chosen_column([], "") is None


def test_values_are_bytes_and_null_where_the_image_is() -> None:
    values = [{"bytes": b"1", "path": None}, None, {"bytes": None, "path": "a"}]
    assert image_values(pa, pa.array(values, PAIR)).to_pylist() == [b"1", None, None]
    assert image_values(pa, pa.array([b"1", None])).to_pylist() == [b"1", None]
