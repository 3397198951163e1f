"""mismatch.data.readers.image_folder: folders of images with a file of metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import (
    format_location,
    load_pairs,
    read_header,
    read_rows,
    reading_remark,
    rows_files,
    source_digest,
)
from mismatch.errors import InputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "metadata.csv").write_text("file_name,text,label\na.jpg,red,1\nb/c.jpg,blue,0\n")
    return folder


def test_its_rows_are_those_of_the_metadata(photos: Path) -> None:
    rows = load_pairs(photos)
    assert [(row.line, row.image_path, row.text, row.label) for row in rows] == [
        (2, str(photos / "a.jpg"), "red", 1),
        (3, str(photos / "b" / "c.jpg"), "blue", 0),
    ]
    assert rows[0].columns["image_path"] == str(photos / "a.jpg")
    assert read_header(photos, require_label=True) == ["image_path", "text", "label"]
    assert rows_files(photos) == [photos / "metadata.csv"]
    assert source_digest(photos) == source_digest(photos / "metadata.csv")
    assert format_location(photos, 3) == f"{photos / 'metadata.csv'}:3"
    remark = reading_remark(photos) or ""
    assert remark == (
        f"{photos}: its rows are those of metadata.csv; 'file_name' is read as image_path"
    )


def test_a_base_path_counts_if_there_is_one(photos: Path) -> None:
    rows = load_pairs(photos, columns=Columns(base="data", inside="data"))
    assert [row.image_path for row in rows] == ["a.jpg", "b/c.jpg"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_formats_of_metadata(tmp_path: Path, kind: str) -> None:
    record = {"file_name": "a.jpg", "title": "red", "image": "other"}
    if kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text(json.dumps(record))
    else:
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist([record]), tmp_path / "metadata.parquet")
    [row] = read_rows(tmp_path, require_label=False)
    assert (row.image_path, row.text) == (str(tmp_path / "a.jpg"), "red")
    assert row.columns["image"] == "other"


def test_paths_may_not_leave_it(photos: Path, tmp_path: Path) -> None:
    (photos / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (photos / "metadata.csv").write_text("file_name,text\n../x.jpg,red\nlink.jpg,red\na.jpg,red\n")
    outside, link, inside = read_rows(photos, require_label=False)
    assert "image '../x.jpg' leaves" in (outside.problem or "")
    assert "image 'link.jpg' leaves" in (link.problem or "")
    assert inside.problem is None
    rows = read_rows(photos, require_label=False, columns=Columns(outside=True))
    assert [row.problem for row in rows] == [None] * 3


def test_several_images_a_row(photos: Path) -> None:
    (photos / "metadata.csv").write_text("file_name,text\na.jpg; b.jpg,red\n")
    [row] = read_rows(photos, require_label=False, columns=Columns(multi_image="best"))
    assert row.image_path == f"{photos / 'a.jpg'};{photos / 'b.jpg'}"


def test_splits_are_to_be_named(photos: Path) -> None:
    (photos / "train").mkdir()
    (photos / "test").mkdir()
    (photos / "metadata.csv").rename(photos / "train" / "metadata.csv")
    (photos / "test" / "metadata.jsonl").write_text('{"file_name": "a.jpg", "text": "red"}')
    with pytest.raises(InputError, match=f"name one: {photos / 'test'}, {photos / 'train'}$"):
        list(read_rows(photos, require_label=False))
    assert len(load_pairs(photos / "train")) == 2


def test_two_files_of_metadata_are_one_too_many(photos: Path) -> None:
    (photos / "metadata.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"metadata\.csv and metadata\.jsonl; name one of them"):
        read_header(photos, require_label=False)
    assert format_location(photos, 2) == f"{photos}:2"


def test_other_folders_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a folder of images with metadata\.csv"):
        list(read_rows(tmp_path, require_label=False))
