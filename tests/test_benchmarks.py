"""The benchmarks run: on tiny models and a few rows, their figures thrown away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

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


def test_quality(write_rows: Any, tmp_path: Path) -> None:
    rows: list[tuple[str, str, object]] = [("image_path", "text", "label")]
    for i in range(30):
        Image.new("RGB", (16, 16), (8 * i, 255 - 8 * i, i)).save(tmp_path / f"{i}.png")
        rows += [(f"{i}.png", f"shirt {i}", 1), (f"{i}.png", f"shirt {29 - i}", 0)]
    options = ("--csv", write_rows(tmp_path / "rows.csv", rows), "--image-base-path", tmp_path, "--backbone", "hf-clip:tiny", "--epochs", 1)
    variants = ("--only", "default", "--only", "embeddings alone", "--cache", tmp_path / "cache")
    table = run("bench_quality.py", *options, *variants, "--json", tmp_path / "out.json")
    assert "| embeddings alone |" in table
    results = json.loads((tmp_path / "out.json").read_text())
    assert [row["variant"] for row in results] == ["default", "embeddings alone"]
    assert all(0 <= row[figure]["mean"] <= 1 for row in results for figure in ("auroc", "accuracy"))


def test_startup() -> None:
    assert "mismatch --help" in run("bench_startup.py", "--runs", 1)
