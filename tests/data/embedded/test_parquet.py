"""mismatch.data.embedded.parquet: each image in any order, however a file was written; bounded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.embedded import parquet
from mismatch.data.embedded.parquet import ParquetImages
from mismatch.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 700
GROUP = 300


def images(seed: int = 0) -> list[bytes | None]:
    """Some equal, some null, some long."""
    chance = random.Random(seed)
    return [
        None
        if number % 7 == 3
        else b"the same"
        if number % 5 == 0
        else chance.randbytes(chance.randrange(1, 3_000))
        for number in range(ROWS)
    ]


def written(path: Path, values: Sequence[Any], kind: Any, **options: Any) -> ParquetImages:
    table = pa.table({"image": pa.array(values, kind), "text": ["t"] * len(values)})
    pq.write_table(table, path, **{"row_group_size": GROUP, "data_page_size": 2**14} | options)
    return ParquetImages(path, pa, pq)


KINDS = [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.binary(), "path": pa.string()})]
WAYS: dict[str, dict[str, Any]] = {
    "as pyarrow does": {},
    "without a dictionary": {"use_dictionary": False},
    "newer pages": {"data_page_version": "2.0", "compression": "zstd"},
    "packed by gzip": {"compression": "gzip"},
    "packed by lz4": {"compression": "lz4"},
    "packed by brotli": {"compression": "brotli"},
    "not packed": {"compression": "none"},
    "without statistics": {"write_statistics": False},
    "with checksums": {"write_page_checksum": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_image_in_any_order(tmp_path: Path, kind: Any, way: str) -> None:
    is_struct = pa.types.is_struct(kind)
    expected = images()
    values: list[Any] = list(expected)
    if is_struct:
        values = [{"bytes": image, "path": "a"} for image in expected]
        values[11] = expected[11] = None
    opened = written(tmp_path / "a.parquet", values, kind, **WAYS[way])
    [column] = opened.columns
    order = list(range(ROWS))
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda row: opened.value(column, row), order))
    found = dict(zip(order, values, strict=True))
    assert [found[row] for row in range(ROWS)] == expected
    there = [opened.embedded(column, group) for group in range(3)]
    assert there == [
        [image is not None for image in expected[start : start + GROUP]]
        for start in range(0, ROWS, GROUP)
    ]


def test_lengths_before_values(tmp_path: Path) -> None:
    options = {"use_dictionary": False, "column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}}
    opened = written(tmp_path / "a.parquet", images(), pa.binary(), **options)
    assert [opened.value(opened.columns[0], row) for row in range(ROWS)] == images()


def test_images_that_share_their_beginnings_are_refused(tmp_path: Path) -> None:
    options = {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}}
    opened = written(tmp_path / "a.parquet", images(), pa.binary(), **options)
    with pytest.raises(InputError, match=r"a\.parquet.*stored by what they share"):
        opened.value(opened.columns[0], 0)


def test_all_rows_of_a_group_hold_one_without_a_look_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = written(tmp_path / "a.parquet", [b"x"] * ROWS, pa.binary())
    monkeypatch.delattr(ParquetImages, "_page")
    assert opened.embedded(opened.columns[0], 0) is None


def test_few_pages_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "KEPT", 2**16)
    monkeypatch.setattr(parquet, "MAX_GROUPS", 2)
    opened = written(tmp_path / "a.parquet", images(), pa.binary(), use_dictionary=False)
    for row in range(ROWS):
        opened.value(opened.columns[0], row)
        assert opened._kept_bytes == sum(page.nbytes for page in opened._kept.values())
        assert len(opened._kept) == 1 or opened._kept_bytes <= 2**16
        assert len(opened._groups) <= 2


def test_a_value_that_stands_often_is_held_once(tmp_path: Path) -> None:
    """A dictionary of one image of a megabyte, and ten thousand rows that name it: 10 GB."""
    image = random.Random(0).randbytes(2**20)
    named = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), [image])
    pq.write_table(pa.table({"image": named}), tmp_path / "a.parquet", store_schema=False)
    opened = ParquetImages(tmp_path / "a.parquet", pa, pq)
    [column] = opened.columns
    assert opened.value(column, 9_999) == image
    assert opened._kept_bytes < 2**22


def test_pages_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_PAGE", 1_000)
    opened = written(
        tmp_path / "a.parquet", [b"\0" * 10_000] * 9, pa.binary(), use_dictionary=False
    )
    with pytest.raises(InputError, match="at most 1,000 are read: write the file again"):
        opened.value(opened.columns[0], 0)


def test_images_of_a_list_are_several(tmp_path: Path) -> None:
    opened = written(tmp_path / "a.parquet", [[b"1", b"2"]] * 9, pa.list_(pa.binary()))
    assert opened.columns == []


def test_damage_ends_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    written(path, images(), pa.binary(), write_page_checksum=True)
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[chance.randrange(4, len(whole) - 1_200)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        opened = ParquetImages(path, pa, pq)
        for row in range(0, ROWS, 40):
            with suppress(InputError):
                opened.value(opened.columns[0], row)
