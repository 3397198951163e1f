"""From the name of a model or a directory to a loaded backbone, and what is refused on the way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import huggingface_hub
import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg

from mismatch.backbones.model_folders import OWN_CODE, check_self_contained, no_code_of_models
from mismatch.errors import BackboneError
from mismatch_openclip.backbone import CONFIG, TEXT_CONFIG, WEIGHTS, OpenClipBackbone
from mismatch_openclip.on_hub import (
    HUB,
    TOKENIZERS,
    not_had,
    repository,
    text_tower_options,
    tokenizer_folder,
    tower_folder,
    weights_of_tag,
)
from mismatch_openclip.tokenizer import (
    CONTEXT_LENGTH,
    VOCAB_SIZE,
    TextSource,
    clip_vocabulary,
    own_vocabulary,
)

__all__ = ["check", "load"]

TINY = "tiny"
UNTRAINED = "untrained"
LOCAL = "local-dir:"  # open_clip's own prefix
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# what a pretrained tag says of how images are prepared
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")
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
    a local directory, or `tiny`. What comes from the hub may have `@REVISION` behind it.

    Raises BackboneError in one line.
    """
    with _quiet(), no_code_of_models():
        if model_id == TINY:
            return _tiny()
        directory = Path(model_id).expanduser()
        if directory.is_dir():
            return _from_directory(directory, model_id)
        return _from_repository(model_id) if model_id.startswith(HUB) else _from_name(model_id)


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
    config = _read_config(directory, model_id)
    check_self_contained(directory, "openclip")
    _check_image_tower(directory, config)
    text_tower = config["text_cfg"].get("hf_model_name")
    if text_tower and not (directory / TEXT_CONFIG).is_file():
        raise BackboneError(
            f"openclip: directory '{model_id}' has no {TEXT_CONFIG} for its text tower"
            f" '{text_tower}', which would be looked up on the model hub; put it there"
        )
    if not any(path.suffix in CHECKPOINTS for path in directory.iterdir()):
        raise BackboneError(
            f"openclip: directory '{model_id}' has no weights ({WEIGHTS}); save the model again"
        )
    if config["text_cfg"].get("hf_tokenizer_name"):
        _check_tokenizer(directory, config, model_id)
    return _from_folder(directory, config, model_id, tower=directory, tokenizer=directory)


def _from_repository(model_id: str) -> OpenClipBackbone:
    """Load a repository on the hub, in open_clip's own format."""
    snapshot = repository(model_id)
    folder = snapshot.folder
    config = _read_config(folder, model_id)
    _check_image_tower(folder, config)
    name = config["text_cfg"].get("hf_tokenizer_name")
    tokenizer = folder if _has_tokenizer(folder) or not name else tokenizer_folder(str(name))
    tower = tower_folder(folder, config)
    backbone = _from_folder(folder, config, model_id, tower=tower, tokenizer=tokenizer)
    backbone.commit = snapshot.commit
    return backbone


def _from_folder(
    folder: Path, config: dict[str, Any], model_id: str, *, tower: Path | None, tokenizer: Path
) -> OpenClipBackbone:
    """Load a folder. `tower`: where the config.json of a text tower of transformers lies;
    `tokenizer`: where a tokenizer does that isn't CLIP's.
    """
    texts = _texts(tokenizer, config, model_id)
    options = text_tower_options(config, tower)
    model = _create(f"{LOCAL}{folder}", model_id, require_pretrained=True, **options)
    return OpenClipBackbone(model, config, model_id, texts)


def _read_config(directory: Path, model_id: str) -> dict[str, Any]:
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
    return dict(config)


def _check_image_tower(directory: Path, config: dict[str, Any]) -> None:
    """Refuse a directory whose image tower would be read from elsewhere: another folder or the
    hub.
    """
    image_tower = str(config["vision_cfg"].get("timm_model_name") or "")
    if ":" in image_tower or "/" in image_tower:
        raise BackboneError(
            f"openclip: {directory / CONFIG} names the image tower '{image_tower}', which lies"
            " outside of the directory; name an architecture of timm"
        )


def _has_tokenizer(directory: Path) -> bool:
    return any((directory / file).is_file() for file in TOKENIZERS)


def _check_tokenizer(directory: Path, config: dict[str, Any], model_id: str) -> None:
    if _has_tokenizer(directory):
        return
    name = config["text_cfg"]["hf_tokenizer_name"]
    remedy = (
        f"save that of '{name}' there: transformers.AutoTokenizer"
        f".from_pretrained('{name}').save_pretrained('{model_id}')"
    )
    raise BackboneError(
        f"openclip: directory '{model_id}' has no tokenizer ({TOKENIZERS[0]}), which its"
        f" model needs; {remedy}"
    )


