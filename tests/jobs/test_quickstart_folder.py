"""quickstart's folder: nothing that it did not write is touched, and an error leaves nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError
from mismatch.io.locks import locked
from mismatch.jobs.quickstart_folder import MARKER, OWN_NAMES, own_files, own_folder, write_marker


def interrupted(folder: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Write a photo and a table, and stop."""
    with own_folder(folder):
        (folder / "images" / "val").mkdir(parents=True)
        (folder / "images" / "val" / "00000.jpg").write_text("drawn")
        (folder / "model" / ".best_model.12345678.part").mkdir(parents=True)
        (folder / "model" / ".best_model.12345678.part" / "a.bin").write_text("half")
        (folder / "train.csv").write_text("drawn")
        meanwhile()
        raise KeyboardInterrupt


def test_an_interrupted_run_removes_a_new_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "q")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["images/photo.png", "images/val/mine.jpg", "model/notes.txt", "x"]
)
def test_an_interrupted_run_keeps_what_a_user_puts_there_meanwhile(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "q"

    def put() -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")

    with pytest.raises(KeyboardInterrupt):
        interrupted(folder, put)
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / name]


def test_an_interrupted_run_keeps_a_folder_that_was_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path)
    assert tmp_path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"finished": false}')
    (tmp_path / "images" / "test").mkdir(parents=True)
    (tmp_path / "images" / "test" / "00000.jpg").write_text("old")
    (tmp_path / "mine.txt").write_text("keep me")
    with own_folder(tmp_path):
        assert own_files(tmp_path) == [MARKER]
        assert json.loads((tmp_path / MARKER).read_text()) == {"finished": False}
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("mine")
    with (
        pytest.raises(InputError, match=r"`dir` .* was not written by quickstart; choose another"),
        own_folder(tmp_path),
    ):
        pass
    assert (tmp_path / "train.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("marker", "name"),
    [
        ({"my": "own"}, "images/mine.jpg"),
        ([], "train.csv"),
        ({"finished": True, "files": ["images/0.jpg"]}, "images/mine.jpg"),
        ({"finished": False}, "images/mine.jpg"),
        ({"finished": False}, "model/best_model/notes.txt"),
        ({"finished": True, "files": ["images/0.jpg"]}, "bundle/mine.onnx"),
    ],
)
def test_what_it_did_not_write_is_never_removed(tmp_path: Path, marker: Any, name: str) -> None:
    (tmp_path / MARKER).write_text(json.dumps(marker))
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("mine")
    with (
        pytest.raises(
            InputError, match=r"`dir` .* (was not written by quickstart|holds files of yours)"
        ),
        own_folder(tmp_path),
    ):
        pass
    assert path.read_text() == "mine"


def test_a_table_that_a_user_has_changed_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("written")
    (tmp_path / MARKER).write_text(json.dumps({"finished": True, "files": ["train.csv"]}))
    long_ago = time.time() - 60
    os.utime(tmp_path / MARKER, (long_ago, long_ago))
    with pytest.raises(InputError, match=r"files of yours \(train.csv\)"), own_folder(tmp_path):
        pass
    os.utime(tmp_path / "train.csv", (long_ago, long_ago))
    with own_folder(tmp_path):
        assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_an_older_table_that_a_user_has_moved_there_stays(tmp_path: Path, finished: bool) -> None:
    folder = tmp_path / "q"
    with own_folder(folder):
        (folder / "train.csv").write_text("written")
        if finished:
            write_marker(folder, {"finished": True})
    mine = tmp_path / "mine.csv"
    mine.write_text("all of my rows")
    long_ago = time.time() - 60
    os.utime(mine, (long_ago, long_ago))
    mine.replace(folder / "train.csv")
    with pytest.raises(InputError, match=r"files of yours \(train.csv\)"), own_folder(folder):
        pass
    assert (folder / "train.csv").read_text() == "all of my rows"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"`dir` .* is a file"), own_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_one_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "q", parents=True),
        pytest.raises(CheckpointError),
        own_folder(tmp_path / "q"),
    ):
        pass


def test_only_its_own_names_are_listed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "model" / "best_model").mkdir(parents=True)
    (tmp_path / "model" / "best_model" / "mismatch.json").write_text("{}")
    (tmp_path / "val.csv").write_text("")
    assert "model" in OWN_NAMES
    assert own_files(tmp_path) == ["model/best_model/mismatch.json", "val.csv"]
