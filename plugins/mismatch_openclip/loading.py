"""From the name of a model or a directory to a loaded backbone, and what is refused on the way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg

from mismatch.backbones.model_folders import OWN_CODE, check_self_contained, no_code_of_models
from mismatch.errors import BackboneError
from mismatch_openclip.backbone import CONFIG, TEXT_CONFIG, WEIGHTS, OpenClipBackbone
from mismatch_openclip.tokenizer import VOCAB_SIZE, TextSource, clip_vocabulary, own_vocabulary

__all__ = ["check", "load"]

TINY = "tiny"
UNTRAINED = "untrained"
# open_clip's own prefixes
HUB = "hf-hub:"
LOCAL = "local-dir:"
HUB_TIMEOUT = 10  # seconds until a silent hub counts as unreachable
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# files, one of which every tokenizer of transformers has
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
# options of open_clip's own for a tokenizer; others would go to transformers, as trust_remote_code
TOKENIZER_OPTIONS = {"clean", "language", "reduction_mask", "strip_sep_token", "tokenizer_mode"}
TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": VOCAB_SIZE,
        "width": 128,
        "heads": 4,
        "layers": 2,
    },
}


def load(model_id: str) -> OpenClipBackbone:
    """Load `ARCH/TAG`, `ARCH/checkpoint.pt`, `ARCH/untrained` (random weights), `hf-hub:ORG/REPO`,
    a local directory, or `tiny`.

    Raises BackboneError in one line.
    """
    with _quiet(), no_code_of_models():
        if model_id == TINY:
            return _tiny()
        directory = Path(model_id).expanduser()
        if directory.is_dir():
            return _from_directory(directory, model_id)
        return _from_hub(model_id) if model_id.startswith(HUB) else _from_name(model_id)


def _tiny() -> OpenClipBackbone:
    """Make a 4-layer image and a 2-layer text tower, 128 wide, on 64 pixels."""
    with _seeded():
        model = open_clip.CLIP(**deepcopy(TINY_CONFIG))
    set_model_preprocess_cfg(
        model, asdict(PreprocessCfg(size=TINY_CONFIG["vision_cfg"]["image_size"]))
    )
    return OpenClipBackbone(
        model, deepcopy(TINY_CONFIG), TINY, clip_vocabulary(TINY_CONFIG["text_cfg"]), trained=False
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """Draw the same random weights every time, and leave the caller's random numbers untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        yield


def _from_directory(directory: Path, model_id: str) -> OpenClipBackbone:
    if not (directory / CONFIG).is_file():
        raise BackboneError(
            f"openclip: directory '{model_id}' has no {CONFIG}; give one that open_clip saved, or"
            " ARCH/checkpoint.pt"
        )
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"openclip: {directory / CONFIG} can't be read ({error}); save the model again"
        ) from None
    check(config, model_id)
    check_self_contained(directory, "openclip")
    _check_own_towers(directory, config, model_id)
    if not any(path.suffix in CHECKPOINTS for path in directory.iterdir()):
        raise BackboneError(
            f"openclip: directory '{model_id}' has no weights ({WEIGHTS}); save the model again"
        )
    texts = _texts(f"{LOCAL}{directory}", config, model_id)
    return OpenClipBackbone(
        _create(
            f"{LOCAL}{directory}",
            model_id,
            require_pretrained=True,
            **_own_text_tower(directory, config),
        ),
        config,
        model_id,
        texts,
    )


def _check_own_towers(directory: Path, config: dict[str, Any], model_id: str) -> None:
    """Refuse a directory whose towers would be read from elsewhere: another folder or the hub."""
    image_tower = str(config["vision_cfg"].get("timm_model_name") or "")
    if ":" in image_tower or "/" in image_tower:
        raise BackboneError(
            f"openclip: {directory / CONFIG} names the image tower '{image_tower}', which lies"
            " outside of the directory; name an architecture of timm"
        )
    text_tower = config["text_cfg"].get("hf_model_name")
    if text_tower and not (directory / TEXT_CONFIG).is_file():
        raise BackboneError(
            f"openclip: directory '{model_id}' has no {TEXT_CONFIG} for its text tower"
            f" '{text_tower}', which would be looked up on the model hub; put it there"
        )


