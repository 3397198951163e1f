"""mismatch.data.readers.webdataset: samples as rows, each with its own faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import all_columns, read_header, read_rows, source_digest
from mismatch.data.readers import webdataset
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from tests.support.embedded import FORMATS, drawn_rows, write_tar

JPG = b"\xff\xd8"


def rows(path: Path, *, label: bool = False, **columns: Any) -> list[Row]:
    return list(read_rows(path, require_label=label, columns=Columns(**columns)))


def test_text_json_and_label(tmp_path: Path) -> None:
    said = json.dumps({"shop": "x", "stars": 4.5, "sold": None, "tags": ["a"], "size": {"w": 1}})
    members = [("a/1.jpg", JPG), ("a/1.txt", b"a mug\n"), ("a/1.json", said.encode())]
    path = write_tar(tmp_path / "a.tar", [*members, ("a/1.cls", b"1\n")])
    [row] = rows(path, label=True, base=str(tmp_path))
    assert (row.line, row.image_path, row.text, row.label) == (1, "a.tar:a/1", "a mug", 1)
    assert row.columns == {
        "image_path": "a.tar:a/1",
        "shop": "x",
        "stars": "4.5",
        "sold": "",
        "text": "a mug",
        "label": "1",
    }
    assert read_header(path, require_label=True) == list(row.columns)


def test_a_caption_is_the_text_where_there_is_no_other(tmp_path: Path) -> None:
    said = json.dumps({"caption": "a mug", "label": 0}).encode()
    path = write_tar(tmp_path / "a.tar", [("1.jpg", JPG), ("1.json", said)])
    [row] = rows(path, label=True)
    assert (row.text, row.label, row.columns["caption"]) == ("a mug", 0, "a mug")
    [asked] = rows(path, text="caption")
    assert asked.text == "a mug"
    assert "caption" not in asked.columns


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("1.txt", b"a")], "no image, which one of .jpg, .jpeg, .png, .webp is; it has .txt"),
        ([("1.jpg", JPG), ("1.txt", b"\xff")], "its .txt: byte 0xff is not UTF-8; save"),
        ([("1.jpg", JPG), ("1.txt", b"a"), ("1.json", b"{")], "its .json is not JSON"),
        ([("1.jpg", JPG), ("1.txt", b"a"), ("1.json", b"[]")], "an object {…} is needed"),
        ([("1.jpg", JPG), ("1.txt", b" ")], "the text is empty"),
        ([("1.jpg", JPG), ("1.json", b'{"text": 4}')], "the text is 4, not a string"),
        ([("1.jpg", JPG), ("1.txt", b"a\0b")], "a NUL character"),
    ],
)
def test_a_sample_s_own_faults(
    tmp_path: Path, members: list[tuple[str, bytes]], problem: str
) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.jpg", JPG), ("0.txt", b"good"), *members])
    good, bad = rows(path)
    assert good.problem is None
    assert problem in (bad.problem or "")


def test_long_values_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_FIELD", 10)
    members = [("1.jpg", JPG), ("1.txt", b"a" * 11), ("1.json", b'{"a": 123456}')]
    [row] = rows(write_tar(tmp_path / "a.tar", members))
    assert "its .json has more than 10 bytes; its .txt has more than 10 bytes" in (
        row.problem or ""
    )


def test_labels_of_names_and_a_missing_one(tmp_path: Path) -> None:
    members = [("1.jpg", JPG), ("1.txt", b"a"), ("1.cls", b"match")]
    path = write_tar(tmp_path / "a.tar", [*members, ("2.jpg", JPG), ("2.txt", b"b")])
    first, second = rows(path, label=True, label_map="match/mismatch")
    assert (first.label, second.label) == (1, None)
    assert "the label is empty" in (second.problem or "")


def test_later_samples_may_say_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "HEADER_SAMPLES", 1)
    members = [("1.jpg", JPG), ("1.txt", b"a"), ("2.jpg", JPG), ("2.txt", b"b")]
    path = write_tar(tmp_path / "a.tar", [*members, ("2.json", b'{"late": 1}')])
    assert read_header(path, require_label=False) == ["image_path", "text"]
    assert all_columns(path, require_label=False) == ["image_path", "text", "late"]


def test_archives_are_one_source(tmp_path: Path) -> None:
    drawn = drawn_rows(30)
    path = FORMATS["webdataset shards"](tmp_path, drawn)
    found = rows(path)
    assert [row.line for row in found] == list(range(1, 31))
    assert [row.text for row in found] == [row.text for row in drawn]
    assert found[13].image_path == str(tmp_path / "shards" / "00001.tar:000000013")


def test_its_digest_is_that_of_all_archives(tmp_path: Path) -> None:
    path = FORMATS["webdataset shards"](tmp_path, drawn_rows(30))
    before = source_digest(path)
    write_tar(tmp_path / "shards" / "00002.tar", [("1.jpg", JPG), ("1.txt", b"a")])
    assert source_digest(path) != before


def test_an_archive_without_samples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.tar holds no samples; KEY\.txt or KEY\.json"):
        rows(write_tar(tmp_path / "a.tar", [("readme", b"")]))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.tar: No such file"):
        rows(tmp_path / "a.tar")


def test_an_archive_in_a_store_is_to_be_downloaded() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(InputError, match=r"memory://shop/a\.tar is a tar archive in a store"):
        list(read_rows(Remote.of("memory://shop/a.tar"), require_label=False))
