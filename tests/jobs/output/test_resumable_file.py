"""mismatch.jobs.output.resumable_file: what is committed stays, what isn't goes, and a part of something else is
refused.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError
from mismatch.jobs.output.resumable_file import ResumableFile, resumable_file
from tests.support.files import names

RUN = {"the model": ["ab" * 32, {"kind": "probability"}], "--threshold": 0.5, "--shard": "none"}


def write(
    folder: Path,
    *windows: str,
    end: type[BaseException] | None = None,
    run: dict[str, Any] = RUN,
    resume: bool = False,
) -> None:
    with resumable_file(folder / "out.csv", run, resume=resume) as part:
        for window in windows:
            part.text.write(window)
            part.commit({"rows": part.counts["rows"] + 1})
        part.text.write("half")
        if end is not None:
            raise end("stop")
        part.text.seek(0)
        part.text.truncate()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with a part of two windows."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "é\r\n", "b\n", end=KeyboardInterrupt)
    return tmp_path


def test_a_part_takes_its_name_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("older")
    write(tmp_path, "é\r\n", "b\n")
    assert names(tmp_path) == ["out.csv"]
    assert (tmp_path / "out.csv").read_bytes() == "é\r\nb\n".encode()


@pytest.mark.parametrize("rest", [b"", b"half a li", b"many lines\n" * 9999])
def test_it_goes_on_behind_the_last_commit(begun: Path, rest: bytes) -> None:
    assert names(begun) == ["out.csv.part", "out.csv.part.json"]
    with (begun / "out.csv.part").open("ab") as file:
        file.write(rest)
    (begun / ".out.csv.part.json.0123abcd.part").write_text("a writer that was killed")
    write(begun, "c\n", resume=True)
    assert names(begun) == ["out.csv"]
    assert (begun / "out.csv").read_bytes() == "é\r\nb\nc\n".encode()


def test_without_resume_it_begins_anew(begun: Path) -> None:
    write(begun, "c\n")
    assert names(begun) == ["out.csv"]
    assert (begun / "out.csv").read_text() == "c\n"


def test_resume_without_a_part_begins(tmp_path: Path) -> None:
    write(tmp_path, "a\n", resume=True)
    assert (tmp_path / "out.csv").read_text() == "a\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--threshold": 0.25}, "differs in `threshold` (0.5 before, 0.25 now); "),
        ({"the model": ["cd" * 32]}, "differs in the model; "),
        (
            {"the model": [], "--shard": "1/2"},
            "differs in the model, `shard` (none before, 1/2 now); ",
        ),
        ({"a new option": 1}, "a new option"),
    ],
)
def test_a_part_of_another_run_is_refused_and_kept(
    begun: Path, change: dict[str, Any], words: str
) -> None:
    before = {name: (begun / name).read_bytes() for name in names(begun)}
    with pytest.raises(InputError, match=r"leave `resume` out to begin again$") as caught:
        write(begun, "c\n", run=RUN | change, resume=True)
    assert words in str(caught.value)
    assert {name: (begun / name).read_bytes() for name in names(begun)} == before


@pytest.mark.parametrize(
    "damage", ["cut", "changed", "no JSON", "not its JSON", "half of its JSON"]
)
def test_a_damaged_part_is_refused(begun: Path, damage: str) -> None:
    part, record = begun / "out.csv.part", begun / "out.csv.part.json"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    elif damage == "changed":
        part.write_bytes(part.read_bytes().replace(b"b", b"x"))
    elif damage == "no JSON":
        record.write_text("{")
    else:
        record.write_text("[]" if damage == "not its JSON" else json.dumps({"run": RUN}))
    with pytest.raises(InputError, match="leave `resume` out"):
        write(begun, "c\n", resume=True)


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, CheckpointError])
def test_what_is_kept_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: type[BaseException]
) -> None:
    with caplog.at_level("INFO"), pytest.raises(end):
        write(tmp_path, "a\n", end=end)
    part = tmp_path / "out.csv.part"
    assert caplog.messages == [f"1 rows are kept in {part}; continue with `resume=True`"]
    assert part.read_text() == "a\n"


@pytest.mark.parametrize(("windows", "end"), [((), KeyboardInterrupt), (("a\n",), InputError)])
def test_nothing_is_kept_of_nothing_nor_of_an_input_that_is_at_fault(
    tmp_path: Path, windows: Any, end: type[BaseException]
) -> None:
    with pytest.raises(end):
        write(tmp_path, *windows, end=end)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_and_a_disk_that_is_full_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="does not exist; create it"):
        write(tmp_path / "absent", "a\n")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    part = ResumableFile(tmp_path / "out.csv", RUN)
    part.open(resume=False)
    part.text.write("a")
    part.commit({"rows": 1})
    part.text.write("b")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(CheckpointError, match=r"can't write .*out\.csv: No space left"):
            part.commit({"rows": 2})
    part.close()
    write(tmp_path, "c", resume=True)
    assert (tmp_path / "out.csv").read_text() == "ac"


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["out.csv.part", "out.csv.part.json"])
def test_a_file_of_somebody_elses_under_a_parts_name_stays(
    tmp_path: Path, name: str, resume: bool
) -> None:
    (tmp_path / name).write_text("mine")
    with (
        pytest.raises(InputError, match=rf"{name} is in the way and was not written by mismatch"),
        resumable_file(tmp_path / "out.csv", {}, resume=resume),
    ):
        pytest.fail("never reached")
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_link_under_a_parts_name_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "out.csv.part").symlink_to(tmp_path / "notes")
    with (
        pytest.raises(InputError, match="is in the way"),
        resumable_file(tmp_path / "out.csv", {}, resume=False),
    ):
        pytest.fail("never reached")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out.csv").symlink_to(tmp_path / "real" / "rows.csv")
    write(tmp_path, "a\n")
    assert (tmp_path / "out.csv").is_symlink()
    assert names(tmp_path / "real") == ["rows.csv"]


def test_a_record_with_one_digit_changed_is_refused(begun: Path) -> None:
    record = begun / "out.csv.part.json"
    record.write_text(record.read_text().replace('"rows": 2', '"rows": 3'))
    with pytest.raises(
        InputError, match=r"out.csv.part.json can't be used; leave `resume` out to begin again"
    ):
        write(begun, "c\n", resume=True)