def _from_name(model_id: str) -> OpenClipBackbone:
    """Load `ARCH/TAG`, `ARCH/TAG@REVISION`, `ARCH/checkpoint.pt` or `ARCH/untrained`."""
    architecture, _, weights = model_id.partition("/")
    config = (
        open_clip.get_model_config(architecture)
        if architecture in open_clip.list_models()
        else None
    )
    if config is None:
        raise BackboneError(_unknown(architecture, model_id))
    check(config, model_id)
    if weights == UNTRAINED:
        with _seeded():
            tower = text_tower_options(config, tower_folder(None, config))
            model = _settled(_create(architecture, model_id, pretrained_text=False, **tower))
        texts = _texts(_tokenizer_of_name(config), config, model_id)
        return OpenClipBackbone(model, config, model_id, texts, trained=False)
    name, revision = _revision(weights)
    tag = open_clip.get_pretrained_cfg(architecture, name)
    if tag and tag.get("hf_hub"):
        return _from_tag(architecture, tag, revision, config, model_id)
    if not tag:
        _check_checkpoint(architecture, weights, model_id)
        weights = str(Path(weights).expanduser())
    elif revision:
        raise BackboneError(
            f"openclip: the weights of '{architecture}/{name}' come from no hub, so there is no"
            f" revision '{revision}' of them; leave it out"
        )
    return _with_weights(architecture, {"pretrained": weights}, config, model_id)


def _from_tag(
    architecture: str,
    tag: dict[str, Any],
    revision: str | None,
    config: dict[str, Any],
    model_id: str,
) -> OpenClipBackbone:
    """Load a pretrained tag whose weights lie on the hub."""
    path, snapshot = weights_of_tag(tag, revision, model_id)
    # open_clip only warns of another activation than the one that the weights were trained with
    config["quick_gelu"] = bool(config.get("quick_gelu") or tag.get("quick_gelu"))
    preprocessing = {name: tag[name] for name in PREPROCESSING if name in tag}
    options = {"pretrained": str(path), "force_preprocess_cfg": preprocessing}
    repository_name = tag["hf_hub"].rpartition("/")[0]
    commits = {repository_name: snapshot.commit}
    backbone = _with_weights(architecture, options, config, model_id, commits)
    backbone.commit = snapshot.commit
    return backbone


def _with_weights(
    architecture: str,
    options: dict[str, Any],
    config: dict[str, Any],
    model_id: str,
    commits: Mapping[str, str] = MappingProxyType({}),
) -> OpenClipBackbone:
    """Load an architecture of open_clip's with weights. `commits`: repository on the hub → the one
    that a tokenizer is taken of too.
    """
    texts = _texts(_tokenizer_of_name(config, commits), config, model_id)
    model = _create(
        architecture,
        model_id,
        force_quick_gelu=bool(config.get("quick_gelu")),
        require_pretrained=True,
        **options,
        **text_tower_options(config, tower_folder(None, config)),
    )
    return OpenClipBackbone(model, config, model_id, texts)


def _revision(weights: str) -> tuple[str, str | None]:
    """Return a tag and its revision; a file's name is taken as it is."""
    if Path(weights).expanduser().is_file():
        return weights, None
    name, _, revision = weights.partition("@")
    return name, revision or None


def _settled(model: Any) -> Any:
    """Fill a part of CoCa's decoder, which nothing here uses, and which open_clip leaves as the
    memory was: nan would come back from a checkpoint as another value.
    """
    projection = getattr(getattr(model, "text_decoder", None), "text_projection", None)
    if projection is not None:
        torch.nn.init.normal_(projection, std=len(projection) ** -0.5)
    return model


def _tokenizer_of_name(
    config: dict[str, Any], commits: Mapping[str, str] = MappingProxyType({})
) -> Path | None:
    """Return the folder of the tokenizer that an architecture names; None for CLIP's own."""
    name = config["text_cfg"].get("hf_tokenizer_name")
    if not name:
        return None
    return Path(name) if Path(name).is_dir() else tokenizer_folder(name, commits.get(name, ""))


def _texts(folder: Path | None, config: dict[str, Any], model_id: str) -> TextSource:
    """Return CLIP's tokenizer, or the one in a folder where the configuration names one."""
    text = config["text_cfg"]
    if folder is None or not text.get("hf_tokenizer_name"):
        return clip_vocabulary(text)
    try:
        upstream = HFTokenizer(
            str(folder),
            context_length=text.get("context_length", CONTEXT_LENGTH),
            tokenizer_mode=text.get("tokenizer_mode"),
            **(text.get("tokenizer_kwargs") or {}),
        )
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error
    return own_vocabulary(upstream, text, model_id)


def _create(name: str, model_id: str, **options: Any) -> Any:
    """Call open_clip.create_model, any failure told in one line; weights are never unpickled."""
    try:
        return open_clip.create_model(name, weights_only=True, **options)
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error


def _explain(model_id: str, error: Exception) -> str:
    if "download" in str(error):  # of a tag whose weights are on no hub
        lines = [line.strip(" .") for line in str(error).splitlines() if line.strip()]
        return str(not_had(f"openclip: the weights of '{model_id}' are not to be had ({lines[0]})"))
    if "trust_remote_code" in str(error):
        return f"openclip: '{model_id}' can't be loaded ({OWN_CODE})"
    if "weights_only" in str(error):  # torch's own words say how to run what a file holds
        return (
            f"openclip: '{model_id}' can't be loaded (its weights are damaged or hold more than"
            " tensors, so nothing of it was run)"
        )
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
