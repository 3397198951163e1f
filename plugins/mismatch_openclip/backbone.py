"""A model of open_clip as a Backbone."""

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
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import text_global_pool
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.errors import BackboneError
from mismatch.specs import ImageSpec, TextSpec
from mismatch_openclip.tokenizer import VOCAB_SIZE, tokenizer_json

__all__ = ["OpenClipBackbone", "load"]

TINY, UNTRAINED = "tiny", "untrained"
CLIP_THRESHOLD = 0.25  # cosine, from which trained CLIP models call a pair a match
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"  # open_clip's own names
HUB = "hf-hub:"  # open_clip's own prefix
HUB_TIMEOUT = 10  # seconds until a silent hub counts as unreachable
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": VOCAB_SIZE, "width": 128, "heads": 4, "layers": 2},
}


class OpenClipBackbone(Backbone):
    """An open_clip CLIP or CustomTextCLIP that reads CLIP's own vocabulary."""

    shared_space = True

    def __init__(self, model: Any, model_config: dict[str, Any], model_id: str, *, trained: bool = True) -> None:
        super().__init__()
        self.model = model
        self.model_config = model_config
        self.model_id = model_id
        self.image_dim = self.text_dim = int(model_config["embed_dim"])
        self.logit_scale = float(model.logit_scale.detach().exp())
        self.logit_bias = None if model.logit_bias is None else float(model.logit_bias.detach())
        self.zero_shot_threshold = CLIP_THRESHOLD if trained and model.logit_bias is None else None
        self.image_spec = _image_spec(model.visual.preprocess_cfg, model_id)
        self.text_spec = _text_spec(_text_tower(model))
        self.eval()

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, image_dim), not normalised."""
        features: Tensor = self.model.encode_image(pixel_values)
        return features

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, text_dim), not normalised; L ≤ context_length."""
        if self.text_spec.padding == "context":
            whole: Tensor = self.model.encode_text(input_ids)
            return whole
        return _encode_causal(_text_tower(self.model), input_ids)

    def save_pretrained(self, directory: Path) -> None:
        """open_clip_config.json and open_clip_model.safetensors, as open_clip's `local-dir:` reads them."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": self.model_config, "preprocess_cfg": self.model.visual.preprocess_cfg}
        (Path(directory) / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(tensors, Path(directory) / WEIGHTS, metadata={"format": "pt"})

    def upstream_transform(self, image: Image.Image) -> Tensor:
        """open_clip's own preprocessing of an RGB image → (3, S, S)."""
        pixels: Tensor = image_transform_v2(PreprocessCfg(**self.model.visual.preprocess_cfg), is_train=False)(image)
        return pixels

    def upstream_tokenizer(self, texts: list[str]) -> Tensor:
        """open_clip's own ids, (B, context_length)."""
        ids: Tensor = open_clip.SimpleTokenizer(context_length=self.text_spec.context_length)(texts)
        return ids


def _text_tower(model: Any) -> Any:
    return getattr(model, "text", model)


def _encode_causal(tower: Any, input_ids: Tensor) -> Tensor:
    """What open_clip's encode_text computes, for any length: a causal tower never looks past its end token."""
    length, dtype = input_ids.shape[1], tower.transformer.get_cast_dtype()
    x = tower.token_embedding(input_ids).to(dtype) + tower.positional_embedding[:length].to(dtype)  # (B, L, W)
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    pooled: Tensor = text_global_pool(tower.ln_final(x), input_ids, *_pooling(tower))  # (B, W)
    if tower.text_projection is None:
        return pooled
    projected: Tensor = tower.text_projection(pooled) if isinstance(tower.text_projection, nn.Linear) else pooled @ tower.text_projection
    return projected


def _pooling(tower: Any) -> tuple[str, int]:
    """CLIP keeps its text tower's parts under other names than TextTransformer."""
    return (tower.text_pool_type, tower.text_eos_id) if isinstance(tower, open_clip.CLIP) else (tower.pool_type, tower.eos_id)


