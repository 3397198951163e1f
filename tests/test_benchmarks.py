"""The benchmarks run: on tiny models and a few rows, their figures thrown away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run(name: str, *options: object) -> str:
    """What it prints; its exit code may say that a target of time was missed, which no test judges."""
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / name, *map(str, options)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_engines(colour_images: Path, write_rows: Any, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", [("image_path", "text"), *[(f"{name}.png", f"{name} shirt") for name in ("red", "green", "blue")] * 15])
    table = run("bench_engines.py", "--csv", rows, "--image-base-path", colour_images, "--tiny", "--repeats", 1, "--json", tmp_path / "out.json")
    assert "| plain transformers loop, padded to 77 |" in table
    results = json.loads((tmp_path / "out.json").read_text())
    assert len(results["towers"]) == 6
    assert results["job"]["rows"] == 45
    assert len(results["job"]["pairs_per_second"]) == 5
    assert results["job"]["largest_cosine_difference_from_plain_loop"] < 2e-3  # two resize implementations, at most a level apart
    assert results["machine"]["threads"] == 2


def test_startup() -> None:
    assert "mismatch --help" in run("bench_startup.py", "--runs", 1)
