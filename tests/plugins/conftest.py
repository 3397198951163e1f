"""Images and texts of every odd kind, which both families must treat as upstream does."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.torchlib import torchlib_once  # noqa: F401 (a fixture of all tests here)

SIZES = {
    "portrait": (61, 118),
    "landscape": (131, 90),
    "square": (64, 64),
    "odd-leftover": (67, 64),
    "half-leftover": (65, 64),
    "photo": (320, 241),
    "3x5": (3, 5),
    "one-pixel": (1, 1),
    "one-pixel-high": (200, 1),
    "one-pixel-wide": (1, 90),
}
MODES = [
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGBA",
    "CMYK",
    "YCbCr",
    "I;16",
    "P-transparent",
    "L-transparent",
    "CMYK-jpeg",
]

TEXTS = {
    "plain": "A red leather handbag with gold hardware",
    "upper": "GROSSE STRASSE, İstanbul ΟΔΥΣΣΕΥΣ",
    "accents": "café naïve Ångström façade",
    "combining": "cafe\u0301 n\u0303andu\u0301 a\u0345b",
    "emoji": "👍 😀😀 🇩🇪 a👍b",
    "zwj": "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "rtl": "שלום עולם مرحبا بالعالم \u202eabc\u202c",
    "chinese": "红色皮革手提包，金色五金",
    "hangul": "빨간 가죽 핸드백",
    "devanagari": "लाल चमड़े का हैंडबैग",
    "entity": "salt &amp; pepper &lt;b&gt; &#8364;5 &nbsp; x",
    "entity-twice": "salt &amp;amp; pepper &amp;lt;3",
    "markup": "<b>bold</b> &amp; <i>x</i>",
    "empty": "",
    "blank": "   \t\n  ",
    "lines": "first line\nsecond\tcolumn\r\nthird\u2028fourth\u0085fifth",
    "300-words": " ".join(f"word{i}" for i in range(300)),
    "exactly-75": "a " * 75,
    "76": "a " * 76,
    "mojibake": "cafÃ© âœ” Ã¼ber â€œquotedâ€\x9d",
    "control": "a\x00b\x07c\x1bd\x7fe\x9df",
    "escape": "\x1b[31mred\x1b[0m",
    "digits": "size 42 1234567890 3.14 ½ ² Ⅷ ٣",
    "apostrophes": "it's they're I'VE don't 'tis we'll rock'n'roll ''' O’Neill don'ſ",
    "punctuation": "!!! ... --- (a)[b]{c} a_b #tag @you $5 100% a/b\\c ???",
    "quotes": "“curly” ‘single’ «guillemets» „low“",
    "full-width": "ＦＵＬＬ　ＷＩＤＴＨ １２３",
    "ligature": "ﬁne ﬂow ß ŉ ǆ",
    "zero-width": "zero\u200bwidth\u200c\u200d\ufeffjoin\u00adsoft",
    "private-use": "\ue000 \uf8ff \U000f0000",
    "symbols": "™ ® © № ℃ µ Ω Å ∞ ≠ →",
    "long-word": "a" * 500,
    "title": "Puma Men's T-shirt — Grey/Melange (Pack of 2) | 100% Cotton",
}


def _noise(width: int, height: int, channels: int) -> np.ndarray:
    """Smooth shapes and noise, so that both blur and aliasing show."""
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[:height, :width]
    waves = (
        127 + 100 * np.sin((x + 2 * y) / 7)[..., None] * np.array([1.0, -1.0, 0.5, 1.0])[:channels]
    )
    noise = rng.normal(0, 25, (height, width, channels))
    pixels: np.ndarray = np.clip(waves + noise, 0, 255).astype(np.uint8)
    return pixels


def _in_mode(mode: str) -> Image.Image:
    rgba = Image.fromarray(_noise(73, 101, 4))
    if mode == "I;16":
        return Image.fromarray(_noise(73, 101, 1)[..., 0].astype(np.uint16) * 257)
    if mode == "P-transparent":
        image = rgba.convert("RGB").quantize(16)
        image.info["transparency"] = 3
        return image
    if mode == "L-transparent":
        image = rgba.convert("L")
        image.info["transparency"] = 90
        return image
    if mode == "CMYK-jpeg":
        buffer = io.BytesIO()
        rgba.convert("RGB").convert("CMYK").save(buffer, "JPEG")
        return Image.open(buffer)
    return (
        rgba
        if mode == "RGBA"
        else (
            rgba.convert("RGB").convert("P").convert(mode)
            if mode == "PA"
            else rgba.convert("RGB").convert(mode)
        )
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "odd_image" in metafunc.fixturenames:
        images = {name: Image.fromarray(_noise(*size, 3)) for name, size in SIZES.items()} | {
            mode: _in_mode(mode) for mode in MODES
        }
        metafunc.parametrize("odd_image", images.values(), ids=images.keys())
    if "odd_text" in metafunc.fixturenames:
        metafunc.parametrize("odd_text", TEXTS.values(), ids=TEXTS.keys())


@pytest.fixture
def odd_texts() -> list[str]:
    return list(TEXTS.values())
