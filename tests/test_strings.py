"""Strings on disk: all come back by their numbers, through slices and choices, and a file that
can't be seen is said so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mismatch.data.strings import Stored, StringFile, StringWriter
from mismatch.errors import CheckpointError

SAID = [["red shirt", "", "é\U0001f9e5"], [], ["half \ud800 a letter", "x" * 100_000, "line\nline"]]


@pytest.fixture
def files(tmp_path: Path) -> list[StringFile]:
    for i, texts in enumerate(SAID):
        with StringWriter(tmp_path / str(i)) as file:
            assert [file.add(text) for text in texts] == list(range(len(texts)))
    return [StringFile(tmp_path / str(i), len(texts)) for i, texts in enumerate(SAID)]


def test_strings_of_several_files_are_one_sequence(files: list[StringFile]) -> None:
    every = [text for texts in SAID for text in texts]
    stored = Stored(files, np.arange(6), str)
    assert list(stored) == every
    assert (stored[-1], len(stored), list(stored[1:5:2])) == (every[-1], 6, every[1:5:2])
    assert list(stored.take(np.array([5, 0, 0]))) == [every[5], every[0], every[0]]
    assert list(Stored(files, np.array([4, 2]), len)) == [100_000, 2]
    with pytest.raises(IndexError):
        stored[6]


def test_a_file_that_another_process_has_not_left_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=(
            r"absent, which another process of this run has written, can't be read: No such file or"
            r" directory"
        ),
    ):
        StringFile(tmp_path / "absent", 1)


def test_a_folder_that_cant_be_written_to_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(
            CheckpointError, match=r"can't write .*: the folder .* does not exist; create it"
        ),
        StringWriter(tmp_path / "absent" / "file"),
    ):
        pass


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with (
        pytest.raises(CheckpointError, match="can't write /dev/full: No space left on device"),
        StringWriter(Path("/dev/full")) as file,
    ):
        file.add("x" * 100_000)
