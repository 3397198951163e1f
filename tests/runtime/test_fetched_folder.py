"""mismatch.runtime.fetched_folder: images by their URLs, whole and as they were written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mismatch.errors import CheckpointError, MachineError
from mismatch.runtime.fetched_folder import INDEX, PARTS, FetchedFolder, default_folder, url_key
from tests.support.web_host import coloured

KEY = url_key("https://shop.example/red.png?key=secret")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[FetchedFolder]:
    made = FetchedFolder(tmp_path / "images", "`fetch_cache`")
    yield made
    made.close()


def test_what_was_added_is_found_by_another_process_too(folder: FetchedFolder) -> None:
    data = coloured("red", "JPEG")
    image = folder.add(KEY, data, '"abc"', "Mon, 01 Jan 2024 00:00:00 GMT")
    assert image.name.endswith(".jpg")
    assert folder.read(image) == data
    other = FetchedFolder(folder.path, "`fetch_cache`")
    assert other.find(KEY) == image
    assert other.find(url_key("https://shop.example/blue.png")) is None
    other.close()
    written = b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert b"shop.example" not in written


def test_equal_bytes_are_one_file(folder: FetchedFolder) -> None:
    names = {folder.add(url_key(f"https://a.test/{n}"), coloured("red")).name for n in range(3)}
    assert len(names) == 1
    assert folder.keep(coloured("red")) in names


@pytest.mark.parametrize("damage", [b"", b"x" * 10_000, None])
def test_a_damaged_file_is_none(folder: FetchedFolder, damage: bytes | None) -> None:
    data = coloured("red")
    image = folder.add(KEY, data)
    path = folder.path / image.name
    path.write_bytes(data[:-1] + b"?" if damage is None else damage)
    assert folder.read(image) is None
    folder.forget(KEY, image)
    assert folder.find(KEY) is None
    assert folder.read(folder.add(KEY, data)) == data


def test_an_index_that_names_other_files_is_not_believed(folder: FetchedFolder) -> None:
    for name in ("../../secret.jpg", "/etc/passwd", "images/ab/../../../x.jpg", 7):
        folder._asked("insert or replace into urls values (?, ?, 3, '', '')", KEY, name)
        assert folder.find(KEY) is None


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"`output` .* holds other things"):
        FetchedFolder(tmp_path, "`output`")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="choose another folder"):
        FetchedFolder(tmp_path / "file", "`output`")


def test_a_damaged_index_says_what_to_do(folder: FetchedFolder) -> None:
    folder.close()
    for path in folder.path.glob(f"{INDEX}*"):
        path.write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(CheckpointError, match=rf"{INDEX} can't be used: .*; remove it"):
        FetchedFolder(folder.path, "`fetch_cache`")


def test_a_full_disk_is_the_machines(
    folder: FetchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MachineError, match="No space left on device; make room"):
        folder.add(KEY, coloured("red"))
    assert list((folder.path / PARTS).iterdir()) == []
    assert folder.find(KEY) is None


def test_what_killed_writers_have_begun_goes(folder: FetchedFolder) -> None:
    old = folder.path / PARTS / "old"
    new = folder.path / PARTS / "new"
    for path in (old, new):
        path.write_bytes(b"half an ima")
    os.utime(old, (1, 1))
    FetchedFolder(folder.path, "`fetch_cache`").close()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_closed_index_is_an_error_in_words(folder: FetchedFolder) -> None:
    folder.close()
    with pytest.raises(MachineError, match="choose another folder") as caught:
        folder.find(KEY)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_the_users_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "mismatch" / "images"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "mismatch" / "images"


def test_what_stands_behind_a_hash_is_no_part_of_a_url() -> None:
    assert url_key("https://a.test/a#b") == url_key(" https://a.test/a ")
    assert url_key("https://a.test/a?b") != url_key("https://a.test/a")
