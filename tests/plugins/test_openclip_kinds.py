"""The family openclip, kind by kind: each mechanism of open_clip's towers and tokenizers in a small
random model, through the contract kit.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer as Tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from mismatch.errors import BackboneError, InputError
from mismatch.runtime.tokenize import Tokenizer
from mismatch.testing.contract import check_names, run_checks
from mismatch_openclip.backbone import OpenClipBackbone
from mismatch_openclip.loading import check, load
from tests.support.paths import WHOLE

SIZE, WIDTH = 64, 32  # pixels; of embeddings and towers
CORPUS = [
    "a red leather handbag with gold hardware",
    "three green bottles standing on a wooden table next to a lamp",
    "blue cotton trousers, size 42",
    "a photo of a dog and two white mugs",
] * 4

# --- image towers of timm: its own entry points, with small numbers


def small(architecture: str, **numbers: Any) -> dict[str, Any]:
    """A `vision_cfg` with timm's `architecture`, but of the size that `numbers` gives."""

    def build(pretrained: bool = False, **options: Any) -> Any:
        return timm.create_model(architecture, pretrained=False, **numbers | options)

    build.__name__, build.__module__ = f"small_{architecture}", __name__
    timm.models.register_model(build)
    return {"timm_model_name": build.__name__, "image_size": SIZE}


VIT = {"image_size": SIZE, "layers": 1, "width": WIDTH, "head_width": 16, "patch_size": 16}
SIGLIP = small(
    "vit_base_patch16_siglip_224", img_size=SIZE, embed_dim=WIDTH, depth=1, num_heads=2
) | {"timm_pool": "map", "timm_proj": "none"}
RESNET = {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
CONVNEXT = small("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)) | {
    "timm_pool": "",
    "timm_proj": "linear",
}
CONVNEXT_MLP = small("convnext_nano", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)) | {
    "timm_pool": "",
    "timm_proj": "mlp",
}
EVA = small("eva02_base_patch16_clip_224", img_size=SIZE, embed_dim=48, depth=1, num_heads=2) | {
    "timm_pool": "token",
    "timm_proj": None,
}
PE = small(
    "vit_pe_core_tiny_patch16_384",
    img_size=SIZE,
    embed_dim=48,
    depth=1,
    num_heads=2,
    attn_pool_num_heads=2,
) | {"timm_pool": "map", "timm_proj": None}
FASTVIT = small("fastvit_mci0", layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 64)) | {
    "timm_pool": "avg",
    "timm_proj": None,
}
MCI = small("vit_base_mci_224", img_size=SIZE, depth=1) | {"timm_pool": "token", "timm_proj": None}
VITAMIN = small("vitamin_small_224", img_size=SIZE, depth=1) | {
    "timm_pool": "",
    "timm_proj": "linear",
}
SWIN = small(
    "swin_tiny_patch4_window7_224",
    img_size=SIZE,
    window_size=4,
    embed_dim=16,
    depths=(1, 2),
    num_heads=(2, 2),
) | {"timm_pool": "", "timm_proj": "linear"}
RELPOS = small(
    "vit_relpos_medium_patch16_cls_224", img_size=SIZE, embed_dim=32, depth=1, num_heads=2
) | {"timm_pool": "", "timm_proj": "linear"}

# --- tokenizers, built here: upstream's mechanism with a small vocabulary


def trained(model: Any, trainer: Any, normalizer: Any, splitter: Any) -> Any:
    tokenizer = Tokenizers(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def ending(tokenizer: Any, template: str) -> Any:
    names = {name for name in template.split() if name != "$A"}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template,
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in sorted(names)],
    )
    return tokenizer


