"""mismatch.data.readers.flickr: captions of Flickr8k and Flickr30k as rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import load_pairs, read_header, read_rows, reading_remark, scan_rows
from mismatch.data.readers import flickr
from mismatch.errors import InputError

LINES = '10.jpg#0\tA child in a "pink" dress , climbing .\n10.jpg#1\tA girl, going\tin\n\n2.jpg#0\tTwo\n'


@pytest.mark.parametrize("name", ["results_20130124.token", "Flickr8k.token.txt", "captions"])
def test_each_line_is_a_caption_of_its_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LINES)
    rows = load_pairs(tmp_path / name, require_label=False)
    assert [(row.line, row.image_path, row.text) for row in rows] == [
        (1, "10.jpg", 'A child in a "pink" dress , climbing .'),
        (2, "10.jpg", "A girl, going\tin"),
        (4, "2.jpg", "Two"),
    ]
    assert rows[1].columns["caption_number"] == "1"
    header = read_header(tmp_path / name, require_label=False)
    assert header == ["image_path", "text", "caption_number"]
    assert "captions in Flickr's form" in (reading_remark(tmp_path / name) or "")


def test_a_name_that_decides_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(LINES)
    with pytest.raises(InputError, match="'image_path', 'text' are missing"):
        load_pairs(tmp_path / "a.csv", require_label=False)


def test_lines_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.token"
    path.write_bytes(
        LINES.encode() + b"3.jpg\tno number\n4.jpg#0\t \n5.jpg#0\ta\0b\n6.jpg#0\t\xff\n"
    )
    rows = list(scan_rows(path, lambda *_: pytest.fail("a fault"), require_label=False))
    problems = {row.line: row.problem or "" for row in rows if row.problem}
    assert "NAME#NUMBER" in problems[5]
    assert problems[6] == "the text is empty"
    assert "NUL" in problems[7]
    assert "byte 0xff is not UTF-8" in problems[8]
    assert [row.raw for row in rows if row.line in (5, 8)] == ["3.jpg\tno number", "6.jpg#0\t\\xff"]
    with pytest.raises(InputError, match=r"a\.token:8: byte 0xff"):
        list(read_rows(path, require_label=False))


def test_labels_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.token").write_text(LINES)
    with pytest.raises(InputError, match=r"a\.token:1: column 'label' is missing"):
        load_pairs(tmp_path / "a.token")


def test_it_has_an_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.token").write_bytes("1.jpg#0\trouge foncé\n".encode("cp1252"))
    [row] = read_rows(tmp_path / "a.token", require_label=False, columns=Columns(encoding="cp1252"))
    assert row.text == "rouge foncé"
    (tmp_path / "b.token").write_bytes("1.jpg#0\trouge foncé\n".encode("utf-16"))
    [row] = read_rows(tmp_path / "b.token", require_label=False)
    assert row.text == "rouge foncé"


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flickr, "MAX_FIELD", 100)
    (tmp_path / "a.token").write_text("1.jpg#0\tred\n2.jpg#0\t" + "x" * 200)
    with pytest.raises(InputError, match=r"a\.token:2: this line is longer than 100"):
        list(read_rows(tmp_path / "a.token", require_label=False))
