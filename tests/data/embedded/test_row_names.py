"""mismatch.data.embedded.row_names: a column of images as names, without its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.embedded.parquet import ParquetImages
from mismatch.data.pairs import read_header, read_rows
from mismatch.runtime.open_image import open_image_file
from tests.support.embedded import drawn_rows, image_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

MIXED = [
    {"bytes": b"1", "path": "a.jpg"},
    {"bytes": None, "path": "b.jpg"},
    None,
    {"bytes": b"4", "path": None},
]


def names(path: Path, **columns: Any) -> list[tuple[str, str | None]]:
    rows = read_rows(path, require_label=False, columns=Columns(**columns))
    return [(row.image_path, row.problem) for row in rows]


def test_where_a_row_holds_no_image_its_path_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": MIXED, "text": list("abcd")}), path, row_group_size=2)
    assert names(path, base=str(tmp_path)) == [
        ("a.parquet:1", None),
        ("b.jpg", None),
        ("", "the image_path is empty"),
        ("a.parquet:4", None),
    ]


def test_without_statistics_the_bytes_themselves_are_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image": MIXED, "text": list("abcd")})
    pq.write_table(table, path, row_group_size=2, write_statistics=False)
    assert [name for name, _ in names(path, base=str(tmp_path))] == [
        "a.parquet:1",
        "b.jpg",
        "",
        "a.parquet:4",
    ]


def test_texts_are_read_without_a_look_at_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ParquetImages, "_decoded")
    pq.write_table(image_table(drawn_rows(30)), tmp_path / "a.parquet")
    assert len(names(tmp_path / "a.parquet")) == 30


def test_a_column_of_another_name_is_part_of_the_image_s(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [b"1"], "back": [b"2"], "text": ["a"]}), path)
    assert names(path, image="back", base=str(tmp_path)) == [("a.parquet:back:1", None)]
    assert names(path, base=str(tmp_path)) == [("a.parquet:1", None)]
    assert open_image_file(tmp_path / "a.parquet:back:1").read() == b"2"
    assert read_header(path, require_label=False) == ["image_path", "text"]


def test_what_img2dataset_writes_to_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": [b"1"], "text": ["a"]}), tmp_path / "a.parquet")
    assert names(tmp_path / "a.parquet", base=str(tmp_path)) == [("a.parquet:1", None)]


def test_a_file_of_rows_outside_the_base_is_named_by_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    path = tmp_path / "a.parquet"
    pq.write_table(image_table(drawn_rows(1)), path)
    base = str(tmp_path / "photos")
    assert names(path, base=base) == [(f"{path}:1", None)]
    [(_, problem)] = names(path, base=base, inside=base)
    assert "leaves the image base path" in (problem or "")
