"""mismatch.data.readers.json_records: arrays of JSON, an object at a time."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import all_columns, load_pairs, read_rows, reading_remark, scan_rows
from mismatch.data.readers import json_records
from mismatch.data.readers.json_records import JsonError, JsonText
from mismatch.errors import InputError

ROWS = [
    {"image_path": "a.jpg", "text": 'red, "5\\"', "label": 1, "price": 1.50},
    {"image_path": "b.jpg", "text": "блю [1, {2}]", "label": 0, "late": [1, {"x": "]"}]},
]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.txt"])
def test_an_array_gives_what_its_lines_give(
    tmp_path: Path, name: str, ascii_only: bool, indent: int | None
) -> None:
    (tmp_path / name).write_text(
        "\ufeff" + json.dumps(ROWS, ensure_ascii=ascii_only, indent=indent), encoding="utf-8"
    )
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    assert load_pairs(tmp_path / name) == load_pairs(lines)
    assert all_columns(tmp_path / name, require_label=True)[-1] == "late"
    assert reading_remark(tmp_path / name) == f"{tmp_path / name}: it is a JSON array"


def test_what_is_wrong_with_an_object_is_its_own_problem(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(
        b'[{"image_path": "a.jpg", "text": "red"}, 5, {"text": "a", "text": "b"},'
        b' {"image_path": "a.jpg", "text": "caf\xe9"}, {"image_path": "a.jpg", "text": "\\ud800"},'
        b' {"image_path": "a.jpg", "text": ["a"]}]'
    )
    rows = list(scan_rows(path, lambda *_: pytest.fail("a fault"), require_label=False))
    problems = [row.problem or "" for row in rows]
    assert problems[0] == ""
    assert "this is int" in problems[1]
    assert "the key 'text' stands twice" in problems[2]
    assert "byte 0xe9 is not UTF-8" in problems[3]
    assert "half of a character" in problems[4]
    assert "the text is ['a'], not a string" in problems[5]
    assert rows[1].raw == "5"
    with pytest.raises(InputError, match=r"rows\.json:row 2: an object"):
        load_pairs(path, require_label=False)


def test_the_encoding_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    text = json.dumps(ROWS, ensure_ascii=False)
    for encoding, asked in (("utf-16", None), ("cp1251", "cp1251")):
        path.write_bytes(text.encode(encoding))
        rows = load_pairs(path, columns=Columns(encoding=asked))
        assert rows[1].text == "блю [1, {2}]"


@pytest.mark.parametrize(
    ("content", "number", "words"),
    [
        ('[{"image_path": "a", "text": "b"}', 2, "']' is needed, and the end is there"),
        ('[{"image_path": "a", "text": "b"},', 2, "not JSON"),
        ('[{"image_path": "a", "text": "b"} {', 2, "']' is needed, and '{' is there"),
        ('[{"image_path": "a", "text": "b"}] x', 2, "something follows"),
        ('[{"image_path": "a", "text": "b"}, {"a": "', 2, "Unterminated string"),
        ('[{"image_path": "a", "text": "b"}, ' + "[" * 100_000, 2, "can't be read as JSON"),
    ],
)
def test_rows_end_where_the_file_is_no_json(
    tmp_path: Path, content: str, number: int, words: str
) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=rf"a\.json:row {number}: ") as caught:
        list(read_rows(tmp_path / "a.json", require_label=False))
    assert words in str(caught.value)
    faults: list[int] = []
    rows = scan_rows(tmp_path / "a.json", lambda line, _: faults.append(line), require_label=False)
    assert [row.text for row in rows] == ["b"]
    assert set(faults) == {number}


def test_a_value_is_found_wherever_reading_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "BLOCK", 1)
    monkeypatch.setattr(json_records, "LOOKED_AT", 1)
    monkeypatch.setattr(json_records, "HALF", 16)
    values = [*ROWS, 12, -1.5e-3, True, None, "é😀\\", [], {}, [[1], {"a": [2]}]]
    for ascii_only in (True, False):
        data = json.dumps(values, ensure_ascii=ascii_only).encode()
        assert [value for value, _ in JsonText(io.BytesIO(data)).items()] == values


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "LOOKED_AT", 64)
    monkeypatch.setattr(json_records, "BLOCK", 64)
    monkeypatch.setattr(json_records, "MAX_VALUES", 1_000)
    many = b"[[" + b"[]," * 5_000 + b"[]]]"
    with pytest.raises(JsonError, match="more than 1,000 values"):
        list(JsonText(io.BytesIO(many)).items())
    monkeypatch.setattr(json_records, "MAX_VALUES", 10**9)
    monkeypatch.setattr(json_records, "MAX_LINE", 1_000)
    with pytest.raises(JsonError, match="longer than 1,000 characters"):
        list(JsonText(io.BytesIO(b'["' + b"x" * 10_000 + b'"]')).items())


def test_a_long_array_is_streamed() -> None:
    class Counted(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    file = Counted(b"[" + b",".join([json.dumps(ROWS[0]).encode()] * 50_000) + b"]")
    items = JsonText(file).items()
    assert next(items)[0] == ROWS[0]
    assert file.count <= 2 * json_records.BLOCK
    assert sum(1 for _ in items) == 49_999
