"""mismatch.data.formats: what rows are read as."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mismatch.data.formats import format_location, format_names, kind_of, located_rows

COCO = '{"images": [{"id": 1, "file_name": "a"}], "annotations": []}'


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.csv", COCO, "csv"),
        ("a.tsv", "a#1\tb", "tsv"),
        ("a.parquet", "[", "parquet"),
        ("a.tar", "[", "webdataset"),
        ("a.jsonl", '{"image_path": 1}', "jsonl"),
        ("a.json", '\n [{"image_path": 1}]', "array"),
        ("a.json", "", "jsonl"),
        ("a.json", COCO, "coco"),
        ("a.jsonl", COCO, "coco"),
        ("a", COCO, "coco"),
        ("a.txt", '{"a": 1}\n', "jsonl"),
        ("a.txt", '[{"a": 1}]\n', "array"),
        ("a.txt", "[x],text\n", "csv"),
        ("a.token", "1.jpg#0\tred\n", "flickr"),
        ("a.txt", "image,caption\n", "csv"),
        ("a", "PAR1", "parquet"),
        ("a", "", "csv"),
    ],
)
def test_the_name_decides_or_the_content(
    tmp_path: Path, name: str, content: str, kind: str
) -> None:
    (tmp_path / name).write_text(content)
    assert kind_of(tmp_path / name) == kind
    by_line = kind in ("csv", "tsv", "jsonl", "flickr")
    assert format_location(tmp_path / name, 3) == (
        f"{tmp_path / name}:{'' if by_line else 'row '}3"
    )


def test_a_file_is_looked_into_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[{}]")
    assert kind_of(path) == "array"
    path.write_text('{"a": 1}\n')
    assert kind_of(path) == "jsonl"


def test_what_can_not_be_read_has_the_kind_of_its_name(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "gone.json") == "jsonl"
    assert kind_of(tmp_path / "gone") == "csv"
    os.mkfifo(tmp_path / "pipe")
    assert kind_of(tmp_path / "pipe") == "csv"


def test_folders(tmp_path: Path) -> None:
    assert kind_of(tmp_path) == "dataset"
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    assert kind_of(tmp_path) == "csv"
    assert located_rows(tmp_path) == tmp_path / "metadata.csv"
    assert format_names(tmp_path, "csv") == {"image_path": "file_name"}
    assert format_names(tmp_path / "metadata.csv", "csv") == {}
    (tmp_path / "state.json").write_text("{}")
    assert located_rows(tmp_path) == tmp_path
