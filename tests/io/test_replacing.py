"""What somebody puts under an output's name while a job runs stays, and the result lies next to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mismatch
from mismatch.errors import CheckpointError
from mismatch.io import replacing
from mismatch.io.atomic import atomic_file, write_json
from mismatch.io.replacing import earlier_output, remembered, remove_earlier, take_name
from mismatch.jobs.locking import lock_file, lock_folder
from mismatch.jobs.output.resumable_file import resumable_file
from mismatch.runtime.predictor import Predictor

MINE = "my own file\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["links", "no links"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output's name, on file systems with hard links and without."""
    if request.param == "no links":

        def refuse(*_: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    return tmp_path / "out.csv"


@pytest.mark.parametrize("older", [None, "older", ""])
def test_what_came_meanwhile_stays(target: Path, older: str | None) -> None:
    if older is not None:
        target.write_text(older)

    def write() -> None:
        with atomic_file(target) as file:
            file.write("result")
            target.write_text(MINE)

    for number in (1, 2):
        with pytest.raises(CheckpointError, match=rf"out.csv was .* is .*out-{number}.csv"):
            write()
        assert target.read_text() == MINE
        assert (target.parent / f"out-{number}.csv").read_text() == "result"
        target.write_text("older")
    assert names(target.parent) == ["out-1.csv", "out-2.csv", "out.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_what_its_owner_closed_to_others_stays_closed(target: Path) -> None:
    target.write_text("older")
    target.chmod(0o600)
    write_json(target, 1)
    assert target.stat().st_mode & 0o777 == 0o600
    target.unlink()
    os.umask(umask := os.umask(0))
    write_json(target, 1)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_was_there_is_replaced_and_what_went_meanwhile_is_made(target: Path) -> None:
    target.write_text("older")
    write_json(target, 1)
    with atomic_file(target) as file:
        file.write("result")
        target.unlink()
    assert target.read_text() == "result"
    assert names(target.parent) == ["out.csv"]


def test_a_run_that_was_killed_between_its_two_names_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with resumable_file(output, {}, resume=False) as file:
        file.text.write("1\n")
        file.commit({"rows": 1})
        left = {path: path.read_bytes() for path in (file.path, file.record)}
    for path, data in left.items():
        path.write_bytes(data)
    output.unlink()
    output.hardlink_to(tmp_path / "out.csv.part")
    with resumable_file(output, {}, resume=True) as file:
        file.text.write("2\n")
        file.commit({"rows": 2})
    assert output.read_text() == "1\n2\n"
    assert names(tmp_path) == ["out.csv"]


def test_a_folder_under_the_name_stays(target: Path) -> None:
    part = target.with_name("part")
    part.write_text("result")
    target.mkdir()
    with pytest.raises(CheckpointError, match=r"out-1\.csv"):
        take_name(part, target, None)
    assert target.is_dir()


def test_a_job_remembers_from_its_beginning(target: Path) -> None:
    with lock_file(target):
        write_json(target, 1)
        write_json(target, 2)  # over what it has written itself
        target.write_text(MINE)
        with pytest.raises(CheckpointError, match=r"out-1\.csv"):
            write_json(target, 3)
    write_json(target, 4)
    assert target.read_text() == "4\n"


def test_so_does_one_that_writes_a_folder(target: Path) -> None:
    folder = target.parent / "new"
    with lock_folder(folder):
        folder.mkdir()
        with lock_file(folder / "a.json"):
            write_json(folder / "a.json", 1)
        write_json(folder / "a.json", 2)
        (folder / "b.json").write_text(MINE)
        with pytest.raises(CheckpointError, match=r"b-1\.json"):
            write_json(folder / "b.json", 3)
        remove_earlier(folder / "b.json")
        assert (folder / "b.json").read_text() == MINE
        remove_earlier(folder / "a.json")
        assert not (folder / "a.json").exists()
    assert not replacing._files
    assert not replacing._folders


def test_the_identity_of_a_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    assert earlier_output(target) is None
    target.write_text("1")
    first = earlier_output(target)
    with remembered(target):
        os.utime(target, ns=(1, 1))
        assert earlier_output(target) == first
    assert earlier_output(target) != first


@pytest.fixture
def rows(colour_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Labelled rows in the working directory."""
    monkeypatch.chdir(tmp_path)
    colours = ("red", "green", "blue")
    for number in range(12):
        colour = tuple(40 * (number // 3) if i != number % 3 else 255 for i in range(3))
        Image.new("RGB", (16, 16), colour).save(f"{number}.png")
    lines = [f"{n}.png,a {colours[n % 3]} thing {n},{n % 4 > 0:d}" for n in range(12)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["image_path,text,label", *lines, ""]))
    return path


JOBS: dict[str, tuple[str, Callable[[Any, Path, Path], object]]] = {
    "scores.csv": ("Predictor", mismatch.predict_file),
    "scores.jsonl": ("Predictor", mismatch.predict_file),
    "scores.parquet": ("Predictor", mismatch.predict_file),
    "top.csv": ("Predictor", lambda *args: mismatch.predict_file(*args, top=3)),
    "report/predictions.csv": (
        "Predictor",
        lambda model, rows, out: mismatch.evaluate(model, rows, report=out.parent),
    ),
    "report/report.json": (
        "Predictor",
        lambda model, rows, out: mismatch.evaluate(model, rows, report=out.parent),
    ),
    "explained.json": (
        "Predictor",
        lambda model, rows, out: mismatch.explain_rows(
            model, rows, output=out, worst=1, no_heat_map=True
        ),
    ),
    "made.csv": (
        "make_negatives._grouped",
        lambda _, rows, out: mismatch.make_negatives(rows, output=out, near_duplicates=False),
    ),
    "parts/val.csv": (
        "split._assign",
        lambda _, rows, out: mismatch.split(rows, output_dir=out.parent, near_duplicates=False),
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_users_file_that_comes_while_a_job_runs_stays(
    name: str, rows: Path, colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, job = JOBS[name]
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    out = Path(name)

    def meddling(work: Callable[..., Any]) -> Callable[..., Any]:
        def first(*args: Any, **options: Any) -> Any:
            out.parent.mkdir(exist_ok=True)
            out.write_text(MINE)
            return work(*args, **options)

        return first

    predictor = Predictor(colour_engine())
    if where == "Predictor":
        monkeypatch.setattr(Predictor, "predict_rows", meddling(Predictor.predict_rows))
    else:
        module, _, function = where.partition(".")
        work = getattr(__import__(f"mismatch.jobs.{module}", fromlist=["_"]), function)
        monkeypatch.setattr(f"mismatch.jobs.{module}.{function}", meddling(work))
    kept = out.with_name(f"{out.stem}-1{out.suffix}")
    with pytest.raises(CheckpointError, match=f"{re.escape(str(out))} was .*{kept.name}"):
        job(predictor, rows, out)
    assert out.read_text() == MINE
    assert kept.stat().st_size > len(MINE)
    left = [one for one in names(out.parent) if "part" in one and not one.endswith("parts")]
    assert left == []
