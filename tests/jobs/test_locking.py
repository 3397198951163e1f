"""What a job writes is kept from other writers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.errors import CheckpointError
from mismatch.jobs.locking import lock_file, lock_folder, lock_score
from tests.support.files import names


def test_one_writer_at_a_time(tmp_path: Path, tiny_bundles: dict[str, Path]) -> None:
    for lock, path in (
        (lock_file, tmp_path / "out.csv"),
        (lock_folder, tmp_path / "new" / "folder"),
    ):
        with lock(path), pytest.raises(CheckpointError, match="process"), lock(path):
            pass
        with lock(path):
            pass
    with lock_score(tiny_bundles["openclip"]):
        pass
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a bundle"):
        lock_score(tmp_path)


def test_the_second_writer_is_named_and_nothing_stays(tmp_path: Path) -> None:
    writing = r"out.csv: process \d+ on .* has been writing it since"
    with (
        lock_file(tmp_path / "out.csv"),
        pytest.raises(CheckpointError, match=writing),
        lock_file(tmp_path / "out.csv"),
    ):
        pass
    assert names(tmp_path) == []
    with lock_folder(tmp_path / "new" / "parts"):
        assert names(tmp_path / "new") == [".parts.lock"]


def test_of_a_model_only_what_its_score_left_is_removed(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    kept = [".head.onnx.0123abcd.part", "manifest.json"]
    for name in (*kept, ".manifest.json.0123abcd.part", ".README.md.0123abcd.part"):
        (model / name).write_text("")
    with lock_score(model):
        assert names(tmp_path) == [".model.lock", "model"]
    assert names(model) == kept
