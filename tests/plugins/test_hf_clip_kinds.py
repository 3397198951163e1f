"""hf-clip's kinds: every two-tower model of transformers, small and random, with tokenizers built
here, against transformers' own path.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from transformers.models.owlv2.image_processing_owlv2 import Owlv2ImageProcessor
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer
from transformers.models.tipsv2.tokenization_tipsv2 import Tipsv2Tokenizer

from mismatch.errors import BackboneError
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.testing import samples
from mismatch.testing.contract import BackboneContract
from mismatch_hf_clip import spiece
from mismatch_hf_clip.backbone import HfClipBackbone, load
from mismatch_hf_clip.images import image_spec
from mismatch_hf_clip.texts import text_spec
from tests.support.paths import WHOLE

LETTERS = string.ascii_lowercase + string.digits + "红色皮"
WORDS = ("red", "shirt", "hand", "dog", "blue", "two")
GEMMA_NORMALIZER = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PUNCTUATION = r"[!-/:-@\[-`{-~]"
SIDE = 32  # pixels, of most kinds' images
TEXTS = list(samples.TEXTS)


# ---- tokenizers, one of each sort


def wordpiece() -> Any:
    """BERT's."""
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *LETTERS,
        *("##" + letter for letter in LETTERS),
        *WORDS,
    ]
    return hf.BertTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, model_max_length=512
    )


def clip_bpe(**options: Any) -> Any:
    """CLIP's, with four merges."""
    letters, merges = (
        sorted(pre_tokenizers.ByteLevel.alphabet()),
        [("r", "e"), ("re", "d</w>"), ("d", "o"), ("do", "g</w>")],
    )
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *map("".join, merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return hf.CLIPTokenizer(
        {token: number for number, token in enumerate(tokens)},
        merges,
        model_max_length=77,
        **options,
    )


def pieces(*specials: str) -> list[tuple[str, float]]:
    return [
        *((token, 0.0) for token in specials),
        ("▁", -2.0),
        *((letter, -4.0) for letter in LETTERS),
        *(("▁" + word, -5.0) for word in WORDS),
    ]


def xlm_roberta() -> Any:
    """Unigram; padding is 1."""
    return hf.XLMRobertaTokenizer(
        vocab=[*pieces("<s>", "<pad>", "</s>", "<unk>"), ("<mask>", 0.0)], model_max_length=512
    )


def siglip_unigram(**options: Any) -> Any:
    """SigLIP's tokenizer.json: lower case, no punctuation, an end and no start."""
    fast = FastTokenizer(models.Unigram(pieces("<pad>", "</s>", "<unk>"), unk_id=2))
    replacements = [
        normalizers.Replace(Regex(PUNCTUATION), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
    ]
    fast.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), *replacements, normalizers.Strip()]
    )
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    own = {
        "pad_token": "</s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 64,
        "model_input_names": ["input_ids"],
    }
    return hf.PreTrainedTokenizerFast(tokenizer_object=fast, **own | options)


def byte_fallback(*specials: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    merges = [("r", "e"), ("re", "d"), ("▁", "red")]
    tokens = [
        *specials,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *string.ascii_lowercase,
        *map("".join, merges),
    ]
    return {token: number for number, token in enumerate(tokens)}, merges


def gemma() -> Any:
    """SigLIP 2's: BPE with bytes for what it doesn't know."""
    vocab, merges = byte_fallback("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    own = {
        "padding_side": "right",
        "model_max_length": 64,
        "model_input_names": ["input_ids"],
        "add_eos_token": True,
        "add_bos_token": False,
    }
    return Siglip2Tokenizer(vocab=vocab, merges=merges, **own)


def as_on_the_hub(folder: Path) -> None:
    """SigLIP 2's repositories name Gemma's tokenizer, whose tokenizer.json keeps capitals."""
    for name, values in (
        ("tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer"}),
        ("tokenizer.json", {"normalizer": GEMMA_NORMALIZER}),
    ):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))


def tips() -> Any:
    vocab, merges = byte_fallback("<pad>", "<unk>")
    return Tipsv2Tokenizer(vocab=vocab, merges=merges)


# ---- image processors


def cropped() -> Any:
    return hf.CLIPImageProcessor(size={"shortest_edge": SIDE + 5}, crop_size=SIDE)


def squashed(kind: Any, **options: Any) -> Callable[[], Any]:
    return lambda: kind(size={"height": SIDE, "width": SIDE}, **options)


