"""Where a backbone's specs differ from upstream's own transform and tokenizer, and which spec would
agree: the words for its author.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import numpy as np
import tokenizers
from numpy.typing import NDArray
from PIL import Image
from tokenizers import normalizers

from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import (
    RGB,
    Cleaning,
    CropRounding,
    ImageSpec,
    Interpolation,
    ResizeMode,
    TextSpec,
)

__all__ = ["pixel_fault", "token_fault"]

Array = NDArray[np.float32]
# levels of 0..255: a mean that is wrong by more shows; torchvision and Pillow round unlike, by less
# on average
OFFSET = 0.3
GAIN = 0.003  # share: a std that is wrong by more shows
# one pixel in a thousand may differ by more: torch and Pillow enlarge with weights of other widths
LEVELS = 2.001
FEW = 3  # images that the search for another spec begins with
SHOWN = 6  # ids
SIDE = 100  # pixels of a row that are compared
# resize as a multiple of size, as common recipes have it
RESIZES = (1, 8 / 7, 1 / 0.9, 1 / 0.875, 1 / 0.95, 1 / 0.96)


def pixel_fault(spec: ImageSpec, images: Sequence[Image.Image], theirs: Sequence[Array]) -> str:
    """Say what is wrong with `spec`, given upstream's pixel values (3, S, S) of the same RGB
    images; empty where nothing is.
    """
    if shapes := {value.shape for value in theirs} - {(3, spec.size, spec.size)}:
        return _shape_fault(spec.size, min(shapes))
    if not all(np.isfinite(value).all() for value in theirs):
        return "upstream_transform gives nan or infinity; does it divide by a std of 0?"
    gap, mean, std = _compare(spec, images, theirs)
    if gap <= LEVELS:
        return _statistics_fault(spec, mean, std)
    if _compare(spec, images, [value[::-1] for value in theirs])[0] <= LEVELS:
        return (
            "upstream_transform gives blue, green, red; pixel_values are red, green, blue: flip the"
            " channels in encode_image, and give mean and std as RGB"
        )
    few = [i for i, image in enumerate(images) if image.size != (spec.size, spec.size)][
        :FEW
    ] or list(range(len(images)))[:FEW]
    for changes in _variants(spec):
        other = replace(spec, **changes)
        if _compare(other, [images[i] for i in few], [theirs[i] for i in few])[0] > LEVELS:
            continue
        best, mean, std = _compare(other, images, theirs)
        if best <= LEVELS:
            words = ", ".join(
                f"{name}={value!r}"
                for name, value in changes.items()
                if value != (spec.resize_to if name == "resize" else getattr(spec, name))
            )
            also = _statistics_fault(other, mean, std)
            return (
                f"image_spec resizes otherwise than upstream_transform (by up to {_levels(gap)});"
                f" {words} would agree" + (f". {also}" if also else "")
            )
    return (
        f"image_spec and upstream_transform differ by up to {_levels(gap)}, and no other mode,"
        " interpolation, rounding or usual resize agrees; compare size, resize and crop with"
        " upstream's code"
    )


def _shape_fault(size: int, shape: tuple[int, ...]) -> str:
    if len(shape) != 3 or shape[0] != 3:
        return (
            f"upstream_transform gives {shape} for one image; return (3, {size}, {size}): channels"
            " first, and no batch axis"
        )
    return (
        f"upstream_transform gives {shape}, but image_spec.size is {size}; set it to what upstream"
        " gives"
    )


def _levels(gap: float) -> str:
    return f"{gap:.0f} levels of 255" if gap <= 255 else "more than 255 levels"


def _compare(
    spec: ImageSpec, images: Sequence[Image.Image], theirs: Sequence[Array]
) -> tuple[float, RGB, RGB]:
    """Return the largest difference in levels once mean and std are made to agree (a pixel in a
    thousand aside), and upstream's mean and std.
    """
    # so many pixels are looked at that a large tower takes no minutes
    every = max(1, spec.size // SIDE)
    # (N, 3, S', S')
    ours = np.stack([Preprocessor(spec)(image) for image in images])[..., ::every, ::every].astype(
        np.float64
    )
    upstream = np.stack(theirs)[..., ::every, ::every].astype(np.float64)
    gaps = []
    means = []
    stds = []
    for channel in range(3):
        x = ours[:, channel].ravel() * spec.std[channel] + spec.mean[channel]  # on 0..1
        slope, offset = np.polyfit(x, upstream[:, channel].ravel(), 1)
        slope = slope if abs(slope) > 1e-9 else 1e-9
        gaps.append(
            float(np.quantile(np.abs((upstream[:, channel].ravel() - offset) / slope - x), 0.999))
            * 255
        )
        means.append(float(-offset / slope))
        stds.append(float(1 / slope))
    return max(gaps), (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def _statistics_fault(spec: ImageSpec, mean: RGB, std: RGB) -> str:
    offset = max(abs(a - b) for a, b in zip(mean, spec.mean, strict=True)) * 255
    gain = max(abs(a / b - 1) for a, b in zip(std, spec.std, strict=True))
    if offset <= OFFSET and gain <= GAIN:
        return ""
    return (
        f"image_spec has mean={_short(spec.mean)} and std={_short(spec.std)}, but"
        f" upstream_transform normalises with mean={_short(mean)} and std={_short(std)}"
    )


def _variants(spec: ImageSpec) -> Iterator[dict[str, Any]]:
    """Yield other ways to resize, the likeliest first: one field changed before several."""
    resizes = sorted({spec.resize_to, *(round(spec.size * factor) for factor in RESIZES)})
    variants = [
        {"mode": mode, "interpolation": interpolation, "crop_rounding": rounding, "resize": resize}
        for mode, interpolation, rounding, resize in product(
            get_args(ResizeMode), get_args(Interpolation), get_args(CropRounding), resizes
        )
    ]
    current = {
        "mode": spec.mode,
        "interpolation": spec.interpolation,
        "crop_rounding": spec.crop_rounding,
        "resize": spec.resize_to,
    }
    yield from sorted(
        variants, key=lambda changes: sum(changes[name] != value for name, value in current.items())
    )


def _short(values: RGB) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


def token_fault(spec: TextSpec, texts: Sequence[str], theirs: NDArray[np.int64]) -> str:
    """Say what is wrong with `spec`, given upstream's ids (N, context_length) of the same texts;
    empty where nothing is.
    """
    if theirs.shape[1] != spec.context_length:
        return (
            f"upstream_tokenizer gives {theirs.shape[1]} ids a text, but text_spec.context_length"
            f" is {spec.context_length}; set it to what upstream gives"
        )
    ours = _padded(spec, texts)
    wrong = np.flatnonzero((ours != theirs).any(axis=1))
    if not len(wrong):
        return ""
    if advice := next(
        (
            advice
            for advice, other in _token_variants(spec, theirs)
            if np.array_equal(_padded(other, texts), theirs)
        ),
        "",
    ):
        return (
            f"text_spec gives other ids than upstream_tokenizer for {len(wrong)} of {len(texts)}"
            f" texts; {advice} would agree"
        )
    if _moved_right(theirs, _pad_of(theirs), spec.pad_id) == ours.tolist():
        return (
            "upstream_tokenizer pads on the left, mismatch always on the right; pad on the right"
            " there, and check that encode_text reads the right token then"
        )
    first = int(wrong[0])
    position = int(np.flatnonzero(ours[first] != theirs[first])[0])
    return (
        f"text_spec gives other ids than upstream_tokenizer for {len(wrong)} of {len(texts)} texts,"
        f" first for {texts[first][:40]!r} at position {position}:"
        f" {_told(spec, ours[first, position:])} instead of"
        f" {_told(spec, theirs[first, position:])}; build tokenizer_json from upstream's own"
        " vocabulary and settings"
    )


def _pad_of(theirs: NDArray[np.int64]) -> int:
    """Return upstream's pad, if it pads on the left: what the most texts begin with."""
    values, counts = np.unique(theirs[:, 0], return_counts=True)
    return int(values[counts.argmax()])


