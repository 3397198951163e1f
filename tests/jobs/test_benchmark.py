"""`mismatch benchmark`: what it prints and writes, that bundles need no torch, and what it refuses.
No time is asserted.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.cli.options import MODEL_ENV
from mismatch.errors import InputError
from mismatch.evaluation import speed, timing
from mismatch.reports.benchmark_lines import benchmark_lines
from tests.support import commands

QUICK = ("--batch-sizes", "1,2", "--repeats", "1", "--threads", "1", "--provider", "cpu")


run = partial(commands.run, "benchmark")


@pytest.fixture(scope="module")
def compared(
    tiny_bundles: dict[str, Path],
    tiny_checkpoints: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Any]:
    """A bundle next to the checkpoint that it was made from, with a CSV: what is printed, and what
    is written.
    """
    from PIL import Image

    folder = tmp_path_factory.mktemp("compared")
    Image.new("RGB", (30, 20), (255, 0, 0)).save(folder / "red.png")
    (folder / "rows.csv").write_text(
        "image_path,text\nred.png,red bag\nred.png,blue bag\nabsent.png,red\nred.png,a fourth one\n"
    )
    models = ("--model", tiny_bundles["openclip"], "--model", tiny_checkpoints["openclip"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "TURN_SECONDS", 0.01)
        result = run(
            *models,
            *QUICK,
            "--csv",
            folder / "rows.csv",
            "--image_base_path",
            folder,
            "--rows",
            3,
            "--json",
            folder / "out.json",
        )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["out.json", "red.png", "rows.csv"]
    return result.stdout, json.loads((folder / "out.json").read_text(encoding="utf-8"))


def test_what_is_written_is_what_is_printed(compared: tuple[str, Any]) -> None:
    printed, written = compared
    assert printed == "\n".join(mismatch.BenchmarkResult(**written).summary()) + "\n"


def test_every_figure_is_positive_and_every_ratio_is_that_of_the_figures(
    compared: tuple[str, Any],
) -> None:
    for table in compared[1]["tables"]:
        assert table["rows"]
        for row in table["rows"]:
            assert all(math.isfinite(value) and value > 0 for value in row["figures"]), row
            assert row["ratios"] == [1.0, row["figures"][1] / row["figures"][0]]


def test_the_tables_are_all_there(compared: tuple[str, Any]) -> None:
    found = {
        table["name"].partition(" (")[0].partition(":")[0]: [row["case"] for row in table["rows"]]
        for table in compared[1]["tables"]
    }
    memory = ["peak memory, MB"] if Path("/proc/self/status").is_file() else []
    assert found == {
        "image tower": ["1", "2"],
        "text tower, a title": ["1", "2"],
        "text tower, the whole context": ["1", "2"],
        "one warm pair": ["p50", "p95", "p99"],
        "whole job": ["3"],
        "start": ["first score, s", *memory, "model folder, MB"],
    }
    p50, p95, p99 = (
        row["figures"]
        for table in compared[1]["tables"]
        if table["unit"] == "ms"
        for row in table["rows"]
    )
    assert p50 <= p95 <= p99
    assert "text tower, a title (12 tokens)" in compared[0]
    assert "2 different images, 3 different texts, 1 unscorable" in compared[0]


def test_the_models_and_the_machine_are_named(
    compared: tuple[str, Any], tiny_bundles: dict[str, Path]
) -> None:
    printed, written = compared
    bundle, checkpoint = written["models"]
    assert bundle["model"] == str(tiny_bundles["openclip"])
    assert (bundle["engine"]["engine"], bundle["engine"]["threads"]) == ("onnxruntime cpu", 1)
    assert checkpoint["engine"]["engine"] == "torch cpu"
    assert (
        f"- A: {bundle['model']}; engine onnxruntime cpu, onnxruntime"
        f" {bundle['engine']['onnxruntime']}, precision fp32, threads 1" in printed
    )
    assert printed.startswith(f"- machine: {written['machine']['cpu']}, ")
    assert f"{written['machine']['cpus']} CPUs available" in printed


def test_the_folder_is_weighed(compared: tuple[str, Any], tiny_bundles: dict[str, Path]) -> None:
    size = sum(path.stat().st_size for path in tiny_bundles["openclip"].iterdir())
    assert compared[1]["tables"][-1]["rows"][-1]["figures"][0] == pytest.approx(size / 1e6)


def test_the_markdown_of_one_and_of_several() -> None:
    machine = {"cpu": "C", "instructions": ["avx2"], "cpus": 2, "python": "3.11"}
    models = [
        {"letter": letter, "model": f"m{letter}", "engine": {"engine": "e", "threads": 2}}
        for letter in "AB"
    ]
    row = {"case": "16", "figures": [1234.5, 12.345], "ratios": [1.0, 0.01]}
    bare = {"case": "memory", "figures": [None, 0.5], "ratios": [None, None]}
    tables = [
        {"name": "t", "case": "batch", "unit": "items/s", "rows": [row]},
        {"name": "u", "case": "figure", "unit": "", "rows": [bare]},
    ]
    result = mismatch.BenchmarkResult(machine, models, {}, tables)
    assert benchmark_lines(result) == [
        "- machine: C, avx2, 2 CPUs available, Python 3.11",
        "- A: mA; engine e, threads 2",
        "- B: mB; engine e, threads 2",
        "",
        "t",
        "",
        "| batch | A, items/s | B, items/s | B / A |",
        "|---|---|---|---|",
        "| 16 | 1,234 | 12.3 | 0.01 |",
        "",
        "u",
        "",
        "| figure | A | B | B / A |",
        "|---|---|---|---|",
        "| memory | – | 0.5 | – |",
    ]
    alone = [{**tables[0], "rows": [{"case": "16", "figures": [3.0], "ratios": [1.0]}]}]
    few = mismatch.BenchmarkResult(machine | {"instructions": []}, models[:1], {}, alone)
    lines = benchmark_lines(few)
    assert lines[0] == "- machine: C, 2 CPUs available, Python 3.11"
    assert lines[-3:] == ["| batch | A, items/s |", "|---|---|", "| 16 | 3 |"]


WITHOUT_TORCH = """
import sys
import mismatch
from mismatch.cli import main
try:
    main(sys.argv[1:])
