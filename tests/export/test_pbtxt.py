"""mismatch.export.pbtxt: protobuf itself reads what is written."""

from __future__ import annotations

from google.protobuf import struct_pb2, text_format

from mismatch.export.pbtxt import Config, Word, is_as_written


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
    assert text.partition("\n")[2].startswith("# two lines\n# of a comment\nfields {\n")
    assert dict(text_format.Parse(text, struct_pb2.Struct())) == {
        'a "quoted" name\\with\ta tab\nand a line': "é\t",
        "nothing": None,
        "yes": True,
        "number": -0.5,
    }


def test_a_list_of_numbers_stands_on_a_line() -> None:
    text = Config({"dims": [3, -1], "empty": []}, []).text()
    assert text.partition("\n")[2] == "dims: [ 3, -1 ]\nempty: [  ]\n"


def test_what_somebody_has_changed_is_not_as_written() -> None:
    written = Config({"name": "é"}, ["a note"]).text().encode()
    assert is_as_written(written)
    for other in (written + b"\n", written.replace(b"note", b"word"), b"", b'name: "e"\n'):
        assert not is_as_written(other)
