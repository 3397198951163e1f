"""The promise to operators: a bundle predicts with the base install alone, where torch,
transformers, open_clip and onnx can't be imported.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mismatch

# of this process's environment; what is imported is compiled, once for all commands
LEFT_OUT = ("PYTHONPATH", "CLIP_FINE_TUNED_MODEL_PATH", "PYTHONDONTWRITEBYTECODE")
HEAVY = ("torch", "transformers", "open_clip", "onnx", "torchvision", "safetensors")


def run(*command: Any, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_base_install_has_no_torch_and_stays_light(light: Path, tmp_path: Path) -> None:
    code = (
        f"import importlib.util, json, sys; print(json.dumps([n for n in {HEAVY!r} if"
        " importlib.util.find_spec(n)]))"
    )
    assert json.loads(run(light / "python", "-c", code, cwd=tmp_path)) == []
    files = [path for path in light.parent.rglob("*") if path.is_file()]
    size = sum(path.lstat().st_size for path in files if path.suffix != ".pyc")
    # pip compiles each module, to about its own size; this environment does not
    size += sum(path.lstat().st_size for path in files if path.suffix == ".py")
    assert size < 350e6, f"{size / 1e6:.0f} MB"


def test_doctor_says_there_what_is_missing(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = run(light / "mismatch", "doctor", cwd=tmp_path)
    assert said.startswith(f"mismatch {mismatch.__version__}, Python ")
    lacks = json.loads(run(light / "mismatch", "doctor", "--json", cwd=tmp_path))["extras"]
    assert any(line.startswith("torch") for line in lacks["train"]["lacks"])
    assert lacks["parquet"]["lacks"]
    assert 'pip install "mismatch-clip[train]"' in " ".join(said.split())


@pytest.mark.parametrize("family", ["hf-clip", "openclip"])
def test_a_bundle_predicts_there_as_torch_does_here(
    light: Path,
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    colour_images: Path,
    write_rows: Any,
    tmp_path: Path,
    family: str,
) -> None:
    texts = ["red shirt", "Größe 42 &amp; mehr 🎉", "many words " * 60]
    pairs = [(f"{name}.png", text) for name in ("red", "green", "blue") for text in texts]
    rows = write_rows(tmp_path / "rows.csv", [("image_path", "text"), *pairs, ("lie.jpg", "red")])
    expected = [
        mismatch.load(tiny_checkpoints[family], "cpu").predict(colour_images / image, text)
        for image, text in pairs
    ]

    run(
        light / "mismatch",
        "predict",
        "--model",
        tiny_bundles[family],
        "--csv",
        rows,
        "--image-base-path",
        colour_images,
        "--output",
        "out.csv",
        cwd=tmp_path,
    )
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        out = list(csv.DictReader(file))
    assert [row["status"] == "ok" for row in out] == [True] * len(pairs) + [False]
    found = np.array([float(row["similarity_score"]) for row in out[:-1]])
    scores: list[Any] = [p.similarity_score for p in expected]
    np.testing.assert_allclose(found, scores, atol=1e-4)
    assert [row["is_match"] for row in out[:-1]] == [str(p.is_match) for p in expected]

    box = run(
        light / "mismatch",
        "predict",
        "--model",
        tiny_bundles[family],
        "--image",
        colour_images / "red.png",
        "--text",
        "red shirt",
        cwd=tmp_path,
    )
    assert f"Similarity Score: {expected[0].similarity_score:.4f}\n" in box


def test_what_needs_torch_says_which_extra_is_missing(
    light: Path, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    for verb in (
        ["predict", "--image", "a.jpg", "--text", "b"],
        ["export-onnx", "--output", "out"],
    ):
        done = subprocess.run(
            [light / "mismatch", verb[0], "--model", tiny_checkpoints["openclip"], *verb[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert 'pip install "mismatch-clip[train]"' in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_repository_for_triton_needs_onnx_alone_and_says_so(
    light: Path, tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    command: list[str | Path] = [
        light / "mismatch",
        "export-onnx",
        "--model",
        tiny_bundles["openclip"],
        "--triton",
        "repository",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == "mismatch: error: mismatch export-onnx: --triton needs the package onnx: pip install"
        " onnx\n"
    )
