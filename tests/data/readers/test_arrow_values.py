"""mismatch.data.readers.arrow_values: which types are read, and what a message of Arrow's streams
says of itself; the rest is in test_readers_arrow.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.readers.arrow_values import ArrowValues, is_compressed, is_readable

pa: Any = pytest.importorskip("pyarrow")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.string(), True),
        (pa.large_string(), True),
        (pa.dictionary(pa.int8(), pa.string()), True),
        (pa.list_(pa.struct([("a", pa.int8())])), True),
        (pa.map_(pa.string(), pa.float32()), True),
        (pa.decimal128(5), True),
        (pa.binary(), False),
        (pa.dictionary(pa.int8(), pa.binary()), False),
        (pa.list_(pa.struct([("a", pa.large_binary())])), False),
        (pa.map_(pa.string(), pa.binary(4)), False),
        (pa.list_view(pa.string()), False),
        (pa.run_end_encoded(pa.int32(), pa.string()), False),
        (pa.dense_union([pa.field("a", pa.int8())]), False),
    ],
    ids=str,
)
def test_types_that_become_texts(kind: Any, expected: bool) -> None:
    assert is_readable(pa, kind) is expected


@pytest.mark.parametrize(
    ("array", "parts"),
    [
        (pa.array(["x" * 2**20] * 200), 4),
        (
            pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int8()), pa.array(["x" * 2**20])),
            4,
        ),
        (pa.array([["x" * 2**20]] * 200), 4),
        (pa.array([{"a": "x" * 2**20}] * 200), 4),
        (pa.array([[("k", "x" * 2**20)]] * 200, pa.map_(pa.string(), pa.string())), 4),
        (pa.array(["x"] * 200), 1),
    ],
    ids=["strings", "dictionary", "lists", "structs", "maps", "short"],
)
def test_rows_are_taken_apart_in_parts_that_memory_holds(array: Any, parts: int) -> None:
    values = ArrowValues(pa, Columns(), ["text"], {})
    found = list(values.slices(pa.record_batch({"text": array})))
    assert [before for before, _ in found] == [200 * part // parts for part in range(parts)]
    assert sum(part.num_rows for _, part in found) == 200


def test_equal_strings_of_a_dictionary_are_one() -> None:
    array = pa.array(["red shirt", "blue bag", None, "red shirt"]).dictionary_encode()
    [texts], _ = ArrowValues(pa, Columns(), ["text"], {}).texts(pa.record_batch({"text": array}))
    assert texts == ["red shirt", "blue bag", "", "red shirt"]
    assert texts[0] is texts[3]


@pytest.mark.parametrize("metadata", [b"", b"\x01", b"\xff" * 40, b"\x08\0\0\0" + b"\xff" * 40])
def test_a_damaged_message_is_damage(metadata: bytes) -> None:
    with pytest.raises(struct.error):
        is_compressed("record batch", metadata)
