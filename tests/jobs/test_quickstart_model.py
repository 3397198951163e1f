"""quickstart's model: the same seed gives the same backbone, which open_clip's family opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mismatch
from mismatch.jobs.quickstart_model import (
    KNOWN_PROBE,
    KNOWN_SECONDS,
    RECIPE,
    export_model,
    probe_seconds,
    write_backbone,
)
from mismatch.training.config import TrainConfig

WEIGHTS = "open_clip_model.safetensors"


def test_a_seed_decides_the_weights_and_torchs_own_stays(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        write_backbone(tmp_path / name, seed)
    assert torch.equal(torch.get_rng_state(), before)
    first = (tmp_path / "a" / WEIGHTS).read_bytes()
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == first
    assert (tmp_path / "b" / WEIGHTS).read_bytes() != first


def test_the_backbone_opens(tmp_path: Path) -> None:
    write_backbone(tmp_path / "backbone", 0)
    config = json.loads((tmp_path / "backbone" / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"] == {"size": 64}
    backbone = mismatch.load_backbone(f"openclip:{tmp_path / 'backbone'}")
    assert backbone.image_spec.size == 64


def test_the_probe_takes_a_moment_and_leaves_chance_alone() -> None:
    before = torch.get_rng_state()
    assert 0 < probe_seconds() < KNOWN_SECONDS
    assert torch.equal(torch.get_rng_state(), before)
    assert KNOWN_PROBE < KNOWN_SECONDS / 100


def test_the_recipe_holds_options_of_training() -> None:
    config = TrainConfig(train_csv="rows.csv", **RECIPE)
    assert (config.head, config.precision, config.best_metric) == ("cosine", "fp32", "auroc")


def test_only_a_model_of_torch_is_exported(tmp_path: Path) -> None:
    class Other:
        class engine:  # noqa: N801
            name = "onnxruntime cpu"

    predictor: Any = Other()
    catalogue: Any = None
    with pytest.raises(TypeError, match="onnxruntime cpu can't be exported"):
        export_model(predictor, tmp_path / "bundle", [], catalogue)
