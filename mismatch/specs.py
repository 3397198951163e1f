"""How images and texts become tensors and logits become scores, as data: frozen dataclasses that a
backbone supplies and a bundle carries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from mismatch.errors import InputError
from mismatch.score_specs import (
    Calibration,
    LongText,
    ReviewBand,
    ScoreKind,
    ScoreSpec,
    SliceThresholds,
    Threshold,
)
from mismatch.spec_base import LARGEST_INTEGER, Spec, brief, check_choice

__all__ = [
    "FEATURES",
    "IMAGE_FEATURES",
    "TEXT_FEATURES",
    "Calibration",
    "HeadSpec",
    "ImageSpec",
    "LongText",
    "ReviewBand",
    "ScoreKind",
    "ScoreSpec",
    "SliceThresholds",
    "TextSpec",
    "Threshold",
]

RGB = tuple[float, float, float]
LARGEST_SIDE = 8_192  # pixels, and
LONGEST_CONTEXT = 65_536  # tokens, beyond which a damaged or hostile file asks for gigabytes
WIDEST = 65_536  # of embeddings and layers, likewise
MAX_HEAD_MEMBERS = 256  # of a head, likewise
LARGEST_LEVEL = 255  # of a channel


ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
CropRounding = Literal["floor", "round"]
ColourProfile = Literal["convert", "ignore"]


@dataclass(frozen=True)
class ImageSpec(Spec):
    """RGB image → pixel_values (3, size, size).

    `shortest` resizes the shorter side to `resize` and crops the centre. `longest` resizes the
    longer side to `size` and pads with `fill`. `squash` resizes both sides to `resize` and crops
    the centre.

    `size`: pixels, side of the square that the tower sees.
    `mean`: mean of each channel, 0..1.
    `std`: standard deviation of each channel, 0..1.
    `resize`: pixels, shorter side (squash: both sides) before the crop; 0: the same as size.
    `mode`: how the image becomes a square: shortest, longest or squash, as above.
    `crop_rounding`: of a half-pixel crop offset, round or floor: torchvision rounds, HF processors
        floor.
    `interpolation`: filter of the resizing: nearest, bilinear, bicubic or lanczos, as PIL's.
    `background`: colour, 0..255, that shows through transparent pixels.
    `fill`: colour, 0..255, of the padding in mode longest.
    `colour_profile`: that an image brings: convert its colours to sRGB by it, or ignore it. Files
        of earlier versions, which lack this field, mean ignore.
    """

    size: int
    mean: RGB
    std: RGB
    resize: int = 0
    mode: ResizeMode = "shortest"
    crop_rounding: CropRounding = "round"
    interpolation: Interpolation = "bicubic"
    background: tuple[int, int, int] = (255, 255, 255)
    fill: tuple[int, int, int] = (0, 0, 0)
    colour_profile: ColourProfile = "convert"

    def __post_init__(self) -> None:
        check_choice(self, "colour_profile", ColourProfile)
        check_choice(self, "mode", ResizeMode)
        check_choice(self, "interpolation", Interpolation)
        check_choice(self, "crop_rounding", CropRounding)
        if not (1 <= self.size <= LARGEST_SIDE and 0 <= self.resize <= LARGEST_SIDE):
            raise InputError(
                f"ImageSpec.size is {self.size} and resize {self.resize}; positive numbers of"
                f" pixels up to {LARGEST_SIDE:,} are needed"
            )
        if not all(spread > 0 for spread in self.std):
            raise InputError(
                f"ImageSpec.std is {brief(self.std)}; three numbers above 0 are needed"
            )
        if not all(0 <= level <= LARGEST_LEVEL for level in (*self.background, *self.fill)):
            raise InputError(
                f"ImageSpec.background is {brief(self.background)} and fill {brief(self.fill)};"
                f" levels of 0 to {LARGEST_LEVEL} are needed"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types. What `ignore` means is what earlier versions did, and it is
        written as they wrote it: embeddings in a cache stay those of the same spec.
        """
        data = super().to_dict()
        if self.colour_profile == "ignore":
            del data["colour_profile"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any], **more: Any) -> Self:
        """Rebuild from `to_dict`."""
        cls._check_object(data)
        return super().from_dict({"colour_profile": "ignore", **data}, **more)

    @property
    def resize_to(self) -> int:
        """Return the pixels of the shorter side (squash: of both sides) before the crop."""
        return self.resize or self.size


Padding = Literal["longest", "context"]
Cleaning = Literal["none", "clip", "whitespace", "canonicalize"]


