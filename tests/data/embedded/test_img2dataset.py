"""mismatch.data.embedded.img2dataset: images by the keys of the Parquet next to them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mismatch.data.pairs import read_rows
from mismatch.errors import InputError
from mismatch.runtime.open_image import open_image_file
from tests.support.embedded import FORMATS, drawn_rows

pytest.importorskip("pyarrow")

ROWS = drawn_rows(9)


def encoded(path: str) -> bytes:
    with open_image_file(path) as file:
        return file.read()


@pytest.mark.parametrize("name", ["img2dataset", "img2dataset files"])
def test_captions_and_images_by_key(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = FORMATS[name](tmp_path, ROWS)
    for _ in range(2):
        rows = list(read_rows(path, require_label=False))
    assert [row.text for row in rows] == [row.text for row in ROWS]
    assert [encoded(row.image_path) for row in rows] == [row.image for row in ROWS]
    assert rows[0].columns["status"] == "success"
    images = tmp_path / ("00000.tar" if name == "img2dataset" else "00000")
    [line] = caplog.messages  # once
    assert (str(path) in line, str(images) in line) == (True, True)


def test_without_images_next_to_it_a_path_is_missed(tmp_path: Path) -> None:
    path = FORMATS["img2dataset"](tmp_path, ROWS)
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(InputError, match="'image_path'"):
        list(read_rows(path, require_label=False))
