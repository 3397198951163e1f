"""mismatch.io.hub_urls: names of rows that are a hub's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.formats import format_location
from mismatch.io.hub_urls import HubRows, is_hub_url, located_hub_rows, remember_hub_rows


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("hf://datasets/o/n", True),
        ("HF://datasets/o/n", True),
        ("hf:/datasets/o/n", False),
        ("s3://o/n", False),
        (Path("hf://datasets/o/n"), False),
        ([], False),
    ],
)
def test_which_names_are_a_hubs(rows: object, expected: bool) -> None:
    assert is_hub_url(rows) is expected


def test_rows_are_named_by_their_files_url(tmp_path: Path) -> None:
    url = "hf://datasets/o/n/train"
    assert located_hub_rows(url) is None
    path = tmp_path / "train.parquet"
    path.touch()
    remember_hub_rows(url, HubRows("hf://datasets/o/n", "0" * 40, tmp_path, path))
    assert format_location(url, 17) == "hf://datasets/o/n/train.parquet:row 17"
    assert located_hub_rows([url]) is None