def efficientnet() -> Any:
    """ALIGN's: squashed to 59, cropped to 50, levels 0..255 to -1..1."""
    own = {
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": False,
        "include_top": False,
        "resample": 2,
        "do_center_crop": True,
    }
    return hf.EfficientNetImageProcessor(
        size={"height": 59, "width": 59}, crop_size={"height": 50, "width": 50}, **own
    )


# ---- models

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
# of one layer, the end token sees the same with a causal mask and without
TEXT = SHAPE | {"num_hidden_layers": 2}
VISION = SHAPE | {"image_size": SIDE, "patch_size": 16}
EFFICIENTNET: dict[str, Any] = {
    "image_size": 64,
    "hidden_dim": 24,
    "kernel_sizes": [3, 3],
    "in_channels": [32, 16],
    "out_channels": [16, 24],
    "strides": [1, 2],
    "num_block_repeats": [1, 1],
    "expand_ratios": [1, 4],
    "depthwise_padding": [],
    "depth_coefficient": 0.2,
    "width_coefficient": 1.0,
    "initializer_range": 0.3,
}


@dataclass(frozen=True)
class Kind:
    """How to make one, and what is to be found out about it."""

    model: type[Any]
    tokenizer: Callable[[], Any]
    processor: Callable[[], Any]
    mask: bool  # passed to the text tower
    padding: str
    length: int  # tokens
    config: dict[str, Any]  # besides the usual one
    threshold: float | None = None  # cosine
    then: Callable[[Path], Any] = lambda folder: None  # what makes the directory as the hub has it

    def save(self, folder: Path) -> Path:
        """As transformers saves it."""
        tokenizer = self.tokenizer()
        ends = {
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        usual = {
            "text_config": (
                TEXT | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
            ),
            "vision_config": VISION,
            "projection_dim": 24,
        }
        config = usual | {name: usual.get(name, {}) | value for name, value in self.config.items()}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = self.model(self.model.config_class(**config))
        for part in (model, self.processor(), tokenizer):
            part.save_pretrained(folder)
        self.then(folder)
        return folder


SHORT = {"text_config": {"max_position_embeddings": 16}}
KINDS = {
    "clip": Kind(hf.CLIPModel, clip_bpe, cropped, False, "longest", 32, {}, threshold=0.25),
    "siglip": Kind(
        hf.SiglipModel,
        siglip_unigram,
        squashed(hf.SiglipImageProcessor),
        False,
        "context",
        16,
        SHORT,
        threshold=0.0,
    ),
    "siglip2": Kind(
        hf.SiglipModel,
        gemma,
        squashed(hf.SiglipImageProcessor),
        False,
        "context",
        16,
        SHORT,
        threshold=0.0,
        then=as_on_the_hub,
    ),
    "chinese-clip": Kind(
        hf.ChineseCLIPModel,
        wordpiece,
        squashed(hf.ChineseCLIPImageProcessor, do_center_crop=False),
        True,
        "longest",
        32,
        {"text_config": {"pad_token_id": 0}},
    ),
    "align": Kind(
        hf.AlignModel, wordpiece, efficientnet, True, "longest", 32, {"vision_config": EFFICIENTNET}
    ),
    "altclip": Kind(
        hf.AltCLIPModel,
        xlm_roberta,
        cropped,
        True,
        "longest",
        30,
        {"text_config": {"project_dim": 16}},
    ),
    "metaclip-2": Kind(hf.MetaClip2Model, xlm_roberta, cropped, False, "longest", 32, {}),
    "dual-encoder-bert": Kind(
        hf.VisionTextDualEncoderModel,
        wordpiece,
        squashed(hf.ViTImageProcessor),
        True,
        "longest",
        32,
        {"text_config": {"model_type": "bert"}, "vision_config": {"model_type": "vit"}},
    ),
    "dual-encoder-roberta": Kind(
        hf.VisionTextDualEncoderModel,
        xlm_roberta,
        cropped,
        True,
        "longest",
        30,
        {
            "text_config": {"model_type": "xlm-roberta"},
            "vision_config": {"model_type": "clip_vision_model"},
        },
    ),
    "blip": Kind(
        hf.BlipModel,
        wordpiece,
        squashed(hf.BlipImageProcessor),
        True,
        "longest",
        32,
        {"vision_config": {"initializer_range": 0.2}, "text_config": {}},
    ),
    "clipseg": Kind(
        hf.CLIPSegModel,
        clip_bpe,
        lambda: hf.ViTImageProcessor(
            size={"height": 64, "width": 64}, image_std=[0.229, 0.224, 0.225]
        ),
        False,
        "longest",
        32,
        {},
    ),
    "groupvit": Kind(
        hf.GroupViTModel,
        clip_bpe,
        cropped,
        False,
        "longest",
        32,
        {
            "vision_config": {
                "depths": [1, 1],
                "num_group_tokens": [4, 2],
                "num_output_groups": [4, 2],
            }
        },
    ),
    "owlvit": Kind(
        hf.OwlViTModel,
        lambda: clip_bpe(pad_token="!"),
        squashed(hf.OwlViTImageProcessor),
        False,
        "longest",
        16,
        SHORT,
    ),
    "owlv2": Kind(
        hf.Owlv2Model,
        lambda: clip_bpe(pad_token="!"),
        squashed(hf.OwlViTImageProcessor),
        False,
        "longest",
        16,
        SHORT,
    ),
    "flava": Kind(
        hf.FlavaModel,
        wordpiece,
        squashed(hf.FlavaImageProcessor, crop_size={"height": SIDE, "width": SIDE}),
        True,
        "longest",
        32,
        {"image_config": VISION, "multimodal_config": SHAPE},
    ),
    "aimv2": Kind(hf.Aimv2Model, clip_bpe, cropped, True, "longest", 32, {}),
    "tipsv2": Kind(
        hf.Tipsv2Model, tips, squashed(hf.Tipsv2ImageProcessor), True, "longest", 32, {}
    ),
}
QUICK = ("siglip", "align", "aimv2")  # the others' contract is kept by pytest -m slow
# Exporting takes ten times as long as all other checks: with the quick ones these have each sort of
# tower once; a whole run exports all kinds.
EXPORTED = (*KINDS,) if WHOLE else (*QUICK, "blip", "tipsv2")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A directory as transformers saved it, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = KINDS[name].save(tmp_path_factory.mktemp(name))
        return made[name]

    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backbone_of(folder_of: Callable[[str], Path]) -> Callable[[str], HfClipBackbone]:
    return lambda name: load(str(folder_of(name)))


class TestKinds(BackboneContract):
    """The contract, export included, of each kind."""

    load = staticmethod(load)

    @pytest.fixture(
        scope="class",
        params=[
            pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in KINDS
        ],
    )
    @classmethod
    def backbone(
        cls, request: pytest.FixtureRequest, folder_of: Callable[[str], Path]
    ) -> HfClipBackbone:
        return load(str(folder_of(request.param)))

    @pytest.fixture(autouse=True)
    def one_of_each_sort(self, request: pytest.FixtureRequest) -> None:
        """Leave the other kinds' export to a whole run."""
        is_export = request.node.originalname == "test_onnx_export"
        if is_export and request.node.callspec.params["backbone"] not in EXPORTED:
            pytest.skip("WHOLE=1 exports this kind")


def test_what_is_found_out(kind: str, backbone_of: Callable[[str], HfClipBackbone]) -> None:
    """Mask, padding and context by trying; RoBERTa's positions keep two for padding."""
    backbone, expected = backbone_of(kind), KINDS[kind]
    spec = backbone.text_spec
    assert (backbone._mask, spec.padding, spec.context_length) == (
        expected.mask,
        expected.padding,
        expected.length,
    )
    assert (backbone.zero_shot_threshold, backbone.shared_space) == (expected.threshold, True)
    assert (
        backbone.image_dim
        == backbone.text_dim
        == (32 if kind in ("siglip", "siglip2", "tipsv2") else 24)
    )
    assert not backbone.training


def test_pixels_ids_and_embeddings_equal_upstreams(
    kind: str, backbone_of: Callable[[str], HfClipBackbone]
) -> None:
    backbone = backbone_of(kind)
    contract = BackboneContract()
    contract.test_transform_is_upstreams(backbone)
    contract.test_tokenizer_is_upstreams(backbone)
    contract.test_embeddings_are_upstreams(backbone)


def test_saved_loads_in_plain_transformers(
    kind: str, backbone_of: Callable[[str], HfClipBackbone], tmp_path: Path
) -> None:
    backbone = backbone_of(kind)
    backbone.save_pretrained(tmp_path)
    model = hf.AutoModel.from_pretrained(tmp_path).eval()
    assert type(model) is KINDS[kind].model
    assert all(
        torch.equal(value, backbone.model.state_dict()[name])
        for name, value in model.state_dict().items()
    )
    image = samples.images()[1]
    pixels = hf.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")[
        "pixel_values"
    ][0]
    assert torch.equal(pixels, backbone.upstream_transform(image))
    length = backbone.text_spec.context_length
    ids = hf.AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )["input_ids"]
    assert torch.equal(ids, backbone.upstream_tokenizer(TEXTS))