def word_pieces(**more: Any) -> Any:
    """BERT's: [CLS] words [SEP], pad 0."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *more.values()]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    pieces = trained(
        models.WordPiece(unk_token="[UNK]"),
        trainer,
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    return transformers.BertTokenizerFast(tokenizer_object=ending(pieces, "[CLS] $A [SEP]"), **more)


def byte_pairs() -> Any:
    """RoBERTa's: <s> bytes </s>, pad 1."""
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = trained(
        models.BPE(),
        trainer,
        normalizers.Sequence([]),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    return transformers.RobertaTokenizerFast(tokenizer_object=ending(pieces, "<s> $A </s>"))


def unigram(special: list[str], template: str) -> Any:
    """SentencePiece's pieces, as T5, XLM-R and NLLB have them."""
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    return ending(
        trained(models.Unigram(), trainer, normalizers.NFKC(), pre_tokenizers.Metaspace()), template
    )


def entries(tokenizer: Any) -> list[tuple[str, float]]:
    """A unigram's vocabulary."""
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


def t5(**more: Any) -> Any:
    """T5's: pieces </s>, pad 0; SigLIP's pads with </s> itself."""
    return transformers.T5TokenizerFast(
        vocab=entries(unigram(["<pad>", "</s>", "<unk>"], "$A </s>")), extra_ids=0, **more
    )


def xlm() -> Any:
    """XLM-R's: <s> pieces </s>, pad 1."""
    return transformers.XLMRobertaTokenizerFast(
        vocab=entries(unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>"))
    )


def nllb() -> Any:
    """NLLB's: the language first, pad 1."""
    return transformers.NllbTokenizerFast(
        tokenizer_object=unigram(
            ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn", "deu_Latn"], "eng_Latn $A </s>"
        )
    )


def gemma() -> Any:
    """Gemma's: byte fallback, pieces <eos>, pad 0."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *fallback],
        show_progress=False,
    )
    empty = models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    model = json.loads(
        trained(
            empty,
            trainer,
            normalizers.Replace(" ", "▁"),
            pre_tokenizers.Split("▁", "merged_with_next"),
        ).to_str()
    )["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return transformers.GemmaTokenizerFast(
        vocab=model["vocab"],
        merges=merges,
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
    )


# --- text towers

TEXT = {"width": WIDTH, "heads": 2, "layers": 2}
CANONICAL = {
    "hf_tokenizer_name": "local",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "pool_type": "last",
    "context_length": 24,
}
ENCODER = {
    "vocab_size": 600,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
ROBERTA = transformers.RobertaConfig(**ENCODER, max_position_embeddings=90, type_vocab_size=1)
XLM = transformers.XLMRobertaConfig(**ENCODER, max_position_embeddings=90, type_vocab_size=1)
BERT = transformers.BertConfig(**ENCODER, max_position_embeddings=90)
MT5 = transformers.MT5Config(
    vocab_size=600, d_model=WIDTH, d_kv=16, d_ff=64, num_layers=2, num_heads=2
)
M2M = transformers.M2M100Config(
    vocab_size=600,
    d_model=WIDTH,
    encoder_layers=2,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
)
HF_TEXT = {"hf_model_name": "local", "hf_tokenizer_name": "local", "hf_proj_type": "mlp"}
COCA = {
    "custom_text": True,
    "multimodal_cfg": {
        "context_length": 20,
        "vocab_size": 49408,
        "width": WIDTH,
        "heads": 2,
        "layers": 1,
        "attn_pooler_heads": 2,
    },
}
COCA_VIT = VIT | {
    "attentional_pool": True,
    "attn_pooler_heads": 2,
    "attn_pooler_queries": 9,
    "output_tokens": True,
}
SQUASH = {"resize_mode": "squash", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
CLIPA_PIXELS = {
    "resize_mode": "squash",
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
MOBILE_PIXELS = {"interpolation": "bilinear", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


@dataclass(frozen=True)
class Kind:
    """A small model of one kind, and what must come of it."""

    vision: dict[str, Any]
    text: dict[str, Any]
    padding: str  # longest: the tower masks pads, or never looks past its end token
    context_length: int = 77  # tokens
    more: dict[str, Any] = field(default_factory=dict)  # of model_cfg
    pixels: dict[str, Any] = field(default_factory=dict)  # of preprocess_cfg
    tokenizer: Callable[[], Any] | None = None
    encoder: Any = None  # a configuration of transformers
    # exported by default, which takes ten times as long as all other checks
    quick: bool = False

    def write(self, folder: Path) -> Path:
        """As open_clip saves a model, with random weights that make every text and image another
        one.
        """
        text = TEXT | self.text
        folder.mkdir()
        if self.encoder is not None:
            self.encoder.save_pretrained(folder)
            text = {key: value for key, value in text.items() if key not in TEXT} | {
                "hf_model_name": str(folder),
                "hf_model_pretrained": False,
            }
        if self.tokenizer is not None:
            self.tokenizer().save_pretrained(folder)
            text |= {"hf_tokenizer_name": "ORG/NAME"}
            text |= {} if self.encoder is not None else {"vocab_size": 600}
        config = {"embed_dim": WIDTH, "vision_cfg": self.vision, "text_cfg": text} | self.more
        custom = config.get("custom_text") or self.encoder is not None
        build = (
            open_clip.CoCa
            if "multimodal_cfg" in config
            else open_clip.CustomTextCLIP
            if custom
            else open_clip.CLIP
        )
        torch.manual_seed(0)
        model = build(**{key: value for key, value in config.items() if key != "custom_text"})
        weights = {name: _louder(name, tensor) for name, tensor in model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")
        (folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": self.pixels})
        )
        return folder


def _louder(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Freshly initialised embeddings of tokens (0.02) hardly show next to others; open_clip leaves a
    part of CoCa's decoder uninitialised.
    """
    return (
        (
            tensor * 20
            if name.endswith(("token_embedding.weight", "cls_emb"))
            else tensor.nan_to_num(0, 0, 0)
        )
        .contiguous()
        .clone()
    )


KINDS = {
    "vit": Kind(VIT, {}, "longest", more={"quick_gelu": True}),
    "resnet": Kind(RESNET, {"context_length": 20}, "longest", 20),
    "convnext": Kind(CONVNEXT, {}, "longest"),
    "convnext-mlp": Kind(CONVNEXT_MLP, {}, "longest"),
    "eva": Kind(EVA, {"proj_bias": True}, "longest", more={"custom_text": True}),
    "pe": Kind(
        PE,
        {"context_length": 32},
        "longest",
        32,
        more={"custom_text": True},
        pixels=SQUASH | {"interpolation": "bilinear"},
    ),
    "mobileclip-fastvit": Kind(
        FASTVIT,
        {"no_causal_mask": True},
        "context",
        more={"custom_text": True},
        pixels=MOBILE_PIXELS,
        quick=True,
    ),
    "mobileclip-b": Kind(
        MCI, {}, "longest", more={"custom_text": True, "embed_dim": 768}, pixels=MOBILE_PIXELS
    ),
    "vitamin": Kind(VITAMIN, {}, "longest", more={"custom_text": True}),
    "swin": Kind(SWIN, {}, "longest"),
    "relpos": Kind(RELPOS, {}, "longest"),
    "siglip": Kind(
        SIGLIP,
        CANONICAL | {"proj_bias": True, "norm_kwargs": {"eps": 1e-6}},
        "context",
        24,
        more={"custom_text": True, "init_logit_bias": -10},
        pixels=SQUASH,
        tokenizer=partial(t5, pad_token="</s>"),
        quick=True,
    ),
    "siglip2": Kind(
        SIGLIP,
        CANONICAL | {"proj_type": "none", "act_kwargs": {"approximate": "tanh"}},
        "context",
        24,
        more={"custom_text": True, "init_logit_bias": -10},
        pixels=SQUASH,
        tokenizer=gemma,
    ),
    "clipa": Kind(
        VIT | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        {
            "context_length": 16,
            "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last",
            "no_causal_mask": True,
        },
        "context",
        16,
        pixels=CLIPA_PIXELS,
        tokenizer=word_pieces,
    ),
    "clips": Kind(
        VIT,
        {
            "context_length": 16,
            "tokenizer_mode": "clips",
            "pool_type": "last",
            "no_causal_mask": True,
        },
        "context",
        15,
        tokenizer=partial(word_pieces, bos_token="[BOS]", eos_token="[EOS]"),
    ),
    "worldwide": Kind(VIT, {"pool_type": "eos", "eos_id": 2}, "longest", tokenizer=xlm),
    "coca": Kind(
        COCA_VIT,
        {"context_length": 20, "embed_cls": True, "output_tokens": True},
        "context",
        20,
        more=COCA,
        quick=True,
    ),
    "coca-roberta": Kind(
        VIT | {"output_tokens": True},
        {"output_tokens": True, "hf_proj_type": "linear"},
        "longest",
        more=COCA,
        tokenizer=byte_pairs,
        encoder=ROBERTA,
    ),
    "roberta": Kind(
        VIT,
        {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"},
        "longest",
        tokenizer=byte_pairs,
        encoder=ROBERTA,
        more={"quick_gelu": True},
    ),
    "xlm-roberta": Kind(
        VIT,
        {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"},
        "longest",
        tokenizer=xlm,
        encoder=XLM,
        quick=True,
    ),
    "bert": Kind(
        VIT,
        {"hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"},
        "longest",
        tokenizer=word_pieces,
        encoder=BERT,
    ),
    "mt5": Kind(
        VIT,
        {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"},
        "longest",
        tokenizer=t5,
        encoder=MT5,
    ),
    "nllb": Kind(
        SIGLIP,
        {"hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"},
        "longest",
        more={"init_logit_bias": -10},
        tokenizer=nllb,
        encoder=M2M,
        pixels=SQUASH,
    ),
    "nllb-german": Kind(
        VIT,
        {
            "hf_proj_type": "linear",
            "hf_pooler_type": "cls_pooler",
            "tokenizer_kwargs": {"language": "deu_Latn"},
        },
        "longest",
        tokenizer=nllb,
        encoder=M2M,
    ),
    "custom-attention": Kind(
        VIT | {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True},
        {"qk_norm": True, "scale_attn": True, "scale_fc": True},
        "longest",
        more={"custom_text": True},
    ),
    "any-case": Kind(
        VIT | {"pos_embed_type": "sin_cos_2d", "ls_init_value": 0.5},
        {"tokenizer_kwargs": {"clean": "whitespace"}},
        "longest",
    ),
}
# With the quick ones these have each sort of tower once; a whole run exports all kinds.
DAILY = ("resnet", "eva")
EXPORTS = [
    pytest.param(name, marks=[] if kind.quick else pytest.mark.slow)
    for name, kind in KINDS.items()
    if WHOLE or kind.quick or name in DAILY
]
EXPORT = "onnx export"
AGAINST_UPSTREAM = {"transform is upstreams", "tokenizer is upstreams", "embeddings are upstreams"}


@pytest.fixture
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> OpenClipBackbone:
    """The kind that a test is parametrised with, as loaded from a directory."""
    return load(str(KINDS[request.param].write(tmp_path / "model")))


def test_kinds_enough() -> None:
    assert len(KINDS) >= 12
    assert sum(kind.quick for kind in KINDS.values()) >= 4


@pytest.mark.parametrize(
    ("backbone", "name"), [(name, name) for name in KINDS], indirect=["backbone"], ids=KINDS
)
def test_a_kind_keeps_the_contract(backbone: OpenClipBackbone, name: str) -> None:
    kind = KINDS[name]
    assert (backbone.text_spec.padding, backbone.text_spec.context_length) == (
        kind.padding,
        kind.context_length,
    )
    assert (backbone.logit_bias, backbone.zero_shot_threshold) == (
        (-10, None) if "init_logit_bias" in kind.more else (None, 0.25)
    )
    checks = run_checks(backbone, load=load, only=set(check_names()) - {EXPORT})
    assert {check.name: check.message for check in checks if check.outcome == "failed"} == {}
    passed = {check.name for check in checks if check.outcome == "passed"}
    assert passed >= AGAINST_UPSTREAM | {
        "widths",
        "rows are independent",
        "gradients",
        "freezing",
        "save and load",
        "texts",
        "images",
    }
    assert ("padding" in passed) == (kind.padding == "longest")
    assert all(check.message for check in checks if check.outcome == "skipped")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", EXPORTS, indirect=True)
def test_a_kind_exports(backbone: OpenClipBackbone) -> None:
    assert [(check.outcome, check.message) for check in run_checks(backbone, only={EXPORT})] == [
        ("passed", "")
    ]


# --- on disk


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone who asks for an address is refused."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def embedded(backbone: OpenClipBackbone, texts: list[str]) -> torch.Tensor:
    batch = Tokenizer(backbone.text_spec)(texts)
    with torch.no_grad():
        return backbone.encode_text(
            torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
        )


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("coca", set()),
        ("siglip", {"tokenizer.json", "tokenizer_config.json"}),
        ("clips", {"tokenizer.json", "tokenizer_config.json"}),
        ("mt5", {"tokenizer.json", "tokenizer_config.json", "config.json"}),
        ("coca-roberta", {"tokenizer.json", "tokenizer_config.json", "config.json"}),
    ],
)
def test_plain_open_clip_reads_what_was_saved(
    name: str, files: set[str], tmp_path: Path, odd_texts: list[str], offline: None
) -> None:
    backbone = load(str(KINDS[name].write(tmp_path / "model")))
    backbone.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == files | {
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    model = open_clip.create_model(
        f"local-dir:{tmp_path / 'saved'}", require_pretrained=True
    ).eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'saved'}")
    with torch.no_grad():
        expected = model.encode_text(tokenize(odd_texts))
    ours = embedded(backbone, odd_texts)
    # CoCa's own are normalised
    assert (1 - torch.cosine_similarity(ours, expected)).abs().max() < 1e-5
    assert expected.std(dim=0).max() > 1e-3


@pytest.mark.parametrize("name", ["siglip2", "nllb", "xlm-roberta"])
def test_a_directory_is_enough(
    name: str, tmp_path: Path, odd_texts: list[str], offline: None
) -> None:
    """Saved, then moved, with what it was loaded from gone."""
    folder = KINDS[name].write(tmp_path / "model")
    backbone = load(str(folder))
    backbone.save_pretrained(tmp_path / "saved")
    shutil.rmtree(folder)
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = load(str(tmp_path / "moved"))
    assert (again.text_spec, again.image_spec) == (backbone.text_spec, backbone.image_spec)
    assert torch.equal(embedded(again, odd_texts), embedded(backbone, odd_texts))


def test_a_new_process_reads_it(tmp_path: Path) -> None:
    backbone = load(str(KINDS["mt5"].write(tmp_path / "model")))
    (done,) = run_checks(backbone, reference="openclip", only={"save and load in a new process"})
    assert (done.outcome, done.message) == ("passed", "")


def test_untrained_leaves_nothing_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip leaves CoCa's text_decoder.text_projection as the memory was."""
    config = {
        "embed_dim": WIDTH,
        "vision_cfg": COCA_VIT,
        "text_cfg": TEXT | KINDS["coca"].text,
    } | COCA
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "coca-small", config)
    first, second = (
        load("coca-small/untrained").state_dict(),
        load("coca-small/untrained").state_dict(),
    )
    assert [name for name, tensor in first.items() if not torch.equal(tensor, second[name])] == []
    assert 0.1 < first["model.text_decoder.text_projection"].std() * WIDTH**0.5 < 2


# --- texts


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        (name, name)
        for name, kind in KINDS.items()
        if kind.tokenizer or "tokenizer_kwargs" in kind.text
    ],
    indirect=["backbone"],
)
def test_odd_texts_have_upstreams_ids(
    backbone: OpenClipBackbone, name: str, odd_texts: list[str]
) -> None:
    ids = Tokenizer(replace(backbone.text_spec, padding="context"))(odd_texts).input_ids
    expected = backbone.upstream_tokenizer(odd_texts).numpy()
    assert [
        text
        for text, ours, theirs in zip(odd_texts, ids, expected, strict=True)
        if list(ours) != list(theirs)
    ] == []


