"""The family hf-clip: as transformers computes, text by text and pixel by pixel."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mismatch.errors import BackboneError
from mismatch.runtime.preprocess import Preprocessor, open_image
from mismatch.runtime.tokenize import Tokenizer
from mismatch_hf_clip.backbone import HfClipBackbone, load
from mismatch_hf_clip.images import image_spec
from tests.support.plugins import Evil, copy_of, embed, levels


@pytest.fixture(scope="module")
def tiny() -> HfClipBackbone:
    return load("tiny")


@pytest.fixture(scope="module")
def tokenizer(tiny: HfClipBackbone) -> Tokenizer:
    return Tokenizer(tiny.text_spec)


@pytest.fixture(scope="module")
def saved(tiny: HfClipBackbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "model"
    tiny.save_pretrained(folder)
    return folder


def test_the_hook_imports_no_torch() -> None:
    code = (
        "import sys, mismatch_hf_clip; assert mismatch_hf_clip.register_backbones; print('torch' in"
        " sys.modules, 'transformers' in sys.modules)"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "False"]


def test_registers_its_family() -> None:
    import mismatch_hf_clip

    calls: list[tuple[Any, ...]] = []
    mismatch_hf_clip.register_backbones(lambda *args, **more: calls.append((args, more)))
    (((name, function), more),) = calls
    assert (name, more["default_model"], more["api_version"]) == (
        "hf-clip",
        "openai/clip-vit-base-patch32",
        1,
    )
    assert function("tiny").model_id == "tiny"
    assert "tiny" in more["models"]


def test_tiny_is_the_same_every_time_and_leaves_random_numbers_alone(tiny: HfClipBackbone) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = load("tiny")
    assert torch.equal(torch.rand(3), expected)
    states = tiny.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not again.training


def test_tiny_says_what_it_is(tiny: HfClipBackbone) -> None:
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
        "floor",
        "bicubic",
    )
    assert (tiny.text_spec.context_length, tiny.text_spec.pad_id, tiny.text_spec.padding) == (
        77,
        49407,
        "longest",
    )


def test_ids_equal_upstream(tiny: HfClipBackbone, tokenizer: Tokenizer, odd_text: str) -> None:
    expected = tiny.upstream_tokenizer([odd_text])[0].tolist()
    (ids,), (cut,) = tokenizer.encode([odd_text])
    assert ids + [49407] * (77 - len(ids)) == expected
    assert (ids[0], ids[-1]) == (49406, 49407)
    assert cut == (len(tiny.tokenizer(odd_text, verbose=False)["input_ids"]) > 77)


def test_mask_equals_upstream(
    tiny: HfClipBackbone, tokenizer: Tokenizer, odd_texts: list[str]
) -> None:
    expected = tiny.tokenizer(
        odd_texts, padding="longest", truncation=True, max_length=77, return_tensors="np"
    )
    batch = tokenizer(odd_texts)
    assert np.array_equal(batch.attention_mask, expected["attention_mask"])
    assert np.array_equal(batch.input_ids, expected["input_ids"])


def test_a_shorter_text_has_the_same_embedding(
    tiny: HfClipBackbone, tokenizer: Tokenizer, odd_text: str
) -> None:
    with torch.no_grad():
        upstream = tiny.tokenizer(
            [odd_text], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        )
        expected = tiny.model.get_text_features(**upstream).pooler_output
    assert (embed(tiny, tokenizer([odd_text])) - expected).abs().max() < 3e-6
    assert expected.abs().max() > 0.1


def test_padding_and_batch_change_nothing(
    tiny: HfClipBackbone, tokenizer: Tokenizer, odd_texts: list[str]
) -> None:
    together = embed(tiny, tokenizer(odd_texts))
    alone = torch.cat([embed(tiny, tokenizer([text])) for text in odd_texts])
    assert (together - alone).abs().max() < 3e-6


PROCESSORS = {
    "tiny": {"size": {"shortest_edge": 64}, "crop_size": 64},
    "224": {"size": {"shortest_edge": 224}, "crop_size": 224},
    "wider": {
        "size": {"shortest_edge": 73},
        "crop_size": 64,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
    },
    "bilinear": {"size": {"shortest_edge": 64}, "crop_size": 64, "resample": 2},
    "squash": {"size": {"height": 64, "width": 64}, "do_center_crop": False},
    "squash-and-crop": {"size": {"height": 75, "width": 75}, "crop_size": 64},
    "rescaled": {
        "size": {"shortest_edge": 64},
        "crop_size": 64,
        "rescale_factor": 1 / 127.5,
        "image_mean": [1.0, 1.0, 1.0],
        "image_std": [0.5, 1.0, 2.0],
    },
}


@pytest.mark.parametrize("options", PROCESSORS.values(), ids=PROCESSORS.keys())
def test_pixels_equal_upstream(odd_image: Image.Image, options: dict[str, Any]) -> None:
    """Within one level; torch's 8-bit weights make that two in one noisy pixel of 100,000 where a
    picture is enlarged.
    """
    processor = transformers.CLIPImageProcessor(**options)
    spec = image_spec(processor, "x")
    image = open_image(odd_image)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    ours = Preprocessor(spec)(image)
    assert ours.shape == expected.shape == (3, spec.size, spec.size)
    assert ours.dtype == np.float32
    enlarged = min(image.size) < spec.size
    assert levels(ours - expected, spec.std) < (2.001 if enlarged else 1.001)
    assert (np.abs(ours - expected) > 1.001 / 255 / min(spec.std)).mean() < 1e-4


def rows_first(
    image: Image.Image,
    size: tuple[int, int],
    resample: int | None = None,
    box: Any = None,
    reducing_gap: float | None = None,
) -> Image.Image:
    """Pillow's resize in the order that every Pillow before 13 took."""
    assert box is None
    return RESIZE(
        RESIZE(image, (size[0], image.height), resample, None, reducing_gap),
        size,
        resample,
        None,
        reducing_gap,
    )


