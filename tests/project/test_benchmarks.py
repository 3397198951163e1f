"""The benchmarks run: on tiny models and a few rows, their figures thrown away. In a whole run they
are programs of their own; each day most share this process, which has imported torch.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.paths import ROOT, WHOLE
from tests.support.remembered import remembering

pytestmark = pytest.mark.slow


def run(name: str, *options: object) -> str:
    """What it prints; its exit code may say that a target of time was missed, which
    no test judges.
    """
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *map(str, options)],
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


Run = Callable[..., str]
left_to_a_whole_run = pytest.mark.skipif(
    not WHOLE, reason="WHOLE=1 measures training and files of many rows"
)


@pytest.fixture
def run_cheaply(capsys: pytest.CaptureFixture[str], one_thread: None) -> Run:
    """Run a benchmark as a program in a whole run, else in this process."""
    return run if WHOLE else partial(run_here, capsys)


def run_here(capsys: pytest.CaptureFixture[str], name: str, *options: object) -> str:
    """The same in this process, which has imported torch and remembers what it traced."""
    arguments = [name, *map(str, options)]
    with pytest.MonkeyPatch.context() as patch, remembering(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a process of its own would not fail at them either
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit):  # where a target of time was missed, too
            runpy.run_path(str(ROOT / "benchmarks" / name), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture
def compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    """None but in a whole run: torch.compile takes as long as all other contenders."""
    if not WHOLE:
        monkeypatch.setattr("shutil.which", lambda name: None)


@pytest.mark.usefixtures("one_thread", "compilers")
def test_engines(
    capsys: pytest.CaptureFixture[str], colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    rows = write_rows(
        tmp_path / "rows.csv",
        [
            ("image_path", "text"),
            *[(f"{name}.png", f"{name} shirt") for name in ("red", "green", "blue")] * 3,
        ],
    )
    table = run_here(
        capsys,
        "bench_engines.py",
        "--csv",
        rows,
        "--image-base-path",
        colour_images,
        "--tiny",
        "--repeats",
        1,
        "--threads",
        1,
        "--json",
        tmp_path / "out.json",
    )
    assert "| plain transformers loop, padded to 77 |" in table
    results = json.loads((tmp_path / "out.json").read_text())
    assert len(results["towers"]) == 6
    assert results["job"]["rows"] == 9
    assert sum("mismatch" in name for name in results["job"]["pairs_per_second"]) == 6
    differences = results["job"]["largest_cosine_difference_from_plain_loop"]
    # two resize implementations, at most a level apart
    assert max(differences["torch"], differences["onnxruntime fp32"]) < 2e-3
    assert differences["onnxruntime int8"] < 0.05
    assert min(results["roof"].values()) > 1e9
    assert all(
        figures["p50"] <= figures["p95"] <= figures["p99"]
        for row in results["pair"]
        for figures in row["milliseconds"].values()
    )
    assert results["machine"]["threads"] == 1


def test_quality(write_rows: Any, tmp_path: Path) -> None:
    rows: list[tuple[str, str, object]] = [("image_path", "text", "label")]
    for i in range(30):
        Image.new("RGB", (16, 16), (8 * i, 255 - 8 * i, i)).save(tmp_path / f"{i}.png")
        rows += [(f"{i}.png", f"shirt {i}", 1), (f"{i}.png", f"shirt {29 - i}", 0)]
    options = (
        "--csv",
        write_rows(tmp_path / "rows.csv", rows),
        "--image-base-path",
        tmp_path,
        "--backbone",
        "hf-clip:tiny",
        "--epochs",
        1,
    )
    variants = ("--only", "default", "--only", "embeddings alone", "--cache", tmp_path / "cache")
    table = run("bench_quality.py", *options, *variants, "--json", tmp_path / "out.json")
    assert "| embeddings alone |" in table
    results = json.loads((tmp_path / "out.json").read_text())
    assert [row["variant"] for row in results] == ["default", "embeddings alone"]
    assert all(0 <= row[figure]["mean"] <= 1 for row in results for figure in ("auroc", "accuracy"))


def test_serving(
    tiny_bundles: dict[str, Path], colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    rows = write_rows(
        tmp_path / "rows.csv",
        [
            ("image_path", "text"),
            *[(f"{name}.png", f"{name} shirt") for name in ("red", "green", "blue")],
        ],
    )
    turns = 1 if WHOLE else 0  # each starts two more services, which do nothing else here
    options = (
        "--model",
        tiny_bundles["hf-clip"],
        "--clients",
        3,
        "--seconds",
        1,
        "--pairs",
        20,
        "--threads",
        1,
        "--turns",
        turns,
        "--json",
        tmp_path / "out.json",
    )
    table = run("bench_serving.py", "--csv", rows, "--image-base-path", colour_images, *options)
    results = json.loads((tmp_path / "out.json").read_text())
    assert "times the batch predictor's" in table
    assert [results[load]["errors"] for load in ("usual", "heavy", "after")] == [0, 0, 0]
    assert results["usual"]["pairs"] > 3
    assert [len(rates) for rates in results["isolation"].values()] == [turns] * 2
    assert results["beside hostile pictures"]["hostile_requests"] >= 8
    assert results["beside hostile pictures"]["not_answered"] == 0
    assert results["usual"]["cpu_ms"] > 0 < results["batch predictor"]["cpu_ms"]


def test_startup() -> None:
    assert "mismatch --help" in run("bench_startup.py", "--runs", 1)


@left_to_a_whole_run
def test_training(run_cheaply: Run, tmp_path: Path) -> None:
    table = run_cheaply(
        "bench_training.py",
        "--tiny",
        "--rows",
        8,
        "--head-rows",
        8,
        "--repeats",
        1,
        "--threads",
        1,
        "--json",
        tmp_path / "out.json",
    )
    results = json.loads((tmp_path / "out.json").read_text())
    assert "| plain transformers loop, fp32, padded to 77 |" in table
    rates = results["full"]["pairs_per_second"]
    assert (
        sum("sentence" not in name for name in rates)
        + sum("bf16" in line for line in results["full"]["skipped"])
        == 3
    )
    assert (results["head"]["rows"], results["head"]["epochs"]) == (8, 10)
    assert results["head"]["plain_seconds_estimated"] == 10 * 8 / next(iter(rates.values()))
    assert [1e8 < size < 4e9 for size in results["memory"].values()] == [True] * 3


@left_to_a_whole_run
def test_training_on_many_rows(run_cheaply: Run, tmp_path: Path) -> None:
    table = run_cheaply(
        "bench_training.py",
        "--tiny",
        "--threads",
        1,
        "--large",
        600,
        "--json",
        tmp_path / "out.json",
    )
    large = json.loads((tmp_path / "out.json").read_text())["large"]
    assert (large["rows"], large["images"], large["texts"]) == (600, 200, 600)
    assert "600 rows, 200 images, 600 texts: " in table


def test_fetch() -> None:
    table = run("bench_fetch.py", "--urls", 40, "--delay", 0.001, "--failing", 0.1, "--side", 32)
    assert "| images fetched | 36 of 36 |" in table
    assert "| images fetched twice | 0 |" in table
    assert "| failures planted, told by their row | 4, 4 |" in table


@left_to_a_whole_run
def test_rows() -> None:
    processes = 2
    table = run("bench_rows.py", "--rows", 10_000, "--processes", processes)
    parsed = [
        line.split("|")[2].split(" and ")
        for line in table.splitlines()
        if line.startswith(("| whole", "| shared"))
    ]
    whole, shared = ([int(count.replace(",", "")) for count in counts] for counts in parsed)
    assert whole == [10_000] * processes
    assert sum(shared) == 10_000
    assert max(shared) < 10_200 / processes


@pytest.mark.usefixtures("one_thread")
def test_pipeline(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = run_here(
        capsys,
        "bench_pipeline.py",
        "--tiny",
        "--rows",
        8,
        "--sizes",
        "64,300",
        "--repeats",
        1,
        "--threads",
        1,
        "--json",
        tmp_path / "out.json",
    )
    results = json.loads((tmp_path / "out.json").read_text())
    assert (
        "| 8 rows, all different, photos of 300 pixels | pairs/s | times the plain loop |" in table
    )
    assert [job["size"] for job in results["jobs"]] == [64, 300]
    assert all(rate > 0 for job in results["jobs"] for rate in job["pairs_per_second"].values())
    assert sorted(results["start"]) == ["fp32", "int8"]
    assert all(
        1e7 < figures["bytes"] < 1e9 and figures["seconds"] > 0
        for figures in results["start"].values()
    )


@left_to_a_whole_run
def test_pipeline_over_many_rows(run_cheaply: Run, tmp_path: Path) -> None:
    rows = 9_000
    options = ("--threads", 1, "--large", rows, "--json", tmp_path / "out.json")
    run_cheaply("bench_pipeline.py", *options)
    large = json.loads((tmp_path / "out.json").read_text())["large"]
    assert (large["rows"], large["images"], large["texts"]) == (rows, rows, rows)
    assert 1e7 < large["early_bytes"] < 1.5e9
    assert 1e7 < large["late_bytes"] < 1.5e9


def test_explain(
    run_cheaply: Run,
    tiny_bundles: dict[str, Path],
    colour_images: Path,
    write_rows: Any,
    tmp_path: Path,
) -> None:
    rows: list[tuple[object, ...]] = [("image_path", "text", "label", "kind")]
    for name, other in (("red", "green"), ("green", "blue"), ("blue", "red")):
        rows += [
            (f"{name}.png", f"{name} cotton shirt", 1, "match"),
            (f"{name}.png", f"{other} cotton shirt", 0, "hard_colour"),
        ]
        rows.append((f"{name}.png", f"{name} cotton shoe", 0, "hard_type"))
    (tmp_path / "qs").mkdir()
    (tmp_path / "qs" / "bundle").symlink_to(tiny_bundles["hf-clip"])
    files = (
        "--csv",
        write_rows(tmp_path / "rows.csv", rows),
        "--image-base-path",
        colour_images,
        "--quickstart",
        tmp_path / "qs",
    )
    table = run_cheaply(
        "bench_explain.py",
        "--model",
        tiny_bundles["hf-clip"],
        *files,
        "--edits",
        8,
        "--timed",
        2,
        "--json",
        tmp_path / "out.json",
    )
    assert "| the words named, hard_colour |" in table
    results = json.loads((tmp_path / "out.json").read_text())
    assert [results["rows"][kind]["rows"] for kind in ("hard_colour", "hard_type", "match")] == [
        3,
        3,
        3,
    ]
    assert results["catalogue"]["rows"] == 8
    assert (
        results["rows"]["cost"]["words_images"],
        results["rows"]["cost"]["with_heat_map_images"],
    ) == (1, 49)
