"""Real photos and titles, end to end: three epochs of `tiny` learn, the bundle agrees with torch on
every row of a test, and predicts them all.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mismatch.evaluation.metrics import auroc
from tests.support import commands
from tests.support.checkpoints import FAMILIES
from tests.support.paths import WHOLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WHOLE, reason="WHOLE=1; each day test_lit learns the same photos"),
]


def run(*args: object) -> str:
    result = commands.run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rows(fashion: Path, tmp_path: Path) -> Path:
    """A folder with train.csv, val.csv and test.csv."""
    for name in ("train", "val", "test"):
        shutil.copy(fashion / f"{name}.csv", tmp_path)
    return tmp_path


def train(family: str, rows: Path, fashion: Path, output: Path) -> dict[str, Any]:
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
        "--train-csv": rows / "train.csv",
        "--val-csv": rows / "val.csv",
        "--image-base-path": fashion,
        "--output-dir": output,
    }
    run("train", *(word for pair in (options | files).items() for word in pair))
    stats: dict[str, Any] = json.loads((output / "training_stats.json").read_text())
    return stats


def test_it_learns_exports_and_predicts(fashion: Path, family: str, rows: Path) -> None:
    stats = train(family, rows, fashion, rows / "real")
    assert max(stats["val_auroc"]) > 0.68

    model, bundle = rows / "real" / "best_model", rows / "bundle"
    tested = 1406
    run(
        "export-onnx",
        "--model",
        model,
        "--output",
        bundle,
        "--verify-csv",
        rows / "test.csv",
        "--image-base-path",
        fashion,
    )
    parity = json.loads((bundle / "parity.json").read_text())
    assert (parity["pairs"], parity["unscorable"], parity["flipped_decisions"]) == (tested, 0, 0)
    assert parity["max_score_difference"] < 1e-4
    assert parity["score_std"] > 0.05

    full = predicted(bundle, rows, fashion, rows / "full.csv")
    assert [row["status"] for row in full] == ["ok"] * tested
    in_int8(model, full, fashion, rows)


def predicted(bundle: Path, rows: Path, fashion: Path, output: Path) -> list[dict[str, str]]:
    """All test rows, with their labels."""
    run(
        "predict",
        "--model",
        bundle,
        "--csv",
        rows / "test.csv",
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
        folder / "val.csv",
        "--image-base-path",
        fashion,
    )
    assert "int8 in both towers" in said
    small = predicted(folder / "int8", folder, fashion, folder / "small.csv")
    # 1 % is the aim, and the gate's bound on val
    flipped = sum(a["is_match"] != b["is_match"] for a, b in zip(full, small, strict=True))
    assert flipped <= 0.02 * len(full)
    areas = [
        auroc(
            [int(row["label"]) for row in scores],
            [float(row["similarity_score"]) for row in scores],
        )
        for scores in (full, small)
    ]
    assert areas[0] > 0.6
    assert areas[0] - areas[1] <= 0.005