def test_a_cosine_becomes_upstreams_logit(
    kind: str, backbone_of: Callable[[str], HfClipBackbone]
) -> None:
    """With logit_scale and logit_bias: exp of a parameter, or one over a temperature, or a
    sigmoid's.
    """
    if kind == "flava":
        pytest.skip("FlavaModel gives no logits; only its pre-training head does")
    backbone = backbone_of(kind)
    pictures = samples.square_images(backbone.image_spec.size)
    with torch.inference_mode():
        ours = [
            torch.nn.functional.normalize(value)
            for value in (
                backbone.upstream_encode_image(pictures),
                backbone.upstream_encode_text(TEXTS),
            )
        ]
        inputs = backbone.tokenizer(
            TEXTS,
            padding="max_length",
            truncation=True,
            max_length=backbone.text_spec.context_length,
            return_tensors="pt",
        )
        if kind == "blip":
            inputs.pop("token_type_ids", None)
        # (N, N)
        theirs = backbone.model(
            pixel_values=backbone.image_processor(pictures, return_tensors="pt")["pixel_values"],
            **inputs,
        ).logits_per_image
    assert backbone.logit_scale is not None
    expected = ours[0] @ ours[1].T * backbone.logit_scale + (backbone.logit_bias or 0.0)
    assert (theirs - expected).abs().max() < 1e-4 * backbone.logit_scale
    assert expected.std() > 1e-4


