"""Backbones: toys of a few weights, and the families' tiny models."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.backbones.families import BackboneFamily
from mismatch.backbones.hookspecs import Load
from mismatch.backbones.registry import load_backbone
from tests.support.engines import WORDS, ColourEngine

__all__ = ["LevelledBackbone", "MeanColour", "ToyBackbone", "tiny", "toy_family"]

WEIGHTS = "towers.safetensors"


class MeanColour(nn.Module):
    """(B, 3, S, S) → (B, 3)."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        return pixel_values.mean((2, 3))


class ToyBackbone(Backbone):
    """Towers of unlike widths without a shared space, which see images of 8 pixels and `WORDS`: any
    module for images, by default a layer over the mean colour, and a bag of words.
    """

    shared_space = False
    logit_scale = logit_bias = zero_shot_threshold = None

    def __init__(
        self,
        image_tower: nn.Module | None = None,
        widths: tuple[int, int] = (12, 7),
        *,
        model_id: str = "small",
        rounds: bool = False,
    ) -> None:
        """Read the weights again where `model_id` is a folder; `rounds`: to halves, as some
        upstream might.
        """
        super().__init__()
        engine = ColourEngine()
        self.image_spec = engine.image_spec
        self.text_spec = engine.text_spec
        self.image_dim, self.text_dim = widths
        self.model_id = model_id
        self.image_tower = image_tower or nn.Sequential(MeanColour(), nn.Linear(3, widths[0]))
        self.words = nn.Embedding(len(WORDS), widths[1])
        if Path(model_id).is_dir():
            weights = load_file(Path(model_id) / WEIGHTS)
            if rounds:
                weights = {name: tensor.half() for name, tensor in weights.items()}
            self.load_state_dict(weights)

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        return self.image_tower(pixel_values)  # type: ignore[no-any-return]

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words: Tensor = self.words(input_ids)  # (B, L, D)
        return (words * attention_mask[..., None]).sum(1)

    def save_pretrained(self, directory: Path) -> None:
        save_file(self.state_dict(), directory / WEIGHTS)


class LevelledBackbone(ToyBackbone):
    """Towers 5 and 4 wide with 6 and 3 features of earlier layers; counts how often its first layer
    runs.
    """

    levels_dim, text_levels_dim = 6, 3

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 5), (5, 3))
        self.text_dim = 4
        self.first, self.text = nn.Conv2d(3, 6, 3), nn.Linear(3, 4)
        self.runs = 0

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        return self.encode_image_and_levels(pixel_values)[0]

    def image_levels(self, pixel_values: Tensor) -> Tensor:
        return self.encode_image_and_levels(pixel_values)[1]

    def encode_image_and_levels(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        self.runs += 1
        levels = self.first(pixel_values).relu().mean((2, 3))  # (B, 6)
        return self.image_tower(levels), levels

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.text(self.text_levels(input_ids, attention_mask))  # type: ignore[no-any-return]

    def text_levels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return super().encode_text(input_ids, attention_mask)


def toy_family(name: str, load: Load) -> BackboneFamily:
    """Return a family whose model `small` is what `load` gives."""
    return BackboneFamily(name, load, ("small",), "small", "", 1, "none", "0", name, "none")


def tiny(family: str) -> Backbone:
    """Return a copy of a family's tiny model, which is built once."""
    return deepcopy(_built_once(f"{family}:tiny"))


@cache
def _built_once(reference: str) -> Backbone:
    return load_backbone(reference)
