"""Photos of products, drawn: an article in a colour, with a pattern, so many pieces; everything
else about a photo is chance.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = [
    "ARTICLES",
    "COLOURS",
    "COUNTS",
    "MATERIALS",
    "PATTERNS",
    "Combination",
    "contact_sheet",
    "draw",
]

Rng = np.random.Generator
Floats = NDArray[np.float32]
Points = list[tuple[float, float]]
Colour = tuple[int, int, int]  # RGB, 0..255


class Combination(NamedTuple):
    """What is on a photo, and what its title says."""

    article: str
    colour: str
    pattern: str
    pieces: int  # 1..3


class Shape(NamedTuple):
    """A polygon of an article in its own box, x to the right and y down, both -1..1."""

    # body wears colour and pattern, trim a darker tone, hole shows the background
    role: Literal["body", "trim", "hole"]
    points: Points


# --- articles


def _arc(
    cx: float, cy: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0
) -> Points:
    """Return points on an ellipse from `start` to `end` degrees, clockwise from the right."""
    return [
        (cx + rx * math.cos(math.radians(a)), cy + ry * math.sin(math.radians(a)))
        for a in np.linspace(start, end, 25)
    ]


def _band(
    cx: float, cy: float, rx: float, ry: float, width: float, start: float, end: float
) -> Points:
    """Return a bent strip, such as a handle."""
    return _arc(cx, cy, rx, ry, start, end) + _arc(cx, cy, rx - width, ry - width, end, start)


def _mirrored(right: Points) -> Points:
    """Return the right half of an outline, from top to bottom, and its mirror image."""
    return right + [(-x, y) for x, y in reversed(right)]


_SHAPES: dict[str, list[Shape]] = {
    "mug": [
        Shape("trim", _band(0.45, 0.05, 0.5, 0.48, 0.2, -90, 90)),
        Shape(
            "body",
            [
                (-0.8, -0.75),
                (0.5, -0.75),
                (0.48, 0.6),
                *_arc(-0.15, 0.6, 0.63, 0.25, 0, 180),
                (-0.78, 0.6),
            ],
        ),
        Shape("trim", _arc(-0.15, -0.75, 0.65, 0.16)),
    ],
    "t-shirt": [
        Shape(
            "body",
            _mirrored(
                [(0.28, -0.85), (0.5, -0.8), (1.0, -0.3), (0.72, 0.02), (0.52, -0.16), (0.54, 0.9)]
            ),
        ),
        Shape("hole", _arc(0, -0.87, 0.28, 0.24)),
        Shape("trim", _band(0, -0.87, 0.36, 0.32, 0.08, 0, 180)),
    ],
    "handbag": [
        Shape("trim", _band(0, -0.2, 0.5, 0.75, 0.13, 180, 360)),
        Shape("body", _mirrored([(0.62, -0.25), (0.72, -0.2), (0.95, 0.8), (0.85, 0.9)])),
        Shape("trim", [(-0.13, -0.25), (0.13, -0.25), (0.13, 0.1), (0.0, 0.2), (-0.13, 0.1)]),
    ],
    "cushion": [
        Shape(
            "body",
            [
                *_arc(0, -0.86, 0.9, -0.14, 180, 360),
                *_arc(0.86, 0, -0.14, 0.9, -90, 90),
                *_arc(0, 0.86, 0.9, -0.14, 0, 180),
                *_arc(-0.86, 0, -0.14, 0.9, 90, 270),
            ],
        )
    ],
    "vase": [
        Shape(
            "body",
            _mirrored(
                [
                    (0.36, -0.95),
                    (0.2, -0.7),
                    (0.2, -0.45),
                    *_arc(0.0, 0.25, 0.68, 0.6, -65, 62),
                    (0.36, 0.95),
                ]
            ),
        ),
        Shape("trim", _arc(0, -0.95, 0.36, 0.09)),
    ],
    "umbrella": [
        Shape("trim", [(-0.06, -0.1), (0.06, -0.1), (0.06, 0.75), (-0.06, 0.75)]),
        Shape("trim", _band(-0.17, 0.72, 0.23, 0.25, 0.12, 0, 180)),
        Shape(
            "body",
            [
                *_arc(0, 0.08, 1.0, 0.95, 180, 360),
                *_arc(0.67, 0.08, 0.33, -0.14, 0, 180),
                *_arc(0, 0.08, 0.33, -0.14, 0, 180),
                *_arc(-0.67, 0.08, 0.33, -0.14, 0, 180),
            ],
        ),
    ],
    "sock": [
        Shape(
            "body",
            [
                (-0.4, -0.85),
                (0.25, -0.85),
                (0.25, 0.15),
                (0.65, 0.35),
                *_arc(0.62, 0.62, 0.3, 0.28, -60, 90),
                (-0.05, 0.9),
                *_arc(-0.1, 0.6, 0.32, 0.3, 90, 180),
            ],
        ),
        Shape("trim", [(-0.44, -0.95), (0.29, -0.95), (0.29, -0.7), (-0.44, -0.7)]),
    ],
    "lamp": [
        Shape("trim", [(-0.07, 0.1), (0.07, 0.1), (0.07, 0.8), (-0.07, 0.8)]),
        Shape("trim", _arc(0, 0.85, 0.5, 0.12)),
        Shape("body", _mirrored([(0.4, -0.95), (0.9, 0.2)])),
    ],
}

_COLOUR_VALUES: dict[str, Colour] = {
    "red": (205, 28, 38),
    "orange": (245, 130, 20),
    "yellow": (250, 214, 40),
    "green": (38, 140, 62),
    "turquoise": (50, 196, 196),
    "blue": (30, 70, 190),
    "purple": (122, 46, 160),
    "pink": (246, 138, 184),
    "brown": (112, 68, 36),
    "black": (34, 34, 38),
}

ARTICLES = tuple(_SHAPES)
COLOURS = tuple(_COLOUR_VALUES)
PATTERNS = ("plain", "striped", "dotted", "checked")
COUNTS = (1, 2, 3)
MATERIALS = 3  # textures: matt, woven, glossy


# --- drawing

SUPERSAMPLING = 2  # canvas pixels per photo pixel and side; the photo is the canvas averaged down

# x, y, half size of each piece, -1..1 of the photo
_LAYOUTS: dict[int, list[list[tuple[float, float, float]]]] = {
    1: [[(0.0, 0.0, 0.70)]],
    2: [
        [(-0.48, 0.0, 0.45), (0.48, 0.0, 0.45)],
        [(-0.44, -0.36, 0.44), (0.44, 0.36, 0.44)],
        [(0.44, -0.36, 0.44), (-0.44, 0.36, 0.44)],
    ],
    3: [
        [(-0.48, 0.45, 0.44), (0.48, 0.45, 0.44), (0.0, -0.45, 0.44)],
        [(-0.48, -0.45, 0.44), (0.48, -0.45, 0.44), (0.0, 0.45, 0.44)],
    ],
}


class _Style(NamedTuple):
    """What all pieces of one photo share."""

    shapes: list[Shape]
    base: Floats  # (3,) RGB, 0..1
    second: Floats  # (3,) RGB, 0..1, stripes, dots and checks
    pattern: str
    period: float  # the pattern's, in halves of a piece
    slant: float  # radians, the pattern's
    material: int  # index of the texture: 0 matt, 1 woven, 2 glossy


def draw(combination: Combination, rng: Rng, size: int = 64, material: int = 0) -> Image.Image:
    """Draw one photo, `size` pixels square; place, size, turn, light, backdrop and shade of colour
    vary with `rng`.
    """
    side = size * SUPERSAMPLING
    canvas = _backdrop(side, rng)
    style = _style(combination, rng, material)
    layouts = _LAYOUTS[combination.pieces]
    for x, y, half in layouts[rng.integers(len(layouts))]:
        centre = (
            (1 + x + rng.uniform(-0.04, 0.04)) * side / 2,
            (1 + y + rng.uniform(-0.04, 0.04)) * side / 2,
        )
        _paint(
            canvas,
            style,
            centre,
            half * rng.uniform(0.9, 1.06) * side / 2,
            rng.uniform(-0.16, 0.16),
        )
    # (size, size, 3)
    canvas = canvas.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean((1, 3))
    return Image.fromarray((canvas.clip(0, 1) * 255).round().astype(np.uint8))


def contact_sheet(seed: int = 0, size: int = 128, columns: int = 12) -> Image.Image:
    """Draw a picture of every article in several colours, patterns, counts, `size` pixels each."""
    rng = np.random.default_rng(seed)
    sheet = Image.new("RGB", (columns * size, len(ARTICLES) * size))
    for row, article in enumerate(ARTICLES):
        for column in range(columns):
            look = (
                COLOURS[(3 * column + row) % len(COLOURS)],
                PATTERNS[column % len(PATTERNS)],
                COUNTS[column * len(COUNTS) // columns],
            )
            sheet.paste(
                draw(Combination(article, *look), rng, size, column % MATERIALS),
                (column * size, row * size),
            )
    return sheet


def _backdrop(side: int, rng: Rng) -> Floats:
    """Return (side, side, 3), 0..1: a pale wall with a slow gradient."""
    tint = rng.uniform(0.84, 0.97) + rng.uniform(-0.03, 0.03, 3)
    ramp = np.linspace(-1, 1, side)
    light = 1 + rng.uniform(-0.05, 0.05) * ramp[:, None] + rng.uniform(-0.05, 0.05) * ramp[None, :]
    return (light[..., None] * tint).astype(np.float32)


def _style(combination: Combination, rng: Rng, material: int) -> _Style:
    pure = np.array(_COLOUR_VALUES[combination.colour]) / 255
    base = np.asarray(
        (pure * rng.uniform(0.92, 1.06) + rng.uniform(-0.02, 0.02, 3)).clip(0, 1), np.float32
    )
    bright = float(base @ np.array([0.3, 0.59, 0.11], np.float32)) > 0.6
    second = base * 0.35 if bright else base * 0.12 + 0.86
    slant = rng.choice([0.0, math.pi / 2, math.pi / 4]) if combination.pattern == "striped" else 0.0
    return _Style(
        _SHAPES[combination.article],
        base,
        second.astype(np.float32),
        combination.pattern,
        rng.uniform(0.52, 0.64),
        slant,
        material,
    )


def _paint(
    canvas: Floats, style: _Style, centre: tuple[float, float], half: float, turn: float
) -> None:
    """Draw one piece into `canvas` (side, side, 3), with its shadow; only the window (h, w) around
    it is computed.
    """
    # pixels, of the shadow
    side = canvas.shape[0]
    drop = max(1, canvas.shape[0] // 48)
    left, top = (max(0, int(c - 1.25 * half)) for c in centre)
    right, bottom = (min(side, int(c + 1.25 * half) + drop) for c in centre)
    window = canvas[top:bottom, left:right]
    centre = centre[0] - left, centre[1] - top
    body, trim = _masks(style.shapes, window.shape[:2], centre, half, turn)  # (h, w, 1) each
    window *= 1 - 0.22 * np.roll(np.maximum(body, trim), (drop, drop // 2), (0, 1))
    u, v = _local(window.shape[:2], centre, half, turn)
    light = (1.06 - 0.14 * u - 0.12 * v + _texture(style.material, u, v))[..., None]
    mix = _pattern(style, u, v)[..., None]
    window += body * ((style.base * (1 - mix) + style.second * mix) * light - window)
    window += trim * (style.base * 0.62 * light - window)


def _masks(
    shapes: list[Shape],
    window: tuple[int, int],
    centre: tuple[float, float],
    half: float,
    turn: float,
) -> tuple[Floats, Floats]:
    """Return body and trim, (h, w, 1) each, 0 or 1."""
    image = Image.new("L", (window[1], window[0]))
    pen = ImageDraw.Draw(image)
    ink = {"hole": 0, "body": 1, "trim": 2}
    cos = half * math.cos(turn)
    sin = half * math.sin(turn)
    for role, points in shapes:
        pen.polygon(
            [(centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y) for x, y in points],
            fill=ink[role],
        )
    codes = np.asarray(image)[..., None]
    return (codes == 1).astype(np.float32), (codes == 2).astype(np.float32)


def _local(
    window: tuple[int, int], centre: tuple[float, float], half: float, turn: float
) -> tuple[Floats, Floats]:
    """Return the piece's own coordinates of each pixel, (h, w) each, -1..1 within the piece."""
    x = (np.arange(window[1], dtype=np.float32)[None, :] - centre[0]) / half
    y = (np.arange(window[0], dtype=np.float32)[:, None] - centre[1]) / half
    cos = np.float32(math.cos(turn))
    sin = np.float32(math.sin(turn))
    return cos * x + sin * y, cos * y - sin * x


def _pattern(style: _Style, u: Floats, v: Floats) -> Floats:
    """Return (h, w), 0..1: how much of the second colour shows."""
    if style.pattern == "plain":
        return np.zeros_like(u)
    if style.pattern == "striped":
        across = u * math.cos(style.slant) + v * math.sin(style.slant)
        return ((across / style.period) % 1 < 0.45).astype(np.float32)
    columns = u / style.period
    rows = v / style.period
    if style.pattern == "dotted":
        return (((columns % 1 - 0.5) ** 2 + (rows % 1 - 0.5) ** 2) < 0.3**2).astype(np.float32)
    return np.asarray((np.floor(columns * 2) + np.floor(rows * 2)) % 2, np.float32)


def _texture(material: int, u: Floats, v: Floats) -> Floats | float:
    """Return (h, w): what the material adds to the light; 0 for one that adds nothing."""
    if material == 1:
        return np.asarray(0.05 * np.sin(u * 42) * np.sin(v * 42), np.float32)
    if material == 2:
        return np.asarray(0.3 * np.exp(-(((u + v + 0.55) / 0.16) ** 2)), np.float32)
    return 0.0