finally:
    print(sorted({"torch", "transformers", "open_clip", "onnx"} & set(sys.modules)), file=sys.stderr)
"""


def test_bundles_need_no_torch(tiny_bundles: dict[str, Path]) -> None:
    args = [
        "benchmark",
        *(word for path in tiny_bundles.values() for word in ("--model", str(path))),
        *QUICK,
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *args], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert "| B / A |" in done.stdout


def test_the_model_of_the_environment_is_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(env={MODEL_ENV: "a folder:of mine"})
    assert result.exit_code == 2
    assert "a folder:of mine" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "nowhere"], "model folder nowhere not found"),
        (["--model", "BUNDLE", "--model", "nowhere"], "model folder nowhere not found"),
        ([], "Missing option '--model'"),
        (["--model", "BUNDLE", "--csv", "absent.csv"], "absent.csv"),
        (
            ["--model", "BUNDLE", "--csv", "empty.csv"],
            "empty.csv: there are no rows under the header; nothing to measure",
        ),
        (["--model", "BUNDLE", "--csv", "other.csv"], "other.csv"),
        (["--model", "BUNDLE", "--image-base-path", "x"], "--image-base-path goes with --csv"),
        (
            ["--model", "BUNDLE", "--json", "nowhere/out.json"],
            "--json nowhere/out.json can't be written: its folder does not exist",
        ),
        (["--model", "BUNDLE", "--json", "."], "'--json': File '.' is a directory"),
        (["--model", "BUNDLE", "--repeats", "0"], "--repeats"),
        (["--model", "BUNDLE", "--provider", "tpu"], "tpu"),
        *(
            (
                ["--model", "BUNDLE", "--batch-sizes", value],
                f"'{value}'; whole numbers from 1 to 4096",
            )
            for value in ("", "1,,2", "0", "-1", "2.5", "4,x", "4097", "²")
        ),
    ],
)
def test_what_it_refuses(
    args: list[str],
    words: str,
    tiny_bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MODEL_ENV, raising=False)
    Path("empty.csv").write_text("image_path,text\n")
    Path("other.csv").write_text("image_path,title\na.png,b\n")
    result = run(*(str(tiny_bundles["openclip"]) if word == "BUNDLE" else word for word in args))
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    lines = [line for line in result.stderr.splitlines() if " is read as " not in line]
    assert len(lines) == 1
    assert result.stdout == ""


def test_an_interrupt_writes_nothing(
    tiny_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(speed, "first_score", interrupted)
    result = run("--model", tiny_bundles["openclip"], *QUICK, "--json", tmp_path / "out.json")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_from_python_on_rows_in_memory(
    tiny_bundles: dict[str, Path],
    colour_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.0)
    rows = [{"image_path": "red.png", "text": "red"}, {"image_path": "blue.png", "text": "red"}]
    found = mismatch.benchmark(
        tiny_bundles["openclip"],
        rows,
        batch_sizes=[1],
        repeats=1,
        threads=1,
        provider="cpu",
        image_base_path=colour_images,
    )
    assert isinstance(found, mismatch.BenchmarkResult)
    assert found.settings["csv"] == "list"
    assert any(table["name"].startswith("whole job: list") for table in found.tables)
    assert json.loads(json.dumps(found.to_dict()))["models"] == found.models
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        ([], {}, "`models` is empty"),
        ("m", {"batch_sizes": [0]}, "`batch_sizes` is"),
        ("m", {"repeats": 0}, "`repeats` is 0"),
        ("m", {"image_base_path": "x"}, "`image_base_path` goes with `rows`"),
    ],
)
def test_what_it_refuses_from_python(models: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.benchmark(models, **options)
