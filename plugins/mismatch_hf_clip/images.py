"""From transformers' image processor to an ImageSpec, proved on pixels: what a spec can't say is
refused, never guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.errors import BackboneError
from mismatch.runtime.preprocess import Preprocessor
from mismatch.specs import RGB, ImageSpec, Interpolation, ResizeMode

__all__ = ["image_spec", "pixels"]

# of 255, that one pixel in a thousand may differ by at most: torch and Pillow round resizing unlike
LEVELS = 2.001
# between black and white, in pixel_values: 1 / 0.2² at most where a processor divides by std twice
SPAN = 50
# by Pillow's number
_INTERPOLATIONS: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}


def image_spec(processor: Any, model_id: str) -> ImageSpec:
    """Return what the processor does to an image. BackboneError in one line where an ImageSpec
    can't say it.
    """
    if not getattr(processor, "do_resize", True):
        raise BackboneError(
            f"hf-clip: '{model_id}' is preprocessed with do_resize=false, which is not supported;"
            " edit its preprocessor_config.json"
        )
    size, resize, mode = _sizes(processor, model_id)
    mean, std = _statistics(processor, max(size, resize), model_id)
    spec = ImageSpec(
        size=size,
        resize=resize,
        mode=mode,
        mean=mean,
        std=std,
        crop_rounding="floor",
        interpolation=_INTERPOLATIONS[int(processor.resample)],
    )
    _check(processor, spec, model_id)
    return spec


def pixels(processor: Any, image: Image.Image) -> NDArray[np.float32]:
    """Preprocess an RGB image as the processor itself does → (3, H, W)."""
    values: NDArray[np.float32] = np.asarray(
        processor(image, return_tensors="np")["pixel_values"][0], np.float32
    )
    return values


def _sizes(processor: Any, model_id: str) -> tuple[int, int, ResizeMode]:
    """Return (size, resize, mode): a square crop of the resized shorter side, or of both sides
    squashed.
    """
    if (
        getattr(processor, "resample", None) is None
        or int(processor.resample) not in _INTERPOLATIONS
    ):
        kind = f"resample={getattr(processor, 'resample', None)}"
        raise BackboneError(
            f"hf-clip: '{model_id}' is preprocessed with {kind}; nearest, bilinear, bicubic or"
            " lanczos are supported"
        )
    size = dict(processor.size)
    crop = dict(processor.crop_size or {}) if getattr(processor, "do_center_crop", None) else {}
    shortest = size.get("shortest_edge")
    height = size.get("height")
    side = crop.get("height")
    if crop.get("height") == crop.get("width"):
        if height and height == size.get("width") and (side or height) <= height:
            return int(side or height), int(height), "squash"
        if shortest and not size.get("longest_edge") and side and side <= shortest:
            return int(side), int(shortest), "shortest"
    raise BackboneError(
        f"hf-clip: '{model_id}' resizes to {size} and crops to {crop or 'nothing'}; only a square"
        " that the resized image covers is supported"
    )


def _statistics(processor: Any, side: int, model_id: str) -> tuple[RGB, RGB]:
    """Return (mean, std) on 0..1, from what becomes of black and white: rescaling, offsets and
    normalising are all one line through those two.
    """
    black, white = (
        pixels(processor, Image.new("RGB", (side, side), (level,) * 3))
        .astype(np.float64)
        .mean(axis=(1, 2))
        for level in (0, 255)
    )
    span = white - black  # (3,)
    if not (span.min() >= 1 / SPAN and span.max() <= SPAN):  # NaN is refused too
        named = ", ".join(
            f"{name}={getattr(processor, name, None)}"
            for name in ("do_rescale", "rescale_factor", "do_normalize")
        )
        raise BackboneError(
            f"hf-clip: '{model_id}' is preprocessed with {named}, so black and white lie"
            f" {span.max():.3g} apart; edit its preprocessor_config.json"
        )
    mean = -black / span
    std = 1 / span
    declared = [_three(getattr(processor, name, None)) for name in ("image_mean", "image_std")]
    if np.allclose(declared, [mean, std], atol=1e-5):
        return declared[0], declared[1]  # to the last digit
    return _three(mean.round(6)), _three(std.round(6))


def _three(values: Any) -> RGB:
    red, green, blue = np.broadcast_to(np.nan if values is None else values, 3).tolist()
    return red, green, blue


def _check(processor: Any, spec: ImageSpec, model_id: str) -> None:
    """Compare on a noise image whose sides both shrink, by unlike factors and to odd remainders, so
    that each way of resizing shows.
    """
    image = _noise(spec.resize_to * 3 // 2 + 1, spec.resize_to * 2 + 3)
    theirs = pixels(processor, image)
    name = type(processor).__name__
    if theirs.shape != (3, spec.size, spec.size):
        raise BackboneError(
            f"hf-clip: '{model_id}' has a {name} that gives {theirs.shape} for an image, not (3,"
            f" {spec.size}, {spec.size}); that is not supported"
        )
    # levels
    gaps = np.abs(theirs - Preprocessor(spec)(image)) * 255 * np.array(spec.std)[:, None, None]
    if not np.quantile(gaps, 0.999) <= LEVELS:
        raise BackboneError(
            f"hf-clip: '{model_id}' has a {name} that no ImageSpec describes: pixels differ by up"
            f" to {gaps.max():.0f} levels of 255; not supported"
        )


def _noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = 127 + 70 * np.sin((x + 2 * y) / 7)[..., None] * np.array([1.0, -1.0, 0.5])
    return Image.fromarray(
        (waves + rng.normal(0, 15, (height, width, 3))).clip(0, 255).astype(np.uint8)
    )
