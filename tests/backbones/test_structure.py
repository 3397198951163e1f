"""mismatch.backbones.structure: models of the same weights that compute otherwise are told apart,
and one is the same wherever it was loaded from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mismatch
from mismatch.backbones.registry import load_backbone
from mismatch.backbones.structure import structure_digest
from mismatch.images import encoded_image
from tests.support.backbones import ToyBackbone, tiny


def toy(**attributes: Any) -> ToyBackbone:
    backbone = ToyBackbone(nn.Sequential(nn.Flatten(), nn.Linear(192, 12)))
    for name, value in attributes.items():
        setattr(backbone.image_tower, name, value)
    return backbone


def root(value: float) -> float:
    return float(value**0.5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (8, 4),
        (1e-5, 1e-6),
        ("gelu", "quick_gelu"),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])),
        (np.array([1, 2]), np.array([2, 1])),
        (torch.float32, torch.bfloat16),
        ({"heads": [4, 4]}, {"heads": [4, 2]}),
        ((True, None), (False, None)),
        ({"_heads": 4}, {"_heads": 2}),
        ({1, 2}, {1, 3}),
        (root, abs),
        (partial(round, ndigits=1), partial(round, ndigits=2)),
    ],
)
def test_a_setting_tells_two_apart(first: object, second: object) -> None:
    assert structure_digest(toy(setting=first)) != structure_digest(toy(setting=second))
    assert structure_digest(toy(setting=first)) == structure_digest(toy(setting=first))


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (lambda backbone: setattr(backbone, "model_id", "other"), True),
        (lambda backbone: setattr(backbone.image_tower, "folder", "/elsewhere"), True),
        (lambda backbone: backbone.train(), True),
        (lambda backbone: backbone.requires_grad_(False), True),
        (lambda backbone: setattr(backbone, "zero_shot_threshold", 0.5), True),
        (lambda backbone: setattr(backbone, "image_tower", nn.Flatten()), False),
        (lambda backbone: backbone.image_tower.append(nn.GELU()), False),
        (lambda backbone: backbone.image_tower.append(nn.GELU("tanh")), False),
        (
            lambda backbone: backbone.register_buffer("table", torch.ones(2), persistent=False),
            False,
        ),
    ],
)
def test_layers_tell_two_apart_and_places_do_not(
    change: Callable[[Any], object], is_same: bool
) -> None:
    changed = toy(folder="/here")
    change(changed)
    expected = structure_digest(toy(folder="/here"))
    assert (structure_digest(changed) == expected) == is_same


@pytest.mark.parametrize("family", ["hf-clip", "openclip"])
def test_a_model_is_the_same_from_a_folder(family: str, tmp_path: Path) -> None:
    backbone = tiny(family)
    backbone.save_pretrained(tmp_path)
    assert structure_digest(load_backbone(family, tmp_path)) == structure_digest(backbone)


@pytest.mark.parametrize(
    ("family", "config", "change"),
    [
        ("openclip", "open_clip_config.json", {"model_cfg": {"quick_gelu": True}}),
        ("hf-clip", "config.json", {"vision_config": {"hidden_act": "relu"}}),
        ("hf-clip", "config.json", {"text_config": {"num_attention_heads": 1}}),
        ("hf-clip", "config.json", {"vision_config": {"layer_norm_eps": 1e-2}}),
    ],
)
def test_a_cache_keeps_models_of_the_same_weights_apart(
    family: str, config: str, change: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    scores = []
    for name in ("as_it_was", "changed"):
        folder = tmp_path / name
        folder.mkdir()
        tiny(family).save_pretrained(folder)
        if name == "changed":
            content = json.loads((folder / config).read_text())
            for part, values in change.items():
                content[part] |= values
            (folder / config).write_text(json.dumps(content))
        model = mismatch.load(f"{family}:{folder}", cache=tmp_path / "cache")
        picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        row = {"image": encoded_image(picture), "text": "two red dogs"}
        [prediction] = model.predict_pairs([row])
        again = mismatch.load(f"{family}:{folder}").predict_pairs([row])
        assert [prediction.similarity_score] == [one.similarity_score for one in again]
        scores.append(prediction.similarity_score)
    assert scores[0] != scores[1]
