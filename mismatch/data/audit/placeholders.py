"""Pictures that show nothing: of a single colour, fully transparent, or only drawn words as in
"image not available".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

__all__ = ["EMPTY", "Emptiness", "emptiness", "is_transparent"]

Emptiness = Literal["", "blank", "words"]
EMPTY = ("transparent", "blank")  # kinds of pictures in which nothing can be seen
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
GRID = 64  # pixels a side, of the picture in which a colour is looked for
LONGEST = 256  # pixels a side at most, of the one in which words are looked for
# levels of 255 by which a colour may vary, as JPEG lets it
NEAR = 6
FAR = 48  # levels from which on a pixel is no background
# Measured on 75 drawn placeholders, all of which are found, and 3,516 product photos, many of
# them on plain white, of which none is taken for one
MIN_BACKGROUND = 0.92  # share of the pixels
INK = (0.0002, 0.08)  # share of the pixels, least and most
MAX_SHADE = 0.02  # share of the pixels that are neither background nor ink: a photo's shadows
MIN_EDGES = 0.12  # edges for a pixel of ink: words are thin strokes
MAX_OFF_LINE = 0.02  # share of the ink that is no blend of two colours


def emptiness(image: Image) -> Emptiness:
    """Return what an RGB picture lacks: `blank` for one of a single colour, `words` for one that is
    drawn words, or the like, on a single colour.
    """
    small = np.asarray(image.resize((GRID, GRID), Resampling.BOX), np.int16)  # (64, 64, 3)
    if np.ptp(small, axis=(0, 1)).max() <= NEAR:
        return "blank"
    if _background_share(small) < MIN_BACKGROUND - 2 * INK[1]:
        return ""
    scale = LONGEST / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Resampling.NEAREST)
    pixels = np.asarray(image, np.int16)  # (H, W, 3)
    return "words" if _is_drawn_words(pixels) else ""


def is_transparent(path: Path, open_on: Callable[..., Image]) -> bool:
    """Return whether a picture is fully transparent: on white it is white, on black black.

    `open_on`: as `open_image`, which takes the path and a background.
    """
    on_white, on_black = (np.asarray(open_on(path, colour)) for colour in (WHITE, BLACK))
    return bool(on_white.min() >= 255 - NEAR and on_black.max() <= NEAR)


def _background(pixels: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the most frequent colour (3,) of a picture (H, W, 3)."""
    levels = (pixels >> 3).reshape(-1, 3)  # 32 of them
    codes = levels[:, 0] << 10 | levels[:, 1] << 5 | levels[:, 2]
    is_most_common = codes == np.bincount(codes).argmax()
    colour: NDArray[np.int16] = np.median(pixels.reshape(-1, 3)[is_most_common], axis=0).astype(
        np.int16
    )
    return colour


def _background_share(pixels: NDArray[np.int16]) -> float:
    return float((_distance(pixels - _background(pixels)) <= NEAR).mean())


def _distance(apart: NDArray[np.int16]) -> NDArray[np.int16]:
    """Map differences (H, W, 3) → (H, W), the largest of a pixel; `max(-1)` takes five times as
    long.
    """
    red, green, blue = np.abs(np.moveaxis(apart, -1, 0))
    largest: NDArray[np.int16] = np.maximum(np.maximum(red, green), blue)
    return largest


def _is_drawn_words(pixels: NDArray[np.int16]) -> bool:
    """Return whether a picture (H, W, 3) is thin strokes of one colour on a flat background."""
    apart = pixels - _background(pixels[::2, ::2])  # (H, W, 3)
    distance = _distance(apart)  # (H, W)
    ink = distance > FAR
    share = float(ink.mean())
    if (distance <= NEAR).mean() < MIN_BACKGROUND or not INK[0] <= share <= INK[1]:
        return False
    shade = (distance > NEAR) & ~_widened(ink)
    edges = (ink[:, 1:] != ink[:, :-1]).sum() + (ink[1:] != ink[:-1]).sum()
    if shade.mean() > MAX_SHADE or edges < 2 * MIN_EDGES * ink.sum():
        return False
    strokes = apart[ink].astype(np.float32)  # (N, 3)
    direction = strokes[np.abs(strokes).max(1).argmax()]
    direction = direction / np.linalg.norm(direction)
    off_line = np.abs(strokes - np.outer(strokes @ direction, direction)).max(1) > FAR
    return bool(off_line.mean() <= MAX_OFF_LINE)


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with two pixels around it, where a JPEG has its rings and letters are soft."""
    wide = np.pad(mask, 2)
    height, width = mask.shape
    around = np.zeros_like(mask)
    for down in range(5):
        for right in range(5):
            around |= wide[down : down + height, right : right + width]
    return around