def load(model_id: str) -> OpenClipBackbone:
    """`ARCH/TAG`, `ARCH/checkpoint.pt`, `ARCH/untrained` (random weights), `hf-hub:ORG/REPO`, a local directory, or `tiny`.

    Raises BackboneError in one line.
    """
    with _quiet():
        if model_id == TINY:
            return _tiny()
        directory = Path(model_id).expanduser()
        if directory.is_dir():
            return _from_directory(directory, model_id)
        return _from_hub(model_id) if model_id.startswith(HUB) else _from_name(model_id)


def _tiny() -> OpenClipBackbone:
    """4-layer image and 2-layer text tower, 128 wide, on 64 pixels."""
    with _seeded():
        model = open_clip.CLIP(**deepcopy(TINY_CONFIG))
    set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=TINY_CONFIG["vision_cfg"]["image_size"])))
    return OpenClipBackbone(model, deepcopy(TINY_CONFIG), TINY, trained=False)


@contextmanager
def _seeded() -> Iterator[None]:
    """The same random weights every time, and the caller's random numbers untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        yield


def _from_directory(directory: Path, model_id: str) -> OpenClipBackbone:
    if not (directory / CONFIG).is_file():
        raise BackboneError(f"openclip: directory '{model_id}' has no {CONFIG}; give one that open_clip saved, or ARCH/checkpoint.pt")
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(f"openclip: {directory / CONFIG} can't be read ({error}); save the model again") from None
    _check(config, model_id)
    if not any(path.suffix in CHECKPOINTS for path in directory.iterdir()):
        raise BackboneError(f"openclip: directory '{model_id}' has no weights ({WEIGHTS}); save the model again")
    return OpenClipBackbone(_create(f"local-dir:{directory}", model_id, require_pretrained=True), config, model_id)


def _from_hub(model_id: str) -> OpenClipBackbone:
    """A repository in open_clip's own format."""
    _reach_hub(model_id.removeprefix(HUB), [CONFIG], model_id)
    try:
        config = open_clip.get_model_config(model_id)
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error
    _check(config, model_id)
    return OpenClipBackbone(_create(model_id, model_id, require_pretrained=True), config, model_id)


def _reach_hub(repository: str, files: list[str], model_id: str) -> None:
    """Raise at once where the hub can't be reached; open_clip would try twelve times, for 46 seconds."""
    try:
        if not any(isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str) for file in files):
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, files[0]), timeout=HUB_TIMEOUT)
    except huggingface_hub.errors.EntryNotFoundError:
        return  # reached; the weights may have another name
    except Exception as error:
        raise BackboneError(_not_had(model_id, error)) from error


