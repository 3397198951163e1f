"""mismatch.data.readers.json: objects as rows, and each fault with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import read_header, read_rows, scan_rows
from mismatch.data.readers import json as json_rows
from mismatch.errors import InputError

GOOD = b'{"image_path": "a.jpg", "text": "red", "label": 1}\n'


def save(folder: Path, content: bytes, name: str = "rows.jsonl") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def test_values_of_every_type(tmp_path: Path) -> None:
    content = (
        b'\xef\xbb\xbf{"image_path": "a.jpg", "text": "r\\u00e9d \\ud83d\\ude00", "label": 1, "n":'
        b' 1.50, "b": true, "x": null, "o": {"k": [1]}}\r\n'
    )
    path = save(
        tmp_path,
        content + b'\n  \n{"text": "blue", "label": "0", "image_path": "b.jpg", "later": "z"}',
    )
    first, second = read_rows(path, require_label=True)
    assert first[:4] == (1, "a.jpg", "réd 😀", 1)
    assert first.columns == {
        "image_path": "a.jpg",
        "text": "réd 😀",
        "label": "1",
        "n": "1.5",
        "b": "true",
        "x": "",
        "o": '{"k": [1]}',
    }
    assert second[:4] == (4, "b.jpg", "blue", 0)
    assert read_header(path, require_label=True) == [
        "image_path",
        "text",
        "label",
        "n",
        "b",
        "x",
        "o",
        "later",
    ]


@pytest.mark.parametrize(
    ("line", "words", "intact"),
    [
        (
            b'{"image_path": "a.jpg", "text": "red" "label": 1}',
            "this line is not JSON: Expecting ',' delimiter at column 39",
            False,
        ),
        (b'["a.jpg", "red", 1]', "an object {…} is needed, and this is list", False),
        (
            b'{"image_path": "a.jpg", "text": "caf\xe9", "label": 1}',
            "byte 0xe9 is not UTF-8",
            False,
        ),
        (
            b'{"image_path": "a.jpg", "text": "half \\ud83d", "label": 1}',
            "half of a character",
            False,
        ),
        (b'{"image_path": "a\\u0000.jpg", "text": "red", "label": 1}', "a NUL character", False),
        (b"[" * 100_000, "this line can't be read as JSON", False),
        (b'{"image_path": "a.jpg", "label": 1}', "the text is empty", True),
        (b'{"image_path": null, "text": "red", "label": 1}', "the image_path is empty", True),
        (b'{"image_path": "a.jpg", "text": "red"}', "the label is empty", True),
        (
            b'{"image_path": "a.jpg", "text": "red", "label": true}',
            "label 'true' is neither 0 nor 1 .*; the label map true/false reads it",
            True,
        ),
        (b'{"image_path": "a.jpg", "text": "red", "label": 1.5}', "label '1.5' is neither", True),
        (
            b'{"image_path": ["a.jpg", "b.jpg"], "text": "red", "label": 1}',
            "this row has 2 images; say whether rows of several images match",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": NaN, "label": 1}',
            "the text is nan, not a string",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": -Infinity, "label": 1}',
            "the text is -inf, not a string",
            True,
        ),
        (b'{"image_path": "a.jpg", "text": 5, "label": 1}', "the text is 5, not a string", True),
        (
            b'{"image_path": "a.jpg", "text": false, "label": 1}',
            "the text is False, not a string",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": {"a": 1}, "label": 1}',
            "the text is {'a': 1}, not a string",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": ["red", "blue"], "label": 1}',
            r"the text is \['red', 'blue'\], not a string",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": [], "label": 1}',
            r"the text is \[\], not a string",
            True,
        ),
        (b'{"image_path": 5, "text": "red", "label": 1}', "the image_path is 5, not a path", True),
        (
            b'{"image_path": {"path": "a.jpg"}, "text": "red", "label": 1}',
            "the image_path is .*, not a path",
            True,
        ),
        (
            b'{"image_path": ["a.jpg", 5], "text": true, "label": 1}',
            "the image_path is .*, not a path; the text is True, not a string",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": "red", "label": NaN}',
            "label 'NaN' is neither 0 nor 1",
            True,
        ),
        (
            b'{"image_path": "a.jpg", "text": "red", "label": 1, "x": ['
            + b"[]," * 3_000_000
            + b"1]}",
            "this line holds more than 2,097,152 values",
            False,
        ),
        (
            b'{"image_path": "a.jpg", "text": "red", "label": 1, "text": "blue"}',
            "the key 'text' stands twice in this row",
            False,
        ),
        (
            b"{" + b",".join(b'"k%d":1' % i for i in range(5000)) + b"}",
            "this object has 5,000 keys; at most 4,096 are read",
            False,
        ),
        (
            b'{"image_path": "a.jpg", "text": "' + b"x" * (2**24 + 1) + b'", "label": 1}',
            "a value is longer than 16,777,216 characters",
            False,
        ),
        (
            b'{"image_path": "a.jpg", "text": "red", "label": 1, "x": '
            + b"[" * 970
            + b"]" * 970
            + b"}",
            "",
            False,
        ),
    ],
    ids=[
        *(
            "comma",
            "list",
            "latin-1",
            "half",
            "nul",
            "deep",
            "no text",
            "null",
            "no label",
            "true",
            "float",
            "two images",
            "nan",
            "infinity",
            "number",
        ),
        *(
            "boolean",
            "object",
            "texts",
            "no texts",
            "number of an image",
            "object of an image",
            "both",
            "nan label",
            "many values",
            "twice",
            "many keys",
            "endless value",
        ),
        "nested",
    ],
)
def test_a_line_that_can_not_be_used_says_why_and_the_next_one_is_read(
    tmp_path: Path, line: bytes, words: str, intact: bool
) -> None:
    path = save(tmp_path, GOOD + line + b"\n" + GOOD)
    first, bad, last = read_rows(path, require_label=True)
    if not words:  # Python's stack decides
        assert bad.problem is None or "can't be read as JSON" in bad.problem
        return
    assert bad.raw == line.decode("utf-8", "backslashreplace")
    assert (first.problem, last.problem, bad.line, bad.intact) == (None, None, 2, intact)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(bad.problem)
    assert [row.line for row in scan_rows(path, lambda line, message: pytest.fail(message))] == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"",
            (
                ":1: there is no object with keys in this file; one object a line with the keys"
                " image_path, text, label is needed"
            ),
        ),
        (b"image_path,text\na.jpg,red\n", ":1: this line is not JSON"),
        (b'\n[{"image_path": "a.jpg"}]', ":row 1: column 'text' is missing"),
        (
            b'{"image_path": "a.jpg", "textt": "red"}\n',
            (
                ":1: column 'text' is missing; found 'image_path', 'textt'; rename 'textt' to"
                " 'text', or pass"
            ),
        ),
    ],
    ids=["empty", "csv", "array", "no text"],
)
def test_a_file_that_can_not_be_read_is_one_line(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = save(tmp_path, content, "rows.json")
    for read in (
        lambda: read_header(path, require_label=False),
        lambda: list(read_rows(path, require_label=False)),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert words in str(caught.value)
    said: list[int] = []
    list(scan_rows(path, lambda line, message: said.append(line)))
    assert said[0] == 1


def test_a_broken_first_line_does_not_hide_the_columns(tmp_path: Path) -> None:
    path = save(tmp_path, b"{broken\n" + GOOD)
    assert [row.intact for row in read_rows(path, require_label=True)] == [False, True]


def test_a_key_twice_within_a_value_loses_nothing_of_the_row(tmp_path: Path) -> None:
    line = b'{"image_path": "a.jpg", "text": "red", "label": 1, "x": {"y": 1, "y": 2}}\n'
    [row] = read_rows(save(tmp_path, line), require_label=True)
    assert (row.problem, row.columns["x"]) == (None, '{"y": 2}')


def test_an_endless_line_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_LINE", 64)
    path = save(tmp_path, GOOD + b'{"text": "' + b"x" * 300 + b'"}\n' + GOOD)
    assert [(row.line, row.problem) for row in read_rows(path, require_label=True)] == [
        (1, None),
        (2, "this line is longer than 64 bytes"),
        (3, None),
    ]


def test_a_list_of_images(tmp_path: Path) -> None:
    path = save(tmp_path, b'{"image_path": ["a.jpg", "b.jpg"], "text": "red"}\n')
    [row] = read_rows(path, require_label=False, columns=Columns(multi_image="best"))
    assert (row.image_path, row.problem) == ("a.jpg;b.jpg", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.jsonl", "No such file or directory"),
        ("folder.jsonl", "is a folder, a pipe or a device"),
    ],
)
def test_a_file_that_is_not_there(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match=words):
        list(read_rows(tmp_path / name, require_label=False))


def test_more_keys_than_a_table_has_columns(tmp_path: Path) -> None:
    lines = [
        b"{" + b",".join(b'"k%d":1' % (i + 90 * n) for i in range(90)) + b"}" for n in range(60)
    ]
    with pytest.raises(
        InputError, match=r":1: there are 5,400 columns; a file of rows has at most 4,096"
    ):
        read_header(save(tmp_path, b"\n".join(lines)), require_label=False)


def test_a_key_that_comes_late_takes_no_asked_columns_place(tmp_path: Path) -> None:
    first = {"p": "a.png", "t": "red", "y": 1}
    last = {"p": "b.png", "t": "right", "y": 0, "image_path": "c.png", "text": "other", "label": 1}
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in (*[first] * 100, last, dict(reversed(last.items())))]
    path.write_text("\n".join(lines), encoding="utf-8")
    columns = Columns("p", "t", "y")
    for row in list(read_rows(path, require_label=True, columns=columns))[100:]:
        assert (row.image_path, row.text, row.label) == ("b.png", "right", 0)
        assert row.columns["input_text"] == "other"
