"""mismatch.jobs.output.image_table: Parquet with images, as Hugging Face's datasets has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mismatch.jobs.output import image_table as module
from mismatch.jobs.output.image_table import image_header, image_table

HEADER = ["image_path", "text"]


def test_images_stand_in_a_column_that_datasets_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "GROUP_ROWS", 2)
    with image_table(tmp_path / "a.parquet", HEADER) as table:
        for number in range(3):
            table.add([f"{number}.png", "red"], b"%d" % number)
    read = parquet.read_table(tmp_path / "a.parquet")
    assert read.to_pylist() == [
        {"image": {"bytes": b"%d" % number, "path": f"{number}.png"}, "text": "red"}
        for number in range(3)
    ]
    features = json.loads(read.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {
        "image": {"_type": "Image"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 2


def test_rows_are_held_by_the_bytes_of_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "GROUP_BYTES", 10)
    with image_table(tmp_path / "a.parquet", HEADER) as table:
        for _ in range(4):
            table.add(["a", "b"], bytes(6))
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 2


def test_the_column_has_a_name_that_is_free() -> None:
    assert image_header(["text", "image_path"]) == ["text", "image"]
    assert image_header(["image_path", "image"]) == ["image_path", "image"]


def test_half_a_table_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ZeroDivisionError), image_table(tmp_path / "a.parquet", HEADER) as table:
        table.add(["a", "b"], bytes(1 // 0))
    assert list(tmp_path.iterdir()) == []
