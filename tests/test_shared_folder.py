"""One output folder for all processes of a run: one that sees another is an error in all."""

from __future__ import annotations

from pathlib import Path

from mismatch.errors import CheckpointError
from mismatch.training.distributed.shared_folder import check_shared
from tests.teams import in_team


def test_nothing_is_left_and_no_folder_either_that_was_made_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    assert in_team(2, lambda processes: check_shared(folder, processes)) == [None, None]
    assert not folder.exists()
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    in_team(2, lambda processes: check_shared(folder, processes))
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_one_process_alone_makes_no_folder(tmp_path: Path) -> None:
    assert in_team(1, lambda processes: check_shared(tmp_path / "run", processes)) == [None]
    assert not (tmp_path / "run").exists()


def test_a_process_that_doesn_t_see_the_folder_is_an_error_in_all(tmp_path: Path) -> None:
    found = in_team(
        3, lambda processes: check_shared(tmp_path / f"machine{processes.index // 2}", processes)
    )
    assert {(type(error), str(error).partition("machine")[2][2:]) for error in found} == {
        (
            CheckpointError,
            (
                "is another folder for process 2 of 3 than for process 0; give them all a folder"
                " that they share"
            ),
        )
    }