@dataclass(frozen=True)
class TextSpec(Spec):
    """Text → input_ids and attention_mask, both (L,), L ≤ context_length.

    Cleaning: `whitespace` mends the encoding (ftfy), resolves HTML entities twice and folds white
    space; `clip` then makes it lower case; `canonicalize` drops the ASCII punctuation too.

    `context_length`: most tokens of a text, special ones included.
    `pad_id`: token with which shorter texts are padded, 0 or more.
    `padding`: longest: a shorter L gives the same embedding; context: always pad to context_length.
    `cleaning`: what is done to a text before the tokenizer, as above; none: nothing.
    `tokenizer_json`: the text of a Hugging Face tokenizers file; a file of its own on disk.
    """

    context_length: int
    pad_id: int
    padding: Padding
    cleaning: Cleaning = "none"
    tokenizer_json: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_choice(self, "padding", Padding)
        check_choice(self, "cleaning", Cleaning)
        if not 1 <= self.context_length <= LONGEST_CONTEXT:
            raise InputError(
                f"TextSpec.context_length is {self.context_length}; a number of tokens up to"
                f" {LONGEST_CONTEXT:,} is needed"
            )
        if not 0 <= self.pad_id <= LARGEST_INTEGER:
            raise InputError(f"TextSpec.pad_id is {self.pad_id}; the id of a token is needed")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without `tokenizer_json`, which travels as tokenizer.json."""
        return {key: value for key, value in super().to_dict().items() if key != "tokenizer_json"}


HeadKind = Literal["adapter", "cosine", "zero-shot"]
Normalisation = Literal["layer", "standard"]
# what a head may see of an image besides its embedding, in this order
IMAGE_FEATURES = ("levels", "colour")
TEXT_FEATURES = ("levels",)  # and of a text
FEATURES = ("image-levels", "colour", "text-levels")  # both, by the names that users give


@dataclass(frozen=True)
class HeadSpec(Spec):
    """What joins an image embedding (image_dim) and a text embedding (text_dim) into one logit.

    `kind`: adapter: MLPs and scaled cosine; cosine: scale and bias only; zero-shot: the plain
        cosine.
    `image_dim`: width of an image embedding.
    `text_dim`: width of a text embedding.
    `common_dim`: width in which adapter compares; image_dim where both widths are equal.
    `hidden_dim`: width of adapter's hidden layers.
    `dropout`: 0..1, of adapter in training only.
    `image_features`: of IMAGE_FEATURES, adapter; files of earlier versions, which lack these
        fields, mean none and 1 member.
    `image_features_dim`: width of these together.
    `text_features`: of TEXT_FEATURES, adapter.
    `text_features_dim`: width of these together.
    `normalisation`: of what adapter is given: a LayerNorm, or mean and spread over the training
        rows (standard).
    `members`: adapters side by side, whose cosines are averaged.
    """

    kind: HeadKind
    image_dim: int
    text_dim: int
    common_dim: int = 512
    hidden_dim: int = 512
    dropout: float = 0.1
    image_features: tuple[str, ...] = ()
    image_features_dim: int = 0
    text_features: tuple[str, ...] = ()
    text_features_dim: int = 0
    normalisation: Normalisation = "layer"
    members: int = 1

    def __post_init__(self) -> None:
        check_choice(self, "kind", HeadKind)
        check_choice(self, "normalisation", Normalisation)
        _check_sizes(self)
        for name, allowed in (("image_features", IMAGE_FEATURES), ("text_features", TEXT_FEATURES)):
            value = getattr(self, name)
            if value != tuple(kind for kind in allowed if kind in value):
                raise InputError(
                    f"HeadSpec.{name} is {', '.join(value)}; some of {', '.join(allowed)} in this"
                    " order is needed"
                )
        if (self.image_features or self.text_features) and self.kind != "adapter":
            raise InputError(
                f"the {self.kind} head compares embeddings alone; for further features use the"
                " adapter head"
            )
        if self.kind != "adapter" and self.image_dim != self.text_dim:
            raise InputError(
                f"the {self.kind} head needs equal widths, but images are {self.image_dim} wide and"
                f" texts {self.text_dim}; use the adapter head"
            )

    @property
    def image_width(self) -> int:
        """Return the width of what the head is given of an image: the embedding and, behind it, its
        features.
        """
        return self.image_dim + self.image_features_dim

    @property
    def text_width(self) -> int:
        """Return the width of what the head is given of a text."""
        return self.text_dim + self.text_features_dim


def _check_sizes(head: HeadSpec) -> None:
    """Refuse what would ask for gigabytes, or for nothing."""
    for name in ("image_dim", "text_dim", "common_dim", "hidden_dim"):
        if not 1 <= getattr(head, name) <= WIDEST:
            raise InputError(
                f"HeadSpec.{name} is {getattr(head, name)}; a width up to {WIDEST:,} is needed"
            )
    for name in ("image_features_dim", "text_features_dim"):
        if not 0 <= getattr(head, name) <= WIDEST:
            raise InputError(
                f"HeadSpec.{name} is {getattr(head, name)}; a width up to {WIDEST:,} is needed"
            )
    if not 1 <= head.members <= MAX_HEAD_MEMBERS:
        raise InputError(
            f"HeadSpec.members is {head.members}; up to {MAX_HEAD_MEMBERS} are possible"
        )
    if not 0 <= head.dropout <= 1:
        raise InputError(f"HeadSpec.dropout is {head.dropout}; a share from 0 to 1 is needed")
