"""How images and texts become tensors and logits become scores, as data: frozen dataclasses that a
backbone supplies and a bundle carries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, Self

from mismatch.errors import InputError
from mismatch.reference import Reference
from mismatch.spec_base import LARGEST_INTEGER, Spec, brief, check_choice

__all__ = [
    "FEATURES",
    "IMAGE_FEATURES",
    "TEXT_FEATURES",
    "Calibration",
    "HeadSpec",
    "ImageSpec",
    "ReviewBand",
    "ScoreSpec",
    "SliceThresholds",
    "TextSpec",
    "Threshold",
]

RGB = tuple[float, float, float]
LARGEST_SIDE = 8_192  # pixels, and
LONGEST_CONTEXT = 65_536  # tokens, beyond which a damaged or hostile file asks for gigabytes
WIDEST = 65_536  # of embeddings and layers, likewise
MOST_MEMBERS = 256  # of a head, likewise
LARGEST_LEVEL = 255  # of a channel


ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
CropRounding = Literal["floor", "round"]


@dataclass(frozen=True)
class ImageSpec(Spec):
    """RGB image → pixel_values (3, size, size).

    `shortest` resizes the shorter side to `resize` and crops the centre. `longest` resizes the
    longer side to `size` and pads with `fill`. `squash` resizes both sides to `resize` and crops
    the centre.
    """

    size: int  # pixels, side of the square that the tower sees
    mean: RGB  # of the channels, on 0..1
    std: RGB  # of the channels, on 0..1
    # pixels, shorter side (squash: both sides) before the crop; 0: the same as size
    resize: int = 0
    mode: ResizeMode = "shortest"
    # what a half-pixel crop offset becomes: torchvision rounds, HF processors floor
    crop_rounding: CropRounding = "round"
    interpolation: Interpolation = "bicubic"
    # 0..255, what shows through transparent pixels
    background: tuple[int, int, int] = (255, 255, 255)
    fill: tuple[int, int, int] = (0, 0, 0)  # 0..255, padding of mode longest

    def __post_init__(self) -> None:
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
    space. `clip` then makes it lower case; `canonicalize` drops the ASCII punctuation too.
    """

    context_length: int  # tokens, special ones included
    pad_id: int
    # longest: a shorter L gives the same embedding; context: always pad to context_length
    padding: Padding
    cleaning: Cleaning = "none"  # before the tokenizer
    # the text of a Hugging Face tokenizers file; a file of its own on disk
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
    """What joins an image embedding (image_dim) and a text embedding (text_dim) into one logit."""

    # adapter: MLPs and scaled cosine; cosine: scale and bias only; zero-shot: the plain cosine
    kind: HeadKind
    image_dim: int
    text_dim: int
    common_dim: int = 512  # width in which adapter compares; image_dim where both widths are equal
    hidden_dim: int = 512  # width of adapter's hidden layers
    dropout: float = 0.1  # 0..1, adapter, training only
    # of IMAGE_FEATURES, adapter; files of earlier versions, which lack these fields, mean none and
    # 1 member
    image_features: tuple[str, ...] = ()
    image_features_dim: int = 0  # width of these together
    text_features: tuple[str, ...] = ()  # of TEXT_FEATURES, adapter
    text_features_dim: int = 0
    # adapter's inputs: a LayerNorm, or mean and spread over the training rows (standard)
    normalisation: Normalisation = "layer"
    members: int = 1  # adapters side by side, whose cosines are averaged

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
    if not 1 <= head.members <= MOST_MEMBERS:
        raise InputError(f"HeadSpec.members is {head.members}; up to {MOST_MEMBERS} are possible")
    if not 0 <= head.dropout <= 1:
        raise InputError(f"HeadSpec.dropout is {head.dropout}; a share from 0 to 1 is needed")


CalibrationKind = Literal["temperature", "platt", "piecewise"]


@dataclass(frozen=True)
class Calibration(Spec):
    """probability = sigmoid(bend(slope · logit + intercept)).

    `temperature` has no intercept, `platt` both; `piecewise` bends the log-odds along straight
    lines between knots, the outer ones going on without end.
    """

    slope: float  # > 0, so that ranks stay
    intercept: float
    rows: int  # validation rows that it was fitted on
    # files of earlier versions, which lack this and the next two, mean platt
    kind: CalibrationKind = "platt"
    knots: tuple[float, ...] = ()  # log-odds before the bend, rising; piecewise only
    bent: tuple[float, ...] = ()  # log-odds after it, at the knots, rising too

    def __post_init__(self) -> None:
        check_choice(self, "kind", CalibrationKind)
        if (
            (self.kind == "piecewise") != (len(self.knots) > 1)
            or len(self.knots) != len(self.bent)
            or not self.slope > 0
        ):
            raise InputError(
                f"a {self.kind} calibration of slope {self.slope} has {len(self.knots)} knots and"
                f" {len(self.bent)} values; calibrate again"
            )
        if not all(a < b for line in (self.knots, self.bent) for a, b in pairwise(line)):
            raise InputError(
                "the knots of a calibration and their values must rise; calibrate again"
            )