@pytest.mark.parametrize("side", [None, "right"])
def test_siglip2_reads_lower_case_though_it_names_gemmas_tokenizer(
    folder_of: Callable[[str], Path], tmp_path: Path, side: str | None
) -> None:
    """As it was trained; padded on the right even where only Gemma's class, which says left, tells
    the side.
    """
    settings = json.loads(
        (copy_of(folder_of("siglip2"), tmp_path) / "tokenizer_config.json").read_text()
    )
    assert (settings.pop("padding_side"), settings["tokenizer_class"]) == (
        "right",
        "GemmaTokenizer",
    )
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(settings | ({"padding_side": side} if side else {}))
    )
    backbone = load(str(tmp_path))
    small, capital = backbone.upstream_tokenizer(["red Shoe", "RED shOE"]).tolist()
    assert small == capital == Tokenizer(backbone.text_spec)(["Red Shoe"]).input_ids[0].tolist()
    assert small[-1] == backbone.text_spec.pad_id == 0
    assert small != backbone.upstream_tokenizer(["red shop"])[0].tolist()


def test_siglips_threshold_is_where_its_sigmoid_says_half(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    model = hf.AutoModel.from_pretrained(folder_of("siglip"))
    model.logit_scale.data.fill_(np.log(117.3))
    model.logit_bias.data.fill_(-12.9)
    copy_of(folder_of("siglip"), tmp_path)
    model.save_pretrained(tmp_path)
    backbone = load(str(tmp_path))
    assert backbone.logit_scale == pytest.approx(117.3, rel=1e-5)
    assert backbone.logit_bias == pytest.approx(-12.9)
    assert backbone.zero_shot_threshold == pytest.approx(12.9 / 117.3, rel=1e-5)


def test_aligns_pixels_lie_between_minus_one_and_one(
    backbone_of: Callable[[str], HfClipBackbone],
) -> None:
    """Squashed to 59, cropped to 50, and its rescaling told as a mean and a std."""
    spec = backbone_of("align").image_spec
    assert (spec.mode, spec.resize, spec.size, spec.interpolation) == ("squash", 59, 50, "bilinear")
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_aimv2s_text_tower_attends_eagerly_and_its_image_tower_does_not(
    backbone_of: Callable[[str], HfClipBackbone],
) -> None:
    config = backbone_of("aimv2").model.config
    assert (config.text_config._attn_implementation, config.vision_config._attn_implementation) == (
        "eager",
        "sdpa",
    )
    assert backbone_of("siglip").model.config.text_config._attn_implementation == "sdpa"


def test_declared_statistics_are_kept_to_the_last_digit() -> None:
    processor = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    assert image_spec(processor, "x").mean == tuple(processor.image_mean)


@pytest.mark.parametrize(
    "options",
    [
        {"do_normalize": False},
        {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]},
        {"include_top": True},
    ],
)
def test_statistics_are_measured(options: dict[str, Any]) -> None:
    processor = hf.EfficientNetImageProcessor(
        size={"height": 40, "width": 40}, rescale_offset=True, **options
    )
    image, spec = samples.images()[0], image_spec(processor, "x")
    gap = np.abs(
        Preprocessor(spec)(image)
        - np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    )
    assert gap.max() * 255 * max(spec.std) < 2.001