def _not_had(model_id: str, error: Exception) -> str:
    lines = [line.strip(" .") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (
        f"openclip: the weights of '{model_id}' are not to be had from the model hub ({lines[0]}); "
        "give a directory that open_clip saved, ARCH/checkpoint.pt, or 'tiny', which needs no network"
    )


def _from_name(model_id: str) -> OpenClipBackbone:
    """`ARCH/TAG`, `ARCH/checkpoint.pt` or `ARCH/untrained`."""
    architecture, _, weights = model_id.partition("/")
    config = open_clip.get_model_config(architecture) if architecture in open_clip.list_models() else None
    if config is None:
        raise BackboneError(_unknown(architecture, model_id))
    _check(config, model_id)
    if weights == UNTRAINED:
        with _seeded():
            return OpenClipBackbone(_create(architecture, model_id), config, model_id, trained=False)
    if tag := open_clip.get_pretrained_cfg(architecture, weights):
        _check_tag(tag, config, model_id)
    else:
        _check_checkpoint(architecture, weights, model_id)
        weights = str(Path(weights).expanduser())
    options = {"pretrained": weights, "force_quick_gelu": bool(config.get("quick_gelu")), "require_pretrained": True}
    return OpenClipBackbone(_create(architecture, model_id, **options), config, model_id)


def _check_tag(tag: dict[str, Any], config: dict[str, Any], model_id: str) -> None:
    """Compute the activation that the weights were trained with (open_clip only warns of another one), and see that the hub is there."""
    config["quick_gelu"] = bool(config.get("quick_gelu") or tag.get("quick_gelu"))
    if tag.get("hf_hub"):
        repository, _, file = tag["hf_hub"].rpartition("/")
        _reach_hub(repository, [file] if file else [WEIGHTS, "open_clip_pytorch_model.bin"], model_id)


def _create(name: str, model_id: str, **options: Any) -> Any:
    """open_clip.create_model, its many ways to fail in one line; weights are never unpickled."""
    try:
        return open_clip.create_model(name, weights_only=True, **options)
    except Exception as error:
        raise BackboneError(_explain(model_id, error)) from error


def _explain(model_id: str, error: Exception) -> str:
    if "download" in str(error):
        return _not_had(model_id, error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"openclip: '{model_id}' can't be loaded ({' '.join(lines[:2]) or type(error).__name__})"


def _unknown(architecture: str, model_id: str) -> str:
    near = get_close_matches(architecture, open_clip.list_models(), n=1)
    hint = f"; did you mean {near[0]}?" if near else "; `python -c 'import open_clip; print(open_clip.list_models())'` lists them"
    return f"openclip: '{model_id}' is neither a directory nor ARCH/TAG with an architecture that open_clip knows{hint}"


def _check_checkpoint(architecture: str, weights: str, model_id: str) -> None:
    path = Path(weights).expanduser()
    if path.suffix in CHECKPOINTS and path.is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    near = get_close_matches(weights, tags, n=1) or tags[:1]
    hint = f"{architecture}/{near[0]}, " if near else ""
    asked = f"'{weights}' is neither a tag of {architecture} nor a checkpoint file" if weights else f"'{model_id}' names no weights"
    raise BackboneError(f"openclip: {asked}; try {hint}{architecture}/{UNTRAINED} for random weights, or {architecture}/path/to/checkpoint.pt")


def _check(config: dict[str, Any], model_id: str) -> None:
    """Refuse in words what would be computed wrongly."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    size = vision.get("image_size", 224)
    reasons = {
        "it is a CoCa model": "multimodal_cfg" in config,
        "its text tower comes from transformers": "hf_model_name" in text,
        "it has a tokenizer of its own": "hf_tokenizer_name" in text or bool(text.get("tokenizer_kwargs")),
        "its vocabulary is not CLIP's": text.get("vocab_size", VOCAB_SIZE) != VOCAB_SIZE,
        "its text tower has a class token": bool(text.get("embed_cls")),
        "its towers give tokens": bool(text.get("output_tokens") or vision.get("output_tokens")),
        "its images are not square": isinstance(size, list | tuple) and len(set(size)) != 1,
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise BackboneError(f"openclip: '{model_id}' is not supported: {reason}; architectures with CLIP's own vocabulary are, such as ViT-B-32")


def _image_spec(preprocess: dict[str, Any], model_id: str) -> ImageSpec:
    """What the model's own preprocess_cfg says."""
    size = preprocess["size"]
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise BackboneError(f"openclip: '{model_id}' takes images of {size} pixels; only square ones are supported")
    fill = int(preprocess["fill_color"])
    return ImageSpec(
        size=int(sides.pop()),
        mode=preprocess["resize_mode"],
        mean=_three(preprocess["mean"]),
        std=_three(preprocess["std"]),
        crop_rounding="round",
        interpolation="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",  # "random" means bicubic outside training
        fill=(fill, fill, fill),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _text_spec(tower: Any) -> TextSpec:
    """Only a causal tower that reads its first end token gives the same embedding for a shorter text."""
    pool, end = _pooling(tower)
    causal = tower.attn_mask is not None
    exact = causal and (pool == "argmax" or (pool == "eos" and end == VOCAB_SIZE - 1))
    return TextSpec(
        context_length=int(tower.context_length),
        pad_id=0,
        padding="longest" if exact else "context",
        cleaning="clip",
        tokenizer_json=tokenizer_json(),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs to the root logger, and would give it a handler; that and the hub's retries are put back after."""
    root, silent, hub = logging.getLogger(), logging.NullHandler(), huggingface_hub.logging.get_verbosity()
    disabled, root.disabled = root.disabled, True
    root.addHandler(silent)
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        huggingface_hub.logging.set_verbosity(hub)
        root.removeHandler(silent)
        root.disabled = disabled