def _own_text_tower(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return options that build a text tower of transformers by the directory's own config.json,
    where there is one, and not by the model hub's.
    """
    text = config["text_cfg"]
    if "hf_model_name" not in text or not (directory / TEXT_CONFIG).is_file():
        return {}
    return {"text_cfg": text | {"hf_model_name": str(directory), "hf_model_pretrained": False}}


def _from_hub(model_id: str) -> OpenClipBackbone:
    """Load a repository in open_clip's own format."""
    _reach_hub(model_id.removeprefix(HUB), [CONFIG], model_id)
    try:
        config = open_clip.get_model_config(model_id)
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error
    check(config, model_id)
    texts = _texts(model_id, config, model_id)
    return OpenClipBackbone(
        _create(model_id, model_id, require_pretrained=True), config, model_id, texts
    )


def _from_name(model_id: str) -> OpenClipBackbone:
    """Load `ARCH/TAG`, `ARCH/checkpoint.pt` or `ARCH/untrained`."""
    architecture, _, weights = model_id.partition("/")
    config = (
        open_clip.get_model_config(architecture)
        if architecture in open_clip.list_models()
        else None
    )
    if config is None:
        raise BackboneError(_unknown(architecture, model_id))
    check(config, model_id)
    tag = open_clip.get_pretrained_cfg(architecture, weights)
    if tag:
        _check_tag(tag, config, model_id)
    elif weights != UNTRAINED:
        _check_checkpoint(architecture, weights, model_id)
        weights = str(Path(weights).expanduser())
    texts = _texts(architecture, config, model_id)
    if weights == UNTRAINED:
        with _seeded():
            return OpenClipBackbone(
                _settled(_create(architecture, model_id, pretrained_text=False)),
                config,
                model_id,
                texts,
                trained=False,
            )
    options = {
        "pretrained": weights,
        "force_quick_gelu": bool(config.get("quick_gelu")),
        "require_pretrained": True,
    }
    return OpenClipBackbone(_create(architecture, model_id, **options), config, model_id, texts)


def _settled(model: Any) -> Any:
    """Fill a part of CoCa's decoder, which nothing here uses, and which open_clip leaves as the
    memory was: nan would come back from a checkpoint as another value.
    """
    projection = getattr(getattr(model, "text_decoder", None), "text_projection", None)
    if projection is not None:
        torch.nn.init.normal_(projection, std=len(projection) ** -0.5)
    return model


def _texts(source: str, config: dict[str, Any], model_id: str) -> TextSource:
    """Return the tokenizer that open_clip.get_tokenizer takes for `source`."""
    text = config["text_cfg"]
    name = text.get("hf_tokenizer_name")
    if not name:
        return clip_vocabulary(text)
    if source.startswith(LOCAL):
        if not any((Path(source.removeprefix(LOCAL)) / file).is_file() for file in TOKENIZERS):
            remedy = (
                f"save that of '{name}' there: transformers.AutoTokenizer"
                f".from_pretrained('{name}').save_pretrained('{model_id}')"
            )
            raise BackboneError(
                f"openclip: directory '{model_id}' has no tokenizer ({TOKENIZERS[0]}), which its"
                f" model needs; {remedy}"
            )
    elif not Path(name).is_dir():
        _reach_hub(name, list(reversed(TOKENIZERS)), model_id, "tokenizer")
    try:
        upstream = open_clip.get_tokenizer(source)
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error
    return own_vocabulary(upstream, text, model_id)


def _reach_hub(repository: str, files: list[str], model_id: str, what: str = "weights") -> None:
    """Raise at once where the hub can't be reached; open_clip would try twelve times, for 46
    seconds.
    """
    try:
        if not any(
            isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str)
            for file in files
        ):
            huggingface_hub.get_hf_file_metadata(
                huggingface_hub.hf_hub_url(repository, files[0]), timeout=HUB_TIMEOUT
            )
    except huggingface_hub.errors.EntryNotFoundError:
        return  # reached; the file may have another name
    except Exception as error:
        raise BackboneError(_not_had(model_id, error, what)) from error


