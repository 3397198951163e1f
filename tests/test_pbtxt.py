"""mismatch.export.pbtxt: what is written is read back, by this module and by protobuf itself."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import struct_pb2, text_format

from mismatch.errors import InputError
from mismatch.export.pbtxt import Word, each, from_text, to_text

MESSAGE: dict[str, Any] = {
    "name": 'a "quoted" name\\with\ta tab\nand a line',
    "max_batch_size": 64,
    "input": [
        {"name": "x", "data_type": Word("TYPE_FP32"), "dims": [3, -1]},
        {"name": "y", "data_type": Word("TYPE_INT64"), "dims": [1]},
    ],
    "dynamic_batching": {"preserve_ordering": True, "delay": 0.5, "nothing": {}},
}


def test_what_is_written_is_read_back() -> None:
    text = to_text(MESSAGE, "two lines\nof a comment")
    assert text.startswith("# two lines\n# of a comment\nname: ")
    assert from_text(text) == MESSAGE
    assert isinstance(from_text(text)["input"][0]["data_type"], Word)
    assert each(from_text(to_text({"input": [{"name": "x"}]})), "input") == [{"name": "x"}]
    assert each({}, "input") == []


def test_other_spellings_of_the_same_are_read() -> None:
    text = (
        'input [ { name: "x", dims: [ 3 ] }, { name: "y"; dims: 4 dims: 5 } ]  # a'
        ' comment\nparameters: { key: "k" value { string_value: "v" } }'
    )
    assert from_text(text) == {
        "input": [{"name": "x", "dims": [3]}, {"name": "y", "dims": [4, 5]}],
        "parameters": {"key": "k", "value": {"string_value": "v"}},
    }


def test_protobuf_reads_the_same() -> None:
    said = {
        "fields": [
            {"key": 'a"b\\c\n', "value": {"string_value": "é\t"}},
            {"key": "n", "value": {"null_value": Word("NULL_VALUE")}},
        ]
    }
    read = text_format.Parse(to_text(said), struct_pb2.Struct())
    assert dict(read) == {'a"b\\c\n': "é\t", "n": None}


@pytest.mark.parametrize(
    "text", ["name: ", "input { name: 1", "}", "name: ]", "dims: [ 1", "name: 'x'", ": 3"]
)
def test_what_is_no_such_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="protobuf text"):
        from_text(text)
