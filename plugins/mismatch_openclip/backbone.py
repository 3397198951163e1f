"""A model of open_clip as a Backbone."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import CustomResidualAttentionBlock, text_global_pool
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.errors import BackboneError
from mismatch.specs import ImageSpec
from mismatch_openclip.tokenizer import TextSource

__all__ = ["CONFIG", "TEXT_CONFIG", "WEIGHTS", "OpenClipBackbone"]

CLIP_THRESHOLD = 0.25  # cosine, from which trained CLIP models call a pair a match
# open_clip's own names
CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
TEXT_CONFIG = "config.json"  # of a text tower of transformers, by their own name


class OpenClipBackbone(Backbone):
    """The two towers of an open_clip CLIP, CustomTextCLIP or CoCa."""

    shared_space = True

    def __init__(
        self,
        model: Any,
        model_config: dict[str, Any],
        model_id: str,
        texts: TextSource,
        *,
        trained: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.model_config = model_config
        self.model_id = model_id
        self.texts = texts
        self.image_dim = self.text_dim = int(model_config["embed_dim"])
        self.logit_scale = float(model.logit_scale.detach().exp())
        self.logit_bias = None if model.logit_bias is None else float(model.logit_bias.detach())
        self.zero_shot_threshold = CLIP_THRESHOLD if trained and model.logit_bias is None else None
        self.image_spec = _image_spec(model.visual.preprocess_cfg, model_id)
        self.text_spec = replace(
            texts.spec,
            padding="longest" if _ignores_padding(_text_tower(model), texts) else "context",
        )
        self.eval()

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Embed images: (B, 3, S, S) → (B, image_dim), not normalised."""
        return _pooled(self.model.visual(pixel_values))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts: (B, L), twice → (B, text_dim), not normalised; L ≤ context_length. A tower
        that needs a mask makes its own of the ids, as upstream does.
        """
        tower = _text_tower(self.model)
        if isinstance(tower, HFTextEncoder):
            return _encode_masked(tower, input_ids)
        if self.text_spec.padding == "longest":
            return _encode_causal(tower, input_ids)
        if self.texts.class_id is not None:
            last = input_ids.new_full((input_ids.shape[0], 1), self.texts.class_id)
            input_ids = torch.cat([input_ids, last], dim=1)  # (B, L + 1)
        return _pooled(
            tower.encode_text(input_ids) if isinstance(tower, open_clip.CLIP) else tower(input_ids)
        )

    def save_pretrained(self, directory: Path) -> None:
        """Write open_clip_config.json and open_clip_model.safetensors, as open_clip's `local-dir:`
        reads them, and the tokenizer where it is not CLIP's.

        A text tower of transformers adds its config.json, which open_clip itself would ask the
        model hub for.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_cfg": self.model_config,
            "preprocess_cfg": self.model.visual.preprocess_cfg,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        if self.texts.files is not None:
            self.texts.files.save_pretrained(folder)
        if isinstance(tower := _text_tower(self.model), HFTextEncoder):
            tower.config.to_json_file(folder / TEXT_CONFIG, use_diff=True)

    def checkpoint_gradients(self) -> None:
        """Checkpoint layer by layer, as far as open_clip offers it for this model."""
        # which open_clip calls with too many arguments
        if any(isinstance(module, CustomResidualAttentionBlock) for module in self.model.modules()):
            super().checkpoint_gradients()
        try:
            with warnings.catch_warnings():
                # open_clip asks transformers for it by an older name
                warnings.simplefilter("ignore", FutureWarning)
                self.model.set_grad_checkpointing(True)
        # of towers of timm and transformers that can't, and of ResNets
        except (AssertionError, AttributeError, NotImplementedError):
            super().checkpoint_gradients()

    def upstream_transform(self, image: Image.Image) -> Tensor:
        """Preprocess an RGB image as open_clip itself does → (3, S, S)."""
        pixels: Tensor = image_transform_v2(
            PreprocessCfg(**self.model.visual.preprocess_cfg), is_train=False
        )(image)
        return pixels

    def upstream_tokenizer(self, texts: list[str]) -> Tensor:
        """Return open_clip's own ids, (B, context_length); without the class token that CLIPS
        appends to every text, which `encode_text` adds.
        """
        return self.texts.upstream(texts)[:, : self.text_spec.context_length]

    def upstream_encode_image(self, images: list[Image.Image]) -> Tensor:
        """Embed images by open_clip's own preprocessing and tower."""
        pixels = torch.stack([self.upstream_transform(image) for image in images])  # (N, 3, S, S)
        return _pooled(self.model.encode_image(pixels.to(self.device)))

    def upstream_encode_text(self, texts: list[str]) -> Tensor:
        """Embed texts by open_clip's own tokenizer and tower, padded to context_length."""
        return _pooled(self.model.encode_text(self.texts.upstream(texts).to(self.device)))


