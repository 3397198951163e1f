"""What a job writes is kept from other writers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.errors import CheckpointError
from mismatch.jobs.locking import lock_file, lock_folder, lock_score


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
