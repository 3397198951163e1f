"""mismatch.cli.spread: the rows and scores of the local engine, from several processes, also where one is killed or the run is cut short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.cli.spread import Block, Journal
from mismatch.errors import InputError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}
RUN = {"the model": ["c0ffee"], "--block-rows": 2}


@pytest.fixture(scope="session")
def installed_ray() -> None:
    """Asked for first, so that nothing else is made where it is missing."""
    pytest.importorskip("ray", reason='ray is not installed; pip install "mismatch-clip[ray]"')


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.csv: 1,200 rows of 96 images, of which every 50th row can't be scored."""
    folder = tmp_path_factory.mktemp("catalogue")
    random = np.random.default_rng(0)
    for number in range(96):
        Image.fromarray(random.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    lines = ["image_path,text,sku"]
    for number in range(1200):
        image = "gone.png" if number % 50 == 7 else f"{number % 96}.png"
        lines.append(f'{image},"{list(COLOURS)[number % 4]} shirt, {number % 31}",{number}')
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder


def start(folder: Path, bundle: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mismatch", "predict", "--model", bundle, "--csv", "rows.csv", "--keep-columns", "--threads", "1", *options]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def run(folder: Path, bundle: Path, *options: str) -> str:
    process = start(folder, bundle, *options)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def table(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file, or of all parts in the order of their names."""
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in parquet.ParquetFile(file).read().to_pylist()]


def assert_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """All columns equal, scores to 1e-6."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert {**one, "similarity_score": None} == {**other, "similarity_score": None}
        assert one["similarity_score"] == (other["similarity_score"] and pytest.approx(other["similarity_score"], abs=1e-6))


def records(folder: Path) -> list[dict[str, Any]]:
    progress = folder / "progress.jsonl"
    lines = progress.read_text().split("\n")[1:-1] if progress.is_file() else []
    return [json.loads(line) for line in lines]


def first_part(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """Wait for the first part."""
    end = time.monotonic() + 240
    while not (found := records(folder)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    return found[0]


def test_four_workers_one_of_them_killed_give_the_rows_of_the_local_engine(installed_ray: None, catalogue: Path, tiny_bundles: dict[str, Path]) -> None:
    bundle = tiny_bundles["hf-clip"]
    run(catalogue, bundle, "--output", "local.parquet")
    process = start(catalogue, bundle, "--engine", "ray", "--actors", "4", "--block-rows", "20", "--output", "parts")
    killed = first_part(process, catalogue / "parts")["worker"]
    os.kill(int(killed.rpartition(":")[2]), signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "1,176 rows scored → parts, 60 parts; 24 could not be" in said
    manifest = json.loads((catalogue / "parts" / "manifest.json").read_text())
    assert (manifest["rows"], manifest["failed"], len(manifest["parts"])) == (1200, 24, 60)
    assert [part["first_row"] for part in manifest["parts"]] == list(range(1, 1200, 20))
    workers = [part["worker"] for part in manifest["parts"]]
    assert len(set(workers)) == 5  # four, and the one that took the killed one's place
    assert_same(table(catalogue / "parts"), table(catalogue / "local.parquet"))
    assert sorted(os.listdir(catalogue / "parts")) == ["manifest.json", *(f"part-{number:05}.parquet" for number in range(60))]


def test_a_run_that_was_cut_short_goes_on_and_keeps_its_parts(installed_ray: None, catalogue: Path, tiny_bundles: dict[str, Path]) -> None:
    bundle, folder = tiny_bundles["hf-clip"], catalogue / "resumed"
    options = ("--engine", "ray", "--actors", "2", "--block-rows", "40", "--output", "resumed")
    process = start(catalogue, bundle, *options)
    first_part(process, folder)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    kept = records(folder)
    assert 0 < len(kept) < 30
    assert "rows are kept in resumed; continue with --resume" in said
    times = {record["part"]: (folder / record["part"]).stat().st_mtime_ns for record in kept}
    (folder / "part-00029.parquet").write_bytes(b"half")
    run(catalogue, bundle, *options, "--resume")
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    run(catalogue, bundle, "--output", "local2.parquet")
    assert_same(table(folder), table(catalogue / "local2.parquet"))
    other = start(catalogue, bundle, *options, "--resume", "--threshold", "0.9")
    assert "is of another run, which differs in --threshold" in other.communicate(timeout=120)[1]
    assert other.returncode == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "ray", "--output", "scores.csv"), "--engine ray writes a folder of parts"),
        (("--engine", "ray"), "--engine ray writes a folder of parts"),
        (("--engine", "ray", "--output", "."), "--output . holds other things"),
        (("--engine", "ray", "--output", "new", "--top", "3"), "--sort, --top and --safe-csv go with --engine local"),
        (("--actors", "2"), "--actors goes with --engine ray"),
        (("--block-rows", "9", "--ray-address", "auto"), "--ray-address, --block-rows go with --engine ray"),
    ],
)
def test_what_does_not_go_together_is_refused(catalogue: Path, options: tuple[str, ...], said: str) -> None:
    process = start(catalogue, Path("none"), *options)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said in " ".join(error.split())


def block(number: int, folder: Path) -> Block:
    (folder / f"part-{number:05}.parquet").write_bytes(b"rows")
    return Block(number=number, part=f"part-{number:05}.parquet", bytes=4, rows=2, failed=1, long_texts=0, worker="here:1")


def test_a_journal_knows_the_parts_that_are_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN, resume=False)
    for number in (2, 0, 1):
        journal.add(block(number, tmp_path))
    journal.close()
    (tmp_path / "part-00001.parquet").write_bytes(b"half a row")
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write('{"number": 3, "pa')
    again = Journal(tmp_path, RUN, resume=True)
    assert sorted(again.blocks) == [0, 2]
    assert (again.total("rows"), again.total("failed")) == (4, 2)
    assert not (tmp_path / "part-00001.parquet").exists()
    again.add(block(1, tmp_path))
    again.finish({"input": "rows.csv"})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [(part["first_row"], part["part"]) for part in manifest["parts"]] == [
        (1, "part-00000.parquet"),
        (3, "part-00001.parquet"),
        (5, "part-00002.parquet"),
    ]
    whole = Journal(tmp_path, RUN, resume=True)
    whole.close()
    assert sorted(whole.blocks) == [0, 1, 2]


def test_a_journal_of_another_run_or_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN, resume=False)
    journal.add(block(0, tmp_path))
    with pytest.raises(InputError, match="of another run, which differs in --block-rows"):
        Journal(tmp_path, {**RUN, "--block-rows": 3}, resume=True)
    journal.finish({})
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 2', '"rows": 3'))
    with pytest.raises(InputError, match="not what was written to it"):
        Journal(tmp_path, RUN, resume=True)


def test_a_journal_begun_anew_removes_the_parts_of_an_earlier_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN, resume=False)
    journal.add(block(0, tmp_path))
    journal.finish({})
    anew = Journal(tmp_path, RUN, resume=False)
    anew.close()
    assert anew.blocks == {}
    assert os.listdir(tmp_path) == ["progress.jsonl"]
