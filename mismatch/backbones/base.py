"""Backbone: two towers that embed images and texts. What a plugin writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from mismatch.errors import BackboneError
from mismatch.specs import ImageSpec, TextSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, ABC):
    """Two towers that embed images and texts; a subclass sets the attributes below in its
    `__init__`.

    What it declares decides which checks of `mismatch.testing.contract` apply to it.
    """

    image_dim: int  # width of an image embedding
    text_dim: int  # width of a text embedding; may differ from image_dim
    # True: cosine between the towers already means something (CLIP), so zero-shot works
    shared_space: bool
    # what upstream multiplies its cosine with (CLIP: about 100); None where it knows nothing
    logit_scale: float | None
    logit_bias: float | None  # what upstream adds (SigLIP: about -13)
    # cosine from which zero-shot calls a pair a match (CLIP: 0.25)
    zero_shot_threshold: float | None
    image_spec: ImageSpec
    text_spec: TextSpec
    model_id: str  # what `load` was asked for; a checkpoint records it
    commit: str = ""  # 40 hex digits, of the hub's repository; "": its weights come from no hub
    levels_dim: int = 0  # width of `image_levels`; 0: it offers none
    text_levels_dim: int = 0  # width of `text_levels`; 0: it offers none
    # True: claims that its towers, dynamically quantised, embed nearly as in fp32
    # (contract.INT8_COSINE)
    int8: bool = False

    @abstractmethod
    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Embed images: (B, 3, S, S) → (B, image_dim), not normalised."""

    @abstractmethod
    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts: (B, L), twice → (B, text_dim), not normalised; L ≤ context_length."""

    @abstractmethod
    def save_pretrained(self, directory: Path) -> None:
        """Write weights, configuration and preprocessing in upstream's own format and file names;
        `load(directory)` reads them back.
        """

    def image_levels(self, pixel_values: Tensor) -> Tensor:
        """Return, optionally, pooled features of earlier layers, which remember colour and texture:
        (B, 3, S, S) → (B, levels_dim).
        """
        return pixel_values.new_zeros(len(pixel_values), 0)  # (B, 0)

    def encode_image_and_levels(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return `encode_image` and `image_levels` of (B, 3, S, S). A backbone that offers levels
        computes both in one pass here, at half the price.
        """
        return self.encode_image(pixel_values), self.image_levels(pixel_values)

    def text_levels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return, optionally, pooled features of earlier layers, which remember the words: (B, L),
        twice → (B, text_levels_dim).
        """
        return attention_mask.new_zeros((len(input_ids), 0), dtype=torch.float32)  # (B, 0)

    def encode_text_and_levels(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return `encode_text` and `text_levels` of (B, L), twice. A backbone that offers levels
        computes both in one pass here.
        """
        return self.encode_text(input_ids, attention_mask), self.text_levels(
            input_ids, attention_mask
        )

    def blocks(self) -> list[nn.Module]:
        """Return, optionally, the modules that both towers repeat, in any order, for
        `tune="last-N"`, `tune="lora"`, `layer_decay` and `fsdp`.

        Training sees by running them which tower and place each has, and leaves out those that the
        gradient passes by. By default: whatever has layers of its own and stands with another of
        its class in an nn.ModuleList or nn.Sequential.
        """
        return _repeated(self)

    def checkpoint_gradients(self) -> None:
        """Compute layers again in the backward pass of training from here on, instead of keeping
        what they gave. This is optional; the gradients stay the same.
        """
        raise BackboneError(
            f"{self.model_id} offers no gradient checkpointing; leave `gradient_checkpointing` out,"
            " or lower `batch_size`"
        )

    def upstream_transform(self, image: Image.Image) -> Tensor | None:
        """Return, optionally, upstream's own preprocessing of an RGB image, (3, S, S), to compare
        `image_spec` with.
        """
        return None

    def upstream_tokenizer(self, texts: list[str]) -> Tensor | None:
        """Return, optionally, upstream's ids, (B, context_length), to compare `text_spec` with."""
        return None

    def upstream_encode_image(self, images: list[Image.Image]) -> Tensor | None:
        """Map RGB images, optionally, by upstream's own whole path → (N, image_dim) of any length,
        to compare transform and tower with.
        """
        return None

    def upstream_encode_text(self, texts: list[str]) -> Tensor | None:
        """Map texts, optionally, by upstream's own whole path → (N, text_dim) of any length, to
        compare tokenizer and tower with.
        """
        return None

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return next(self.parameters()).device


def _repeated(module: nn.Module) -> list[nn.Module]:
    """Return composite modules among their like in a list, at every depth, outer before inner."""
    repeated: list[nn.Module] = []
    for parent in module.modules():
        if isinstance(parent, nn.ModuleList | nn.Sequential):
            composite = [child for child in parent if any(True for _ in child.children())]
            kinds = Counter(map(type, composite))
            repeated += [child for child in composite if kinds[type(child)] > 1]
    return list(dict.fromkeys(repeated))