@dataclass(frozen=True)
class Threshold(Spec):
    """A decision threshold and where it came from."""

    value: float  # on similarity_score: probability 0..1, or cosine -1..1 for zero-shot
    objective: str  # what it maximises or keeps, as `evaluation.objectives` writes it
    rows: int  # validation rows that it was chosen on
    date: str  # ISO 8601, UTC


@dataclass(frozen=True)
class ReviewBand(Spec):
    """low <= similarity_score < high: a person should look."""

    low: float  # on similarity_score
    high: float
    rows: int = 0  # validation rows that it was chosen on; 0: given by hand
    # share of errors, at most, on each side of the band, that it was chosen for
    max_risk: float | None = None

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise InputError(
                f"a review band from {self.low} to {self.high} is none; give the lower score first"
            )

    def __contains__(self, score: float) -> bool:
        return self.low <= score < self.high

    def holds_threshold(self, threshold: float) -> bool:
        """Return whether all scores below the band are mismatches by this threshold, and all from
        its end on matches.

        Only then are the decisions outside the band those that it was chosen for.
        """
        return self.low <= threshold <= self.high

    def check_thresholds(self, thresholds: Iterable[float], option: str = "review_band") -> None:
        """Refuse a band, given as this `option`, that does not hold one of the thresholds in use:
        InputError.
        """
        for threshold in thresholds:
            if not self.holds_threshold(threshold):
                raise InputError(
                    f"`{option}` from {self.low:g} to {self.high:g} does not hold the threshold"
                    f" {threshold:.4f}, by which the rows outside of it are decided; pass one that"
                    " does",
                    option=option,
                )


@dataclass(frozen=True)
class SliceThresholds(Spec):
    """Thresholds of their own for some values of a column, such as languages or categories; any
    other value has the model's.
    """

    column: str
    values: dict[str, float]  # value of the column → threshold on similarity_score
    rows: dict[str, int]  # that each was chosen on


ScoreKind = Literal["probability", "cosine"]
LongText = Literal["truncate", "chunk", "chunk-mean"]


@dataclass(frozen=True)
class ScoreSpec(Spec):
    """How logits become `similarity_score`, and from where on that is a match.

    `long_text` says what becomes of a text that is longer than the text tower's context. `truncate`
    scores it without its end. The others cut it into pieces that fit and score each: the worst
    piece decides (`chunk`), or the mean of their logits (`chunk-mean`).
    """

    kind: ScoreKind
    # used where none is stored: 0.5 for a trained model, the backbone's own for zero-shot
    default_threshold: float
    calibration: Calibration | None = None
    threshold: Threshold | None = None
    # files of earlier versions, which lack this and the next four, mean truncate and none
    long_text: LongText = "truncate"
    review: ReviewBand | None = None
    slices: SliceThresholds | None = None
    earlier: tuple[Threshold, ...] = ()  # thresholds that were stored before, the oldest first
    reference: Reference | None = None  # bundles that were exported with --verify-csv

    def __post_init__(self) -> None:
        check_choice(self, "kind", ScoreKind)
        check_choice(self, "long_text", LongText)
        if self.review is not None and self.slices is not None:
            raise InputError(
                "a review band and thresholds by slice don't go together; store one of the two"
            )

    @property
    def threshold_in_use(self) -> float:
        """Return the stored threshold, else the default one."""
        return self.default_threshold if self.threshold is None else self.threshold.value

    @classmethod
    def from_dict(cls, data: dict[str, Any], **more: Any) -> Self:
        """Rebuild from `to_dict`."""
        cls._check_object(data)
        parts: dict[str, Any] = {
            name: kind.from_dict(data[name])
            for name, kind in _PARTS.items()
            if data.get(name) is not None
        }
        earlier = data.get("earlier", ())
        if not isinstance(earlier, list | tuple):
            raise InputError(f"{cls.__name__}.earlier is {brief(earlier)}; a list is needed")
        parts["earlier"] = tuple(Threshold.from_dict(threshold) for threshold in earlier)
        return super().from_dict(data, **parts | more)

    def with_threshold(self, threshold: Threshold) -> Self:
        """Return the same with another threshold; the one so far is remembered, with its date, rows
        and objective.
        """
        return replace(
            self,
            threshold=threshold,
            earlier=self.earlier if self.threshold is None else (*self.earlier, self.threshold),
        )


_PARTS: dict[str, type[Spec]] = {
    "calibration": Calibration,
    "threshold": Threshold,
    "review": ReviewBand,
    "slices": SliceThresholds,
    "reference": Reference,
}