RESIZE = Image.Image.resize


@pytest.mark.parametrize("options", PROCESSORS.values(), ids=PROCESSORS.keys())
def test_pixels_equal_upstreams_pillow_backend(
    odd_image: Image.Image, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit of rounding, where Pillow resizes in the order of transformers' torchvision
    backend.
    """
    processor = CLIPImageProcessorPil(**options)
    spec = image_spec(processor, "x")
    image = open_image(odd_image)
    ours = Preprocessor(spec)(image)
    monkeypatch.setattr(Image.Image, "resize", rows_first)
    expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    # only the part that is kept is resized, within one level
    elongated = max(image.size) > 8 * min(image.size)
    assert levels(ours - expected, spec.std) < (1.001 if elongated else 1e-3)


@pytest.mark.parametrize(
    "size", [(64, 64), (65, 64), (66, 64), (67, 64), (64, 67), (64, 69), (71, 64)]
)
@pytest.mark.parametrize("kind", [CLIPImageProcessorPil, transformers.CLIPImageProcessor])
def test_crop_offsets_are_exact(size: tuple[int, int], kind: Any) -> None:
    """Nothing is resized, so a wrong offset would show as a wrong column."""
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    )
    processor = kind(size={"shortest_edge": 64}, crop_size=64)
    ours = Preprocessor(image_spec(processor, "x"))(image)
    assert np.abs(ours - processor(image, return_tensors="np")["pixel_values"][0]).max() < 1e-5


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.21"),
    reason="older versions of transformers drop alpha",
)
def test_alpha_is_composited_as_upstream_does(tiny: HfClipBackbone) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8))
    assert (
        np.abs(Preprocessor(tiny.image_spec)(image) - tiny.upstream_transform(image).numpy()).max()
        < 1e-5
    )


def test_real_photos(tiny: HfClipBackbone, fashion: Path) -> None:
    ours = Preprocessor(tiny.image_spec)
    for path in sorted((fashion / "images").glob("*.jpg"))[:20]:
        with Image.open(path) as image:
            assert (
                levels(
                    ours(path) - tiny.upstream_transform(image.convert("RGB")).numpy(),
                    tiny.image_spec.std,
                )
                < 1.001
            )


def test_saved_loads_in_plain_transformers(
    tiny: HfClipBackbone, saved: Path, odd_texts: list[str]
) -> None:
    names = {path.name for path in saved.iterdir()}
    assert {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "tokenizer.json",
    } <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    model, processor = (
        transformers.CLIPModel.from_pretrained(saved).eval(),
        transformers.CLIPProcessor.from_pretrained(saved),
    )
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8))
    inputs = processor(
        text=odd_texts,
        images=image,
        padding=True,
        truncation=True,
        max_length=77,
        return_tensors="pt",
    )
    with torch.no_grad():
        upstream = model(**inputs)
        texts = embed(tiny, Tokenizer(tiny.text_spec)(odd_texts))
        pixels = tiny.encode_image(torch.from_numpy(Preprocessor(tiny.image_spec)(image)[None]))
    assert (torch.nn.functional.normalize(texts) - upstream.text_embeds).abs().max() < 1e-6
    # one level of resizing
    assert (torch.nn.functional.normalize(pixels) - upstream.image_embeds).abs().max() < 1e-2
    ids = transformers.AutoTokenizer.from_pretrained(saved)(
        odd_texts, truncation=True, max_length=77
    )["input_ids"]
    assert ids == Tokenizer(tiny.text_spec).encode(odd_texts)[0]
    assert transformers.CLIPImageProcessor.from_pretrained(saved).crop_size["height"] == 64


def test_saved_loads_back(tiny: HfClipBackbone, saved: Path) -> None:
    again = load(str(saved))
    assert again.image_spec == tiny.image_spec
    assert again.text_spec == tiny.text_spec
    assert again.zero_shot_threshold == 0.25  # a directory is taken to hold trained weights
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in tiny.state_dict().items()
    )


def test_old_directories_with_bin_weights_are_read(
    tiny: HfClipBackbone, saved: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved, tmp_path / "old")
    (folder / "model.safetensors").unlink()
    torch.save(tiny.model.state_dict(), folder / "pytorch_model.bin")
    again = load(str(folder))
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in tiny.state_dict().items()
    )


def test_nothing_is_unpickled(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "evil")
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Evil(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="the weights can't be read"):
        load(str(folder))
    assert not (tmp_path / "mark").exists()


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_text(folder: Path, **values: Any) -> None:
    change(
        folder / "config.json",
        text_config=json.loads((folder / "config.json").read_text())["text_config"] | values,
    )


def shrink_vocabulary(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"] |= {
        "vocab": {token: i for token, i in data["model"]["vocab"].items() if i < 512},
        "merges": [],
    }
    (folder / "tokenizer.json").write_text(json.dumps(data))


def test_an_old_configuration_reads_the_highest_id_as_the_end(
    tiny: HfClipBackbone, saved: Path, tmp_path: Path
) -> None:
    folder = copy_of(saved, tmp_path / "old-end")
    change_text(folder, eos_token_id=2)
    assert load(str(folder)).text_spec == tiny.text_spec


def test_half_of_a_vocabulary_is_as_good_as_none(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "half")
    for name in ("tokenizer.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    assert Tokenizer(load(str(folder)).text_spec).encode(["red"])[0] == [[49406, 736, 49407]]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json can't be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "the weights can't be read"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"nonsense"),
            "the weights can't be read",
        ),
        (
            lambda folder: (folder / "preprocessor_config.json").unlink(),
            "preprocessor_config.json can't be read",
        ),
        (
            lambda folder: change(folder / "config.json", model_type="siglip"),
            "the weights can't be read from it .its tensors have other shapes",
        ),
        (lambda folder: change(folder / "config.json", model_type="bert"), "holds a 'bert' model"),
        (
            lambda folder: change(folder / "preprocessor_config.json", do_resize=False),
            "do_resize=false",
        ),
        (lambda folder: change(folder / "preprocessor_config.json", resample=4), "resample=4"),
        (
            lambda folder: change(folder / "preprocessor_config.json", rescale_factor=1.0),
            r"rescale_factor=1\.0",
        ),
        (
            lambda folder: change(
                folder / "tokenizer_config.json", extra_special_tokens=["<|new|>"]
            ),
            "tokenizer of 49,409 tokens",
        ),
        (
            lambda folder: change_text(folder, eos_token_id=7),
            "end token 49407, but its text tower reads 7",
        ),
        (shrink_vocabulary, "a tokenizer of [0-9]+ tokens, but its text tower knows 49,408"),
        (
            lambda folder: change(folder / "preprocessor_config.json", do_center_crop=False),
            "crops to nothing",
        ),
        (
            lambda folder: change(
                folder / "preprocessor_config.json", crop_size={"height": 32, "width": 32}
            ),
            "its image tower takes 64",
        ),
        (
            lambda folder: change(
                folder / "preprocessor_config.json", crop_size={"height": 99, "width": 99}
            ),
            "only a square",
        ),
        (
            lambda folder: change(folder / "preprocessor_config.json", rescale_factor=0),
            "rescale_factor=0|preprocessor_config.json of .* can't be used",
        ),
        (
            lambda folder: change(folder / "tokenizer_config.json", padding_side="left"),
            "pads on the left, .*; set padding_side to right",
        ),
        (
            lambda folder: change(folder / "tokenizer_config.json", truncation_side="left"),
            "truncates on the left, .*; set truncation_side to right",
        ),
    ],
    ids=[
        "no-config",
        "no-weights",
        "bad-weights",
        "no-preprocessor",
        "siglip",
        "bert",
        "no-resize",
        "box",
        "no-rescale",
        "more-tokens",
        "other-end",
        "few-tokens",
        "no-crop",
        "small-crop",
        "large-crop",
        "rescale-0",
        "pads-left",
        "truncates-left",
    ],
)
def test_a_broken_directory_is_one_line(
    saved: Path, tmp_path: Path, harm: Any, message: str
) -> None:
    folder = copy_of(saved, tmp_path / "broken")
    harm(folder)
    with pytest.raises(BackboneError, match=message) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("preprocessor_config.json", {"size": {"shortest_edge": "64"}}),
        ("preprocessor_config.json", {"resample": "bicubic"}),
        ("preprocessor_config.json", {"image_mean": None}),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5]}),
        ("preprocessor_config.json", {"rescale_factor": None}),
        ("preprocessor_config.json", {"rescale_factor": "1/255"}),
        ("tokenizer_config.json", {"model_max_length": "77"}),
        ("tokenizer_config.json", {"pad_token": None}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value),
)
def test_values_of_another_type_are_one_line(
    saved: Path, tmp_path: Path, file: str, values: dict[str, Any]
) -> None:
    folder = copy_of(saved, tmp_path / "broken")
    change(folder / file, **values)
    with pytest.raises(BackboneError) as caught:
        load(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert len(message) < 400 + len(str(folder))
    assert file.split("_")[0].removesuffix("or") in message  # preprocess…, tokenizer


def test_a_processor_without_a_size_is_one_line(tiny: HfClipBackbone) -> None:
    processor = copy.deepcopy(tiny.image_processor)
    processor.size = None
    with pytest.raises(
        BackboneError, match=r"preprocessor_config\.json of 'mine' can't be used \(TypeError: "
    ):
        HfClipBackbone(tiny.model, processor, tiny.tokenizer, "mine")


def test_a_quoted_error_is_cut(tiny: HfClipBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise KeyError("x" * 5000)

    monkeypatch.setattr("mismatch_hf_clip.backbone.text_spec", fails)
    with pytest.raises(
        BackboneError,
        match=r"the tokenizer or the text tower of 'mine' can't be used \(KeyError: 'x{199}…\)",
    ):
        HfClipBackbone(tiny.model, tiny.image_processor, tiny.tokenizer, "mine")


class Absent:
    """A class of transformers whose package is missing: it raises when it is touched."""

    def __getattr__(self, name: str) -> Any:
        raise ImportError("Absent requires the timm library")


def test_a_class_whose_package_is_missing_is_one_line(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mismatch_hf_clip.backbone.transformers.MODEL_MAPPING", {transformers.CLIPConfig: Absent()}
    )
    with pytest.raises(
        BackboneError,
        match=(
            r"holds a 'clip' model, which needs another package \(Absent requires the timm"
            r" library\); install it"
        ),
    ):
        load(str(saved))


def test_loading_embeds_few_tokens(
    tiny: HfClipBackbone, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real text tower's time grows with them: 77 for the context, thrice the texts and a few more
    of padding for all else.
    """
    shapes: list[tuple[int, ...]] = []
    forward = transformers.CLIPModel.get_text_features

    def counted(self: Any, input_ids: torch.Tensor, **more: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids, **more)

    counted.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(transformers.CLIPModel, "get_text_features", counted)
    load(str(saved))
    assert shapes[0] == (1, 77)
    assert len(shapes) == 5
    assert sum(rows * tokens for rows, tokens in shapes) < 170


def test_rounding_of_large_activations_settles_the_same(
    tiny: HfClipBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative error of 5e-5, as fp32 leaves where large activations cancel, is no sign that
    padding matters; one of 5e-3 is.
    """
    forward = transformers.CLIPModel.get_text_features

    def found(error: float) -> str:
        def noisy(
            self: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
        ) -> Any:
            vectors = forward(self, input_ids, attention_mask=attention_mask).pooler_output
            return vectors * (1 + error * (input_ids.shape[1] % 2))

        monkeypatch.setattr(transformers.CLIPModel, "get_text_features", noisy)
        return HfClipBackbone(
            tiny.model, tiny.image_processor, tiny.tokenizer, "x"
        ).text_spec.padding

    assert [found(5e-5), found(5e-3)] == ["longest", "context"]


def test_missing_tensors_are_refused(tiny: HfClipBackbone, saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = copy_of(saved, tmp_path / "part")
    save_file(
        {k: v for k, v in tiny.model.state_dict().items() if "text_projection" not in k},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(BackboneError, match="lack 1 tensors"):
        load(str(folder))


@pytest.mark.parametrize(
    "model_id", ["openai/clip-vit-base-patch32", "no such thing", "nobody/nothing-at-all"]
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
    with pytest.raises(BackboneError, match="local directory") as caught:
        load(model_id)
    assert time.monotonic() - started < 5
    assert "'tiny'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_address_that_answers_nothing_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # the discard port: connection refused
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
        raising=False,
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(BackboneError, match="'tiny', which needs no network"):
        load("openai/clip-vit-base-patch32")
    assert time.monotonic() - started < 5  # transformers alone: 23 seconds
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_the_log_levels_alone() -> None:
    import huggingface_hub

    before = (
        transformers.logging.get_verbosity(),
        huggingface_hub.logging.get_verbosity(),
        transformers.logging.is_progress_bar_enabled(),
    )
    load("tiny")
    assert before == (
        transformers.logging.get_verbosity(),
        huggingface_hub.logging.get_verbosity(),
        transformers.logging.is_progress_bar_enabled(),
    )
    assert logging.getLogger().disabled is False


def test_a_directory_without_a_tokenizer_gets_clips_where_the_vocabulary_is_clips(
    tmp_path: Path,
) -> None:
    """The layout of older pipelines: config.json, preprocessor_config.json, weights, and no
    tokenizer.
    """
    tiny = load("tiny")
    tiny.model.config.save_pretrained(tmp_path)
    tiny.image_processor.save_pretrained(tmp_path)
    torch.save(tiny.model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "classification_head.pt").write_bytes(b"of that pipeline")
    names = [
        "classification_head.pt",
        "config.json",
        "preprocessor_config.json",
        "pytorch_model.bin",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    again = load(str(tmp_path))
    assert again.text_spec == tiny.text_spec
    assert Tokenizer(again.text_spec).encode(["a red shirt"])[0] == [[49406, 320, 736, 2523, 49407]]
    assert all(
        torch.equal(tensor, again.state_dict()[name]) for name, tensor in tiny.state_dict().items()
    )


def test_a_directory_without_a_tokenizer_and_with_another_vocabulary_is_refused(
    tmp_path: Path,
) -> None:
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 100,
            "eos_token_id": 99,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
        },
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=r"has no tokenizer\.json"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["./nope", "/nope/at/all", "~/nope"])
def test_a_path_is_never_asked_of_the_hub(name: str) -> None:
    with pytest.raises(BackboneError, match=f"there is no directory '{name}'"):
        load(name)