BERTS, OTHERS = (
    ("[SEP]", "[CLS]", "[PAD]", "[sep]"),
    ("</s>", "<s>", "<pad>", "<eos>", "<bos>", "<EOS>", "<end_of_text>", "<START_OF_TEXT>"),
)
SPELT = [f"red {token} bag" for token in BERTS + OTHERS]


@pytest.mark.parametrize(
    "backbone",
    [name for name, kind in KINDS.items() if kind.tokenizer or "tokenizer_kwargs" in kind.text],
    indirect=True,
)
def test_a_special_token_that_is_spelt_out_hides_nothing(backbone: OpenClipBackbone) -> None:
    """Upstream takes it for a token, at which a tower may stop reading."""
    tokenizer = Tokenizer(backbone.text_spec)
    [plain], _ = tokenizer.encode(["red bag"])
    for text, encoded in zip(SPELT, tokenizer.encode_each(SPELT), strict=True):
        if isinstance(encoded, InputError):
            assert "a special token of the model" in str(encoded), text
        else:
            assert encoded.ids.count(plain[-1]) == plain.count(plain[-1]), text


@pytest.mark.parametrize(
    ("backbone", "first", "last"),
    [
        ("siglip", None, 1),
        ("worldwide", 0, 2),
        ("clipa", 2, 0),
        ("clips", 4, 5),
        ("nllb", 4, 2),
        ("mt5", None, 1),
        ("roberta", 0, 2),
        ("coca", 49406, 49407),
    ],
    indirect=["backbone"],
)
def test_a_long_text_keeps_its_special_tokens(
    backbone: OpenClipBackbone, first: int | None, last: int
) -> None:
    (ids,), (cut,) = Tokenizer(backbone.text_spec).encode(["a red bag " * 100])
    assert (len(ids), cut, ids[-1]) == (backbone.text_spec.context_length, True, last)
    assert first is None or ids[0] == first