def _moved_right(theirs: NDArray[np.int64], pad: int, ours: int) -> list[list[int]]:
    """Return each row with the pads from its beginning at its end, as our own."""
    rows = []
    for row in theirs.tolist():
        start = next((i for i, token in enumerate(row) if token != pad), len(row))
        rows.append(row[start:] + [ours] * start)
    return rows


def _told(spec: TextSpec, ids: NDArray[np.int64]) -> str:
    """Write out the next ids, and what our vocabulary calls them."""
    tokenizer = tokenizers.Tokenizer.from_str(spec.tokenizer_json)
    names = " ".join(str(tokenizer.id_to_token(int(token))) for token in ids[:SHOWN])
    return f"{ids[:SHOWN].tolist()} ({names})"


def _padded(spec: TextSpec, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the texts' ids, (N, context_length)."""
    return Tokenizer(replace(spec, padding="context"))(texts).input_ids


def _token_variants(spec: TextSpec, theirs: NDArray[np.int64]) -> Iterator[tuple[str, TextSpec]]:
    """Yield specs with other pads and cleanings, each with words for its changes."""
    # a short text's last id is the pad, unless upstream pads on the left
    last = int(theirs[:, -1].min())
    pads = dict.fromkeys((spec.pad_id, last))
    for pad, cleaning, lower in product(pads, get_args(Cleaning), (False, True)):
        changes: dict[str, Any] = {
            name: value
            for name, value in (("pad_id", pad), ("cleaning", cleaning))
            if getattr(spec, name) != value
        }
        words = [f"{name}={value!r}" for name, value in changes.items()] + [
            "a Lowercase normalizer in tokenizer_json"
        ] * lower
        if lower:
            changes["tokenizer_json"] = _lowered(spec.tokenizer_json)
        yield ", ".join(words), replace(spec, **changes)


def _lowered(tokenizer_json: str) -> str:
    """Return the tokenizer with its texts in lower case first."""
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
    steps = [
        normalizers.Lowercase(),
        *([tokenizer.normalizer] if tokenizer.normalizer is not None else []),
    ]
    tokenizer.normalizer = normalizers.Sequence(steps)
    return str(tokenizer.to_str())
