"""The family openclip: as open_clip computes, text by text and pixel by pixel."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from mismatch.errors import BackboneError
from mismatch.runtime.preprocess import Preprocessor, open_image
from mismatch.runtime.tokenize import Tokenizer
from mismatch_openclip.backbone import OpenClipBackbone, _image_spec
from mismatch_openclip.loading import load
from tests.support.plugins import Evil, copy_of, embed, levels


@pytest.fixture(scope="module")
def tiny() -> OpenClipBackbone:
    return load("tiny")


@pytest.fixture(scope="module")
def tokenizer(tiny: OpenClipBackbone) -> Tokenizer:
    return Tokenizer(tiny.text_spec)


@pytest.fixture(scope="module")
def saved(tiny: OpenClipBackbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openclip") / "model"
    tiny.save_pretrained(folder)
    return folder


def test_the_hook_imports_no_torch() -> None:
    code = (
        "import sys, mismatch_openclip; assert mismatch_openclip.register_backbones; print('torch'"
        " in sys.modules, 'open_clip' in sys.modules)"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "False"]


def test_registers_its_family() -> None:
    import mismatch_openclip

    calls: list[tuple[Any, ...]] = []
    mismatch_openclip.register_backbones(lambda *args, **more: calls.append((args, more)))
    (((name, function), more),) = calls
    assert (name, more["default_model"], more["api_version"]) == (
        "openclip",
        "ViT-B-32/laion2b_s34b_b79k",
        1,
    )
    assert function("tiny").model_id == "tiny"


def test_every_model_named_is_one_of_open_clips() -> None:
    import mismatch_openclip

    known = {f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()}
    assert set(mismatch_openclip.MODELS) - known == {"tiny"}


def test_tiny_is_the_same_every_time_and_leaves_random_numbers_alone(
    tiny: OpenClipBackbone,
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = load("tiny")
    assert torch.equal(torch.rand(3), expected)
    states = tiny.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not again.training


def test_tiny_says_what_it_is(tiny: OpenClipBackbone) -> None:
    assert (
        tiny.image_dim,
        tiny.text_dim,
        tiny.shared_space,
        tiny.zero_shot_threshold,
        tiny.logit_bias,
    ) == (128, 128, True, None, None)
    assert tiny.logit_scale == pytest.approx(14.2857, abs=1e-3)
    assert (tiny.image_spec.size, tiny.image_spec.crop_rounding, tiny.image_spec.interpolation) == (
        64,
        "round",
        "bicubic",
    )
    assert (
        tiny.text_spec.context_length,
        tiny.text_spec.pad_id,
        tiny.text_spec.padding,
        tiny.text_spec.cleaning,
    ) == (77, 0, "longest", "clip")


def test_ids_equal_upstream(tiny: OpenClipBackbone, tokenizer: Tokenizer, odd_text: str) -> None:
    expected = tiny.upstream_tokenizer([odd_text])[0].tolist()
    (ids,), (cut,) = tokenizer.encode([odd_text])
    assert ids + [0] * (77 - len(ids)) == expected
    assert (ids[0], ids[-1]) == (49406, 49407)
    assert cut == (len(open_clip.SimpleTokenizer().encode(odd_text)) > 75)


def test_ids_of_unicode_equal_upstream(tokenizer: Tokenizer) -> None:
    """Every 37th character of Unicode that this Python knows, in and between words."""
    upstream = open_clip.SimpleTokenizer()
    characters = [chr(point) for point in range(0x20000) if chr(point).isprintable()][::37]
    assert len(characters) > 2000
    texts = [f"a{c}b {c} '{c}1{c}!{c}" for c in characters]
    ids, _ = tokenizer.encode(texts)
    assert [
        text for text, row in zip(texts, ids, strict=True) if row[1:-1] != upstream.encode(text)
    ] == []


def test_a_shorter_text_has_the_same_embedding(
    tiny: OpenClipBackbone, tokenizer: Tokenizer, odd_text: str
) -> None:
    with torch.no_grad():
        expected = tiny.model.encode_text(tiny.upstream_tokenizer([odd_text]))
    assert (embed(tiny, tokenizer([odd_text])) - expected).abs().max() < 5e-6
    assert expected.abs().max() > 0.1


def test_padding_and_batch_change_nothing(
    tiny: OpenClipBackbone, tokenizer: Tokenizer, odd_texts: list[str]
) -> None:
    together = embed(tiny, tokenizer(odd_texts))
    alone = torch.cat([embed(tiny, tokenizer([text])) for text in odd_texts])
    assert (together - alone).abs().max() < 5e-6


CONFIGS = {
    "tiny": {"size": 64},
    "224": {"size": (224, 224)},
    "bilinear": {
        "size": 64,
        "interpolation": "bilinear",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
    },
    "squash": {"size": 64, "resize_mode": "squash"},
    "longest": {"size": 64, "resize_mode": "longest", "fill_color": 127},
}


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS.keys())
def test_pixels_equal_upstream(odd_image: Image.Image, options: dict[str, Any]) -> None:
    """Exactly; where a picture is very elongated only the part that is kept is resized, within one
    level.
    """
    config = PreprocessCfg(**options)
    spec, image = _image_spec(vars(config), "x"), open_image(odd_image)
    ours = Preprocessor(spec)(image)
    # upstream would resize one pixel to none, and fails
    if config.resize_mode == "longest" and max(image.size) > 100 * min(image.size):
        assert ours.shape == (3, 64, 64)
        return
    expected = image_transform_v2(config, is_train=False)(image).numpy()
    assert ours.shape == expected.shape == (3, spec.size, spec.size)
    assert ours.dtype == np.float32
    elongated = max(image.size) > 8 * min(image.size)
    assert levels(ours - expected, spec.std) < (1.001 if elongated else 1e-3)


@pytest.mark.parametrize(
    "size", [(64, 64), (65, 64), (66, 64), (67, 64), (64, 67), (64, 69), (71, 64)]
)
def test_crop_offsets_are_exact(tiny: OpenClipBackbone, size: tuple[int, int]) -> None:
    """Nothing is resized, so a wrong offset would show as a wrong column."""
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )
    assert (
        np.abs(Preprocessor(tiny.image_spec)(image) - tiny.upstream_transform(image).numpy()).max()
        < 1e-5
    )


def test_real_photos(tiny: OpenClipBackbone, fashion: Path) -> None:
    ours = Preprocessor(tiny.image_spec)
    for path in sorted((fashion / "images").glob("*.jpg"))[:20]:
        with Image.open(path) as image:
            assert (
                np.abs(ours(path) - tiny.upstream_transform(image.convert("RGB")).numpy()).max()
                < 1e-5
            )


def test_saved_loads_in_plain_open_clip(
    tiny: OpenClipBackbone, saved: Path, odd_texts: list[str]
) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    model, _, transform = open_clip.create_model_and_transforms(
        f"local-dir:{saved}", require_pretrained=True
    )
    model.eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{saved}")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8))
    with torch.no_grad():
        texts = embed(tiny, Tokenizer(tiny.text_spec)(odd_texts))
        assert (texts - model.encode_text(tokenize(odd_texts))).abs().max() < 5e-6
        pixels = tiny.encode_image(torch.from_numpy(Preprocessor(tiny.image_spec)(image)[None]))
        assert (pixels - model.encode_image(transform(image)[None])).abs().max() < 5e-6


def test_saved_loads_back(tiny: OpenClipBackbone, saved: Path) -> None:
    again = load(str(saved))
    assert again.image_spec == tiny.image_spec
    assert again.text_spec == tiny.text_spec
    assert again.zero_shot_threshold == 0.25  # a directory is taken to hold trained weights
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in tiny.state_dict().items()
    )


def test_preprocessing_is_the_models_own(
    tiny: OpenClipBackbone, saved: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved, tmp_path / "other")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= {
        "mean": [0.0, 0.1, 0.2],
        "std": [1.0, 0.9, 0.8],
        "interpolation": "bilinear",
        "resize_mode": "longest",
        "fill_color": 9,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    again = load(str(folder))
    again.save_pretrained(tmp_path / "again")
    for spec in (again.image_spec, load(str(tmp_path / "again")).image_spec):
        assert (spec.mean, spec.std, spec.interpolation, spec.mode, spec.fill) == (
            (0, 0.1, 0.2),
            (1, 0.9, 0.8),
            "bilinear",
            "longest",
            (9, 9, 9),
        )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_local_checkpoint(suffix: str, tmp_path: Path) -> None:
    untrained = load("RN50/untrained")
    path = tmp_path / f"epoch_3{suffix}"
    state = {name: tensor.contiguous() for name, tensor in untrained.model.state_dict().items()}
    if suffix == ".pt":
        torch.save(
            {
                "epoch": 3,
                "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
            },
            path,
        )
    else:
        from safetensors.torch import save_file

        save_file(
            {
                name: tensor + 0.5 if name == "logit_scale" else tensor
                for name, tensor in state.items()
            },
            path,
        )
    again = load(f"RN50/{path}")  # an absolute path: RN50//tmp/…
    assert (untrained.zero_shot_threshold, again.zero_shot_threshold) == (None, 0.25)
    assert torch.equal(again.model.token_embedding.weight, untrained.model.token_embedding.weight)
    assert again.logit_scale == pytest.approx(
        (untrained.logit_scale or 0) * (1 if suffix == ".pt" else np.exp(0.5))
    )


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": Evil(tmp_path / "mark")}, tmp_path / "evil.pt")
    with pytest.raises(BackboneError, match="can't be loaded"):
        load(f"RN50/{tmp_path}/evil.pt")
    assert not (tmp_path / "mark").exists()


def test_the_weights_of_another_architecture_are_one_line(saved: Path) -> None:
    with pytest.raises(BackboneError, match="can't be loaded") as caught:
        load(f"RN50/{saved}/open_clip_model.safetensors")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_untrained_is_seeded() -> None:
    first, second = load("RN50/untrained"), load("RN50/untrained")
    assert torch.equal(first.model.token_embedding.weight, second.model.token_embedding.weight)


def altered(**text: Any) -> dict[str, Any]:
    """A small model whose text tower differs."""
    return {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 64,
            "head_width": 32,
            "patch_size": 16,
        },
        "text_cfg": (
            {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2} | text
        ),
    }


def written(folder: Path, config: dict[str, Any]) -> Path:
    """A directory as open_clip saves it."""
    model = open_clip.CustomTextCLIP(
        **{key: value for key, value in config.items() if key != "custom_text"}
    )
    folder.mkdir()
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


@pytest.mark.parametrize(
    ("text", "padding"),
    [
        ({}, "longest"),
        ({"pool_type": "eos", "eos_id": 49407}, "longest"),
        ({"pool_type": "eos"}, "longest"),
        ({"proj_bias": True, "context_length": 40}, "longest"),
        ({"no_causal_mask": True}, "context"),
        ({"pool_type": "last"}, "context"),
        ({"pool_type": "first", "no_causal_mask": True}, "context"),
    ],
    ids=str,
)
def test_only_a_causal_tower_is_padded_to_the_longest(
    text: dict[str, Any], padding: str, tmp_path: Path, odd_texts: list[str]
) -> None:
    backbone = load(str(written(tmp_path / "model", altered(**text))))
    assert backbone.text_spec.padding == padding
    assert backbone.text_spec.context_length == text.get("context_length", 77)
    batch = Tokenizer(backbone.text_spec)(odd_texts[:5])
    assert (batch.input_ids.shape[1] == 77) == (padding == "context")
    with torch.no_grad():
        expected = backbone.model.encode_text(backbone.upstream_tokenizer(odd_texts[:5]))
    assert (embed(backbone, batch) - expected).abs().max() < 5e-6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            altered() | {"vision_cfg": {"timm_model_name": "naflexvit_base_patch16_siglip"}},
            "it is a NaFlex model, whose images have no fixed size",
        ),
        (
            altered(embed_cls=True) | {"custom_text": False},
            "class token, which open_clip only computes with custom_text",
        ),
        (altered(vocab_size=32000), "vocabulary is smaller than CLIP's, and it names no tokenizer"),
        (altered(pool_type="none"), "not pooled"),
        (altered(hf_model_name="roberta-base", hf_pooler_type="max_pooler"), "max_pooler"),
        (altered(scaled_cosine_attn=True), "scaled_cosine_attn"),
        (altered(tokenizer_kwargs={"reduction_mask": "random"}), "drops words at random"),
        (altered(tokenizer_kwargs={"additional_special_tokens": ["<x>"]}), "vocabulary of its own"),
        (altered(hf_tokenizer_name="bert-base-uncased"), "has no weights"),
        (altered() | {"vision_cfg": {"image_size": [32, 64]}}, "not square"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_be_wrong_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(BackboneError, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("model_id", "message"),
    [
        ("ViT-B-32", "names no weights; try ViT-B-32/openai, ViT-B-32/untrained"),
        ("ViT-B-32/opnai", "neither a tag of ViT-B-32 nor a checkpoint file; try ViT-B-32/openai"),
        ("ViT-B-32/nowhere/checkpoint.pt", "neither a tag of ViT-B-32 nor a checkpoint file"),
        ("ViT-B-33/openai", "did you mean ViT-B-32"),
        ("nothing-like-it", "lists them"),
    ],
)
def test_what_is_unknown_is_one_line(model_id: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message) as caught:
        load(model_id)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda folder: (folder / "open_clip_config.json").unlink(),
            "has no open_clip_config.json",
        ),
        (lambda folder: (folder / "open_clip_config.json").write_text("{"), "can't be read"),
        (lambda folder: (folder / "open_clip_config.json").write_text("{}"), "can't be read"),
        (lambda folder: (folder / "open_clip_model.safetensors").unlink(), "has no weights"),
        (
            lambda folder: (folder / "open_clip_model.safetensors").write_bytes(b"nonsense"),
            "can't be loaded",
        ),
    ],
    ids=["no-config", "bad-json", "no-model_cfg", "no-weights", "bad-weights"],
)
def test_a_broken_directory_is_one_line(
    saved: Path, tmp_path: Path, harm: Any, message: str
) -> None:
    folder = copy_of(saved, tmp_path / "broken")
    harm(folder)
    with pytest.raises(BackboneError, match=message) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vision_cfg", {"timm_model_name": "hf-hub:nobody/nothing"}, "outside of the directory"),
        ("vision_cfg", {"timm_model_name": "local-dir:/tmp"}, "outside of the directory"),
        ("text_cfg", {"hf_model_name": "nobody/nothing"}, "has no config.json for its text tower"),
    ],
)
def test_the_towers_of_a_directory_lie_in_it(
    saved: Path, tmp_path: Path, part: str, change: dict[str, str], message: str
) -> None:
    folder = copy_of(saved, tmp_path / "elsewhere")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][part] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=message):
        load(str(folder))


@pytest.mark.parametrize(
    "model_id",
    [
        "ViT-B-32/openai",
        "ViT-B-32/laion2b_s34b_b79k",
        "ViT-B-16-SigLIP2/webli",
        "roberta-ViT-B-32/untrained",
        "hf-hub:nobody/nothing-at-all",
    ],
)
def test_an_unreachable_hub_is_one_line(
    model_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(BackboneError, match="give a directory that open_clip saved") as caught:
        load(model_id)
    assert time.monotonic() - started < 5
    assert "'tiny'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_logging_alone(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.disabled, root.level
    load("RN50/untrained")  # open_clip warns that its weights are random
    assert (list(root.handlers), root.disabled, root.level) == before
    assert caplog.records == []