# --- towers


def _text_tower(model: Any) -> Any:
    return getattr(model, "text", model)


def _pooled(output: Any) -> Tensor:
    """Return a tower's embedding; one that also gives its tokens (CoCa's) gives them second."""
    embedding: Tensor = output[0] if isinstance(output, tuple) else output
    return embedding


def _ignores_padding(tower: Any, texts: TextSource) -> bool:
    """Return whether a text embeds the same at its own length as padded to context_length: pads are
    masked, or nothing looks past the end token.
    """
    pad = texts.spec.pad_id
    if isinstance(tower, HFTextEncoder):
        return bool(
            tower.config.pad_token_id == pad
            and isinstance(tower.pooler, MeanPooler | ClsPooler | ClsLastHiddenStatePooler)
        )
    if (
        tower.attn_mask is None
        or getattr(tower, "cls_emb", None) is not None
        or texts.class_id is not None
    ):
        return False
    pool, end = _pooling(tower)
    if pool == "argmax":  # the first of the largest ids
        return pad <= max(texts.always, default=0)
    return pool == "eos" and (end != pad or end in texts.always)


def _encode_causal(tower: Any, input_ids: Tensor) -> Tensor:
    """Compute what open_clip's encode_text does, for any length: a causal tower never looks past
    its end token.
    """
    length = input_ids.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    # (B, L, W)
    x = tower.token_embedding(input_ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    pooled: Tensor = text_global_pool(tower.ln_final(x), input_ids, *_pooling(tower))  # (B, W)
    if tower.text_projection is None:
        return pooled
    projected: Tensor = (
        tower.text_projection(pooled)
        if isinstance(tower.text_projection, nn.Linear)
        else pooled @ tower.text_projection
    )
    return projected


def _encode_masked(tower: Any, input_ids: Tensor) -> Tensor:
    """Compute what HFTextEncoder does, without the tokens that it picks out with a mask, which has
    no ONNX form.
    """
    mask = (input_ids != tower.config.pad_token_id).long()  # (B, L)
    output = tower.transformer(input_ids=input_ids, attention_mask=mask)
    projected: Tensor = tower.proj(tower.pooler(output, mask))
    return projected


def _pooling(tower: Any) -> tuple[str, int]:
    """Return how the tower pools; CLIP keeps its parts under other names than TextTransformer."""
    return (
        (tower.text_pool_type, tower.text_eos_id)
        if isinstance(tower, open_clip.CLIP)
        else (tower.pool_type, tower.eos_id)
    )


# --- specs


def _image_spec(preprocess: dict[str, Any], model_id: str) -> ImageSpec:
    """Return what the model's own preprocess_cfg says; BackboneError where images aren't square."""
    size = preprocess["size"]
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise BackboneError(
            f"openclip: '{model_id}' takes images of {size} pixels; only square ones are supported"
        )
    fill = int(preprocess["fill_color"])
    return ImageSpec(
        size=int(sides.pop()),
        mode=preprocess["resize_mode"],
        mean=_three(preprocess["mean"]),
        std=_three(preprocess["std"]),
        crop_rounding="round",
        # "random" means bicubic outside training
        interpolation="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        fill=(fill, fill, fill),
    )


def _three(values: Any) -> tuple[float, float, float]:
    """Return three numbers; one stands for all channels."""
    red, green, blue = (
        float(value) for value in (values if isinstance(values, list | tuple) else [values] * 3)
    )
    return red, green, blue
