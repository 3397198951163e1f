"""Real photos and titles, end to end: three epochs of `tiny` learn, the bundle agrees with torch on
every test row, and predicts them all.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mismatch.cli import main
from mismatch.evaluation.metrics import auroc

pytestmark = pytest.mark.slow


def run(*args: object) -> str:
    result = CliRunner().invoke(main, list(map(str, args)), prog_name="mismatch")
    assert result.exit_code == 0, result.output
    return result.stdout


def train(family: str, fashion: Path, output: Path) -> dict[str, Any]:
    """Three epochs of everything; returns training_stats.json."""
    options = {
        "--backbone": family,
        "--model-name": "tiny",
        "--tune": "full",
        "--epochs": 3,
        "--batch-size": 64,
        "--learning-rate": 1e-3,
    }
    files = {
        "--train-csv": fashion / "train.csv",
        "--val-csv": fashion / "val.csv",
        "--image-base-path": fashion,
        "--output-dir": output,
    }
    run("train", *(word for pair in (options | files).items() for word in pair))
    stats: dict[str, Any] = json.loads((output / "training_stats.json").read_text())
    return stats


def test_it_learns_exports_and_predicts(fashion: Path, family: str, tmp_path: Path) -> None:
    stats = train(family, fashion, tmp_path / "real")
    assert max(stats["val_auroc"]) > 0.68

    model, bundle = tmp_path / "real" / "best_model", tmp_path / "bundle"
    run(
        "export-onnx",
        "--model",
        model,
        "--output",
        bundle,
        "--verify-csv",
        fashion / "test.csv",
        "--image-base-path",
        fashion,
    )
    parity = json.loads((bundle / "parity.json").read_text())
    assert (parity["pairs"], parity["unscorable"], parity["flipped_decisions"]) == (1406, 0, 0)
    assert parity["max_score_difference"] < 1e-4
    assert parity["score_std"] > 0.05

    full = predicted(bundle, fashion, tmp_path / "full.csv")
    assert [row["status"] for row in full] == ["ok"] * 1406
    in_int8(model, full, fashion, tmp_path)


def predicted(bundle: Path, fashion: Path, output: Path) -> list[dict[str, str]]:
    """All test rows, with their labels."""
    run(
        "predict",
        "--model",
        bundle,
        "--csv",
        fashion / "test.csv",
        "--image-base-path",
        fashion,
        "--keep-columns",
        "--output",
        output,
    )
    with output.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def in_int8(model: Path, full: list[dict[str, str]], fashion: Path, folder: Path) -> None:
    """Calibration and threshold fitted on val; on test rows, which it has not seen, int8 decides
    and ranks as fp32, `full`, does.
    """
    said = run(
        "export-onnx",
        "--model",
        model,
        "--output",
        folder / "int8",
        "--precision",
        "int8",
        "--verify-csv",
        fashion / "val.csv",
        "--image-base-path",
        fashion,
    )
    assert "int8 in both towers" in said
    small = predicted(folder / "int8", fashion, folder / "small.csv")
    # 1 % is the aim, and the gate's bound on val
    assert (
        sum(a["is_match"] != b["is_match"] for a, b in zip(full, small, strict=True)) <= 0.02 * 1406
    )
    areas = [
        auroc(
            [int(row["label"]) for row in scores],
            [float(row["similarity_score"]) for row in scores],
        )
        for scores in (full, small)
    ]
    assert areas[0] > 0.6
    assert areas[0] - areas[1] <= 0.005
