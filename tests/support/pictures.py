"""Pictures that tests draw."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["tinted"]


def tinted(random: np.random.Generator, colour: int, side: int) -> Image.Image:
    """Return dark noise with much of one colour: 0 red, 1 green, 2 blue, 3 red again and so on."""
    pixels = random.integers(0, 90, (side, side, 3))
    pixels[..., colour % 3] += 120
    return Image.fromarray(pixels.astype(np.uint8))
