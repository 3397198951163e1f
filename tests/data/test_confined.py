"""mismatch.data.confined: paths that leave a folder; most are in test_columns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mismatch.data import confined
from mismatch.data.confined import ConfinedFolder


def test_a_folder_that_is_itself_a_link_is_the_callers(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("a.jpg", str(tmp_path / "real" / "a.jpg"), str(tmp_path / "link" / "a.jpg")):
        assert not ConfinedFolder(str(tmp_path / "link")).leaves(name)


def test_an_empty_name_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ConfinedFolder("")
    assert [
        folder.leaves(name)
        for name in ("a.jpg", "../a.jpg", "/a.jpg", str(tmp_path / "a.jpg"), os.curdir)
    ] == [False, True, True, False, False]


def test_only_so_many_folders_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "MAX_FOLDERS", 4)
    folder = ConfinedFolder(str(tmp_path))
    assert not any(folder.leaves(f"{number}/a.jpg") for number in range(20))
    assert len(folder._places) <= 4


def test_the_root_holds_all() -> None:
    assert not ConfinedFolder("/").leaves("etc/passwd")
