"""mismatch.export.pbtxt: protobuf itself reads what is written."""

from __future__ import annotations

from google.protobuf import struct_pb2, text_format

from mismatch.export.pbtxt import Config, Word


def test_protobuf_reads_what_is_written() -> None:
    message = {
        "fields": [
            {"key": 'a "quoted" name\\with\ta tab\nand a line', "value": {"string_value": "é\t"}},
            {"key": "nothing", "value": {"null_value": Word("NULL_VALUE")}},
            {"key": "yes", "value": {"bool_value": True}},
            {"key": "number", "value": {"number_value": -0.5}},
        ]
    }
    text = Config(message, ["two lines", "of a comment"]).text()
    assert text.startswith("# two lines\n# of a comment\nfields {\n")
    assert dict(text_format.Parse(text, struct_pb2.Struct())) == {
        'a "quoted" name\\with\ta tab\nand a line': "é\t",
        "nothing": None,
        "yes": True,
        "number": -0.5,
    }


def test_a_list_of_numbers_stands_on_a_line() -> None:
    assert Config({"dims": [3, -1], "empty": []}, []).text() == "dims: [ 3, -1 ]\nempty: [  ]\n"
