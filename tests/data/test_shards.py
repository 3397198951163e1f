"""mismatch.data.shards: patterns that name several files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data import shards
from mismatch.data.pairs import format_location, kind_of, read_rows, rows_files
from mismatch.data.shards import is_pattern, shard_files
from mismatch.errors import InputError
from tests.support.embedded import FORMATS, drawn_rows


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{00..02}.tar", ["00.tar", "01.tar", "02.tar"]),
        ("{8..11}.tar", ["8.tar", "9.tar", "10.tar", "11.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("{,x}1.tar", ["1.tar", "x1.tar"]),
        ("{b,a}.tar", ["b.tar", "a.tar"]),
    ],
)
def test_files_in_the_order_of_the_pattern(tmp_path: Path, pattern: str, names: list[str]) -> None:
    touch(tmp_path, *names)
    assert shard_files(tmp_path / pattern) == [tmp_path / name for name in names]
    assert rows_files(tmp_path / pattern) == [tmp_path / name for name in names]
    assert kind_of(tmp_path / pattern) == "webdataset"


@pytest.mark.parametrize("name", ["a.tar", "{a}.tar", "a{}.tar", "{0.1}.tar"])
def test_other_names_are_one_file(tmp_path: Path, name: str) -> None:
    assert not is_pattern(name)
    assert shard_files(tmp_path / name) == [tmp_path / name]


def test_a_file_of_that_name_counts(tmp_path: Path) -> None:
    touch(tmp_path, "{0..1}.tar")
    assert shard_files(tmp_path / "{0..1}.tar") == [tmp_path / "{0..1}.tar"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "0.tar")
    with pytest.raises(InputError, match=r"names 2 files, and \S*1\.tar is not there"):
        list(read_rows(tmp_path / "{0..1}.tar", require_label=False))
    with pytest.raises(InputError, match=r"3\.tar and 6 more are not there"):
        shard_files(tmp_path / "{0..9}.tar")


def test_a_row_is_said_by_its_file_and_key(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    tars = FORMATS["webdataset shards"](tmp_path, drawn_rows(30))
    tables = FORMATS["parquet files"](tmp_path, drawn_rows(30))
    assert format_location(tars, 14) == str(tmp_path / "shards" / "00001.tar:000000013")
    assert format_location(tables, 14) == str(tmp_path / "train-1.parquet:row 1")
    assert format_location(tars, 31) == f"{tars}:row 31"
    assert format_location(tmp_path / "gone.tar", 3) == str(tmp_path / "gone.tar:row 3")


def test_patterns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"range of at most 100,000 numbers"):
        shard_files("{0..999999999}.tar")
    with pytest.raises(InputError, match="write the smaller one first"):
        shard_files("{9..0}.tar")
    with pytest.raises(InputError, match="names 4,294,967,296 files"):
        shard_files("{0..65535}-{0..65535}.tar")
    monkeypatch.setattr(shards, "MAX_FILES", 3)
    with pytest.raises(InputError, match="names 4 files; at most 3"):
        shard_files("{0..1}{0..1}.tar")