# ---- what is refused


def copy_of(source: Path, target: Path) -> Path:
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def refused(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        load(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (hf.Siglip2Config(), "holds a 'siglip2' model, a NaFlex model, which takes patches"),
        (hf.BertConfig(), "holds a 'bert' model, which has no image tower and text tower"),
        (hf.Blip2Config(), "holds a 'blip-2' model, a language model that looks at images"),
        (hf.ViTConfig(), "holds a 'vit' model, which has no image tower and text tower"),
        (hf.ClapConfig(), "holds a 'clap' model, which has no image tower and text tower"),
        (hf.XCLIPConfig(), "holds a 'xclip' model, which has no image tower and text tower"),
        (hf.LlavaConfig(), "holds a 'llava' model, which has no image tower and text tower"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_what_has_no_two_towers_is_refused_before_its_weights_are_read(
    config: Any, message: str, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    assert message in refused(tmp_path)


def test_owlv2s_own_preprocessing_is_refused_by_name(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """It pads to a square below and to the right, and blurs before it shrinks."""
    copy_of(folder_of("owlv2"), tmp_path)
    Owlv2ImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    assert (
        "has a Owlv2ImageProcessor that no ImageSpec describes: pixels differ by up to"
        in refused(tmp_path)
    )


class Mirror(hf.CLIPImageProcessor):  # type: ignore[misc]  # transformers has no types here
    """A processor with a switch that nobody knows."""

    def _preprocess(self, images: Any, **options: Any) -> Any:
        return super()._preprocess([image.flip(-1) for image in images], **options)


def test_an_unknown_switch_is_measured_and_refused() -> None:
    with pytest.raises(
        BackboneError,
        match=(
            r"has a Mirror that no ImageSpec describes: pixels differ by up to [0-9]+ levels of 255"
        ),
    ):
        image_spec(Mirror(size={"shortest_edge": 32}, crop_size=32), "x")


def test_an_image_tower_of_another_size_is_refused_in_its_own_words(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    copy_of(folder_of("siglip"), tmp_path)
    hf.SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    assert "crops to 64 pixels, but its image tower takes 32" in refused(tmp_path)


def test_padding_on_the_left_is_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    copy_of(folder_of("siglip"), tmp_path)
    siglip_unigram(padding_side="left").save_pretrained(tmp_path)
    assert "pads on the left" in refused(tmp_path)


def test_a_tokenizer_that_does_more_than_its_file_says_is_refused() -> None:
    """A class that changes a text before its backend sees it."""

    class Backwards(Siglip2Tokenizer):  # type: ignore[misc]
        def __call__(self, text: list[str], **options: Any) -> Any:
            return super().__call__([one[::-1] for one in text], **options)

    vocab, merges = byte_fallback("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    theirs = Backwards(vocab=vocab, merges=merges, padding_side="right")
    with pytest.raises(
        BackboneError,
        match=(
            r"has a Backwards whose ids no tokenizer\.json gives, first for 'dog'; save a"
            r" tokenizer\.json"
        ),
    ):
        text_spec(theirs, 16, "x")


@pytest.mark.skipif(
    find_spec("sentencepiece") is not None,
    reason="sentencepiece is installed, so SiglipTokenizer itself is used",
)
def test_siglips_tokenizer_json_stands_in_where_sentencepiece_is_missing(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    copy_of(folder_of("siglip"), tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": "SiglipTokenizer"})
    )
    assert load(str(tmp_path)).text_spec == load(str(folder_of("siglip"))).text_spec
    (tmp_path / "tokenizer.json").rename(tmp_path / "spiece.model")
    assert "pip install sentencepiece protobuf" in refused(tmp_path)


def test_siglips_sentencepiece_model_is_converted(tmp_path: Path) -> None:
    """As SiglipTokenizer itself: lower case but for a word's last sigma, no punctuation, white
    space folded, one leading space.
    """
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join([*samples.TEXTS, "οδυσσευς σας", "ab\u00e9ñ 红色皮革"] * 3).lower())
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    trainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    tokenizer = hf.SiglipTokenizer(str(tmp_path / "spiece.model"))
    (converted,) = spiece.backends(tokenizer)
    texts = [
        *samples.TEXTS,
        *filter(None, samples.UNUSUAL_TEXTS.values()),
        "  two  blanks ",
        "!!! shouted",
        "ΣΑΣ, ΑΣ.",
        "x ▁ y",
    ]
    assert [converted.encode(text).ids for text in texts] == [
        tokenizer(text)["input_ids"] for text in texts
    ]