def _not_had(model_id: str, error: Exception, what: str = "weights") -> str:
    lines = [line.strip(" .") for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    verb = "are" if what.endswith("s") else "is"
    return (
        f"openclip: the {what} of '{model_id}' {verb} not to be had from the model hub"
        f" ({lines[0]}); give a directory that open_clip saved, ARCH/checkpoint.pt, or 'tiny',"
        " which needs no network"
    )


def _check_tag(tag: dict[str, Any], config: dict[str, Any], model_id: str) -> None:
    """Compute the activation that the weights were trained with (open_clip only warns of another
    one), and see that the hub is there.
    """
    config["quick_gelu"] = bool(config.get("quick_gelu") or tag.get("quick_gelu"))
    if tag.get("hf_hub"):
        repository, _, file = tag["hf_hub"].rpartition("/")
        _reach_hub(
            repository, [file] if file else [WEIGHTS, "open_clip_pytorch_model.bin"], model_id
        )


def _create(name: str, model_id: str, **options: Any) -> Any:
    """Call open_clip.create_model, any failure told in one line; weights are never unpickled."""
    try:
        return open_clip.create_model(name, weights_only=True, **options)
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error


def _explain(model_id: str, error: Exception) -> str:
    if "download" in str(error):
        return _not_had(model_id, error)
    if "trust_remote_code" in str(error):
        return f"openclip: '{model_id}' can't be loaded ({OWN_CODE})"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"openclip: '{model_id}' can't be loaded ({' '.join(lines[:2]) or type(error).__name__})"


def _unknown(architecture: str, model_id: str) -> str:
    near = get_close_matches(architecture, open_clip.list_models(), n=1)
    hint = (
        f"; did you mean {near[0]}?"
        if near
        else "; `python -c 'import open_clip; print(open_clip.list_models())'` lists them"
    )
    return (
        f"openclip: '{model_id}' is neither a directory nor ARCH/TAG with an architecture that"
        f" open_clip knows{hint}"
    )


def _check_checkpoint(architecture: str, weights: str, model_id: str) -> None:
    path = Path(weights).expanduser()
    if path.suffix in CHECKPOINTS and path.is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    near = get_close_matches(weights, tags, n=1) or tags[:1]
    hint = f"{architecture}/{near[0]}, " if near else ""
    asked = (
        f"'{weights}' is neither a tag of {architecture} nor a checkpoint file"
        if weights
        else f"'{model_id}' names no weights"
    )
    raise BackboneError(
        f"openclip: {asked}; try {hint}{architecture}/{UNTRAINED} for random weights, or"
        f" {architecture}/path/to/checkpoint.pt"
    )


def check(config: dict[str, Any], model_id: str) -> None:
    """Raise BackboneError for a configuration that open_clip itself can't compute, or that has no
    fixed image size or no fixed tokens.
    """
    text = config["text_cfg"]
    vision = config["vision_cfg"]
    size = vision.get("image_size", 224)
    options = text.get("tokenizer_kwargs") or {}
    own_tokenizer = bool(text.get("hf_tokenizer_name"))
    custom = bool(config.get("custom_text") or text.get("hf_model_name"))
    reasons = {
        "it is a NaFlex model, whose images have no fixed size": (
            "naflex" in f"{vision.get('timm_model_name')} {model_id}".lower()
        ),
        "its images are not square": isinstance(size, list | tuple) and len(set(size)) != 1,
        "its towers are not pooled": "none" in (text.get("pool_type"), vision.get("pool_type")),
        "its vocabulary is smaller than CLIP's, and it names no tokenizer (hf_tokenizer_name)": (
            not own_tokenizer and text.get("vocab_size", VOCAB_SIZE) < VOCAB_SIZE
        ),
        "its tokenizer drops words at random (reduction_mask)": bool(options.get("reduction_mask")),
        "its tokenizer has a vocabulary of its own (bpe_path, additional_special_tokens)": (
            not own_tokenizer and not options.keys() <= {"clean", "reduction_mask"}
        ),
        "its tokenizer_kwargs has options that are not open_clip's own": (
            not options.keys() <= TOKENIZER_OPTIONS
        ),
        "its text tower has a class token, which open_clip only computes with custom_text": (
            bool(text.get("embed_cls")) and not custom
        ),
        "max_pooler is a pooling that open_clip itself can't compute": (
            text.get("hf_pooler_type") == "max_pooler"
        ),
        "scaled_cosine_attn is an attention that open_clip itself can't compute": bool(
            text.get("scaled_cosine_attn") or vision.get("scaled_cosine_attn")
        ),
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise BackboneError(
            f"openclip: '{model_id}' is not supported: {reason}; other architectures of open_clip"
            " are, such as ViT-B-32 and ViT-B-16-SigLIP"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the root logger, to which open_clip logs and would give a handler, and the hub's
    retries until the block ends; both are put back after.
    """
    root = logging.getLogger()
    silent = logging.NullHandler()
    hub = huggingface_hub.logging.get_verbosity()
    disabled = root.disabled
    root.disabled = True
    root.addHandler(silent)
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        huggingface_hub.logging.set_verbosity(hub)
        root.removeHandler(silent)
        root.disabled = disabled