def left(folder: Path) -> None:
    word_pieces(padding_side="left").save_pretrained(folder)


def unpadded(folder: Path) -> None:
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=unigram(["<pad>", "</s>", "<unk>"], "$A </s>"), eos_token="</s>"
    ).save_pretrained(folder)


def pieces(folder: Path) -> None:
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=unigram(["<pad>", "</s>", "<unk>"], "$A </s>"),
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
    ).save_pretrained(folder)


def none(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (left, "other ids than its tokenizer.json does; padding or truncation on the left"),
        (unpadded, "it has no padding token"),
        (pieces, "strip_sep_token is set, but its vocabulary is no dictionary"),
        (
            none,
            (
                r"has no tokenizer \(tokenizer.json\), which its model needs; save that of"
                r" 'ORG/NAME' there"
            ),
        ),
    ],
)
def test_what_a_tokenizer_json_cannot_say_is_refused(
    harm: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = KINDS["clipa"].write(tmp_path / "model")
    harm(folder)
    with pytest.raises(BackboneError, match=message) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


# --- every architecture


def test_every_architecture_is_supported_or_refused_by_name() -> None:
    """All that open_clip lists, by their configurations; no weights."""
    refused = {}
    names = {
        *open_clip.list_models(),
        *(architecture for architecture, _ in open_clip.list_pretrained()),
    }
    for name in sorted(names):
        try:
            check(open_clip.get_model_config(name), name)
        except BackboneError as error:
            refused[name] = str(error)
    assert len(names) >= 140
    assert {name: reason for name, reason in refused.items() if "NaFlex" not in reason} == {}


def test_every_image_tower_of_timm_is_of_a_kind_tried() -> None:
    """By timm's modules: a new one in open_clip wants a kind here."""
    tried = {
        timm.models.model_entrypoint(name.removeprefix("small_")).__module__
        for name in (kind.vision.get("timm_model_name", "") for kind in KINDS.values())
        if name
    }
    needed = {}
    for name in open_clip.list_models():
        if trunk := open_clip.get_model_config(name)["vision_cfg"].get("timm_model_name"):
            needed[name] = timm.models.model_entrypoint(trunk).__module__
    assert {name: module for name, module in needed.items() if module not in tried} == {}


@pytest.mark.parametrize(
    "key",
    [
        "hf_pooler_type",
        "pool_type",
        "proj_type",
        "no_causal_mask",
        "embed_cls",
        "output_tokens",
        "proj_bias",
        "act_kwargs",
        "norm_kwargs",
    ],
)
def test_every_option_of_a_text_tower_is_of_a_kind_tried(key: str) -> None:
    tried = [kind.text.get(key) for kind in KINDS.values()]
    needed = {
        name: value
        for name in open_clip.list_models()
        if (value := open_clip.get_model_config(name)["text_cfg"].get(key)) not in (None, False)
    }
    assert {name: value for name, value in needed.items() if value not in tried} == {}
