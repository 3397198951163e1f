"""Images and texts of every kind that a backbone meets in production, made here: what the contract
kit feeds it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "LONG",
    "OTHER_LONG",
    "TEXTS",
    "UNUSUAL_TEXTS",
    "images",
    "noise",
    "square_images",
    "unusual_images",
]

TEXTS = (  # seven plain ones, all of other lengths and meanings
    "red shirt",
    "A red leather handbag with gold hardware",
    "blue cotton trousers",
    "white mug",
    "Three green bottles standing on a wooden table next to a lamp",
    "dog",
    "a black and white photo of two old bicycles, leaning on a wall",
)
LONG = "many words that never end, " * 100  # longer than any tower's context
OTHER_LONG = "some lines with other signs; " * 100  # as long, of other words
UNUSUAL_TEXTS = {
    "upper case": "GROSSE STRASSE, İstanbul ΟΔΥΣΣΕΥΣ",
    "accents": "café naïve Ångström façade n\u0303",
    "Chinese": "红色皮革手提包，金色五金",
    "Arabic": "حقيبة يد جلدية حمراء",
    "emoji": "👍 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "entities": "salt &amp; pepper &lt;b&gt; &#8364;5",
    "line breaks": "first line\nsecond\tcolumn\r\nthird",
    "digits": "size 42 1234567890 3.14 ½ ² Ⅷ ٣",
    "punctuation": "!!! ... --- (a)[b]{c} a_b #tag @you $5 100%",
    "mojibake": "cafÃ© âœ” Ã¼ber",
    "control characters": "a\x00b\x07c\x1bd",
    "private use": "\ue000 \uf8ff",
    "a word of 500 letters": "a" * 500,
    "more than the context": LONG,
    "one letter": "a",
    "empty": "",
    "blank": "   \t\n ",
}
_SIZES = ((61, 118), (131, 90), (320, 241), (67, 64), (64, 64), (500, 375), (240, 320))  # pixels


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Draw (height, width, channels), 0..255: waves and noise, so that both blur and aliasing show;
    another tint for each seed.
    """
    return _noise(width, height, channels, seed).copy()


@lru_cache(maxsize=64)  # a run of the kit asks for the same twenty a hundred times, 4 ms each
def _noise(width: int, height: int, channels: int, seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((seed, width, height))
    y, x = np.mgrid[:height, :width]
    # (H, W, C)
    waves = np.sin((x + 2 * y) / (5 + 3 * seed))[..., None] * rng.uniform(-90, 90, channels)
    tint = rng.uniform(70, 185, channels)
    levels: NDArray[np.float64] = tint + waves + rng.normal(0, 20, (height, width, channels))
    return levels.clip(0, 255).astype(np.uint8)


def images() -> list[Image.Image]:
    """Return seven RGB images of other sizes and colours."""
    return [Image.fromarray(noise(*size, seed=seed)) for seed, size in enumerate(_SIZES)]


def square_images(side: int) -> list[Image.Image]:
    """Return seven RGB images of `side` pixels: nothing to resize where a tower takes that size."""
    return [Image.fromarray(noise(side, side, seed=seed)) for seed in range(7)]


def unusual_images() -> dict[str, Image.Image]:
    """Return what else Pillow hands over: tiny and elongated images, other modes, transparency."""
    rgba = Image.fromarray(noise(73, 101, 4))
    modes = {mode: rgba.convert("RGB").convert(mode) for mode in ("1", "L", "P", "CMYK", "YCbCr")}
    sixteen = Image.fromarray(noise(73, 101, 1)[..., 0].astype(np.uint16) * 257)
    sizes = {
        f"{width} x {height}": Image.fromarray(noise(width, height))
        for width, height in ((1, 1), (3, 5), (200, 1), (1, 90), (900, 20))
    }
    return sizes | modes | {"LA": rgba.convert("LA"), "RGBA": rgba, "I;16": sixteen}
