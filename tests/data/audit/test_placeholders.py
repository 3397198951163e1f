"""mismatch.data.audit.placeholders: pictures that show nothing, and pictures that show little."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mismatch.data.audit.placeholders import emptiness, is_transparent
from mismatch.runtime.preprocess import open_image

RGB = tuple[int, int, int]


def words(
    text: str, *, size: tuple[int, int] = (400, 400), ground: RGB = (238, 238, 238), scale: int = 1
) -> Image.Image:
    """Draw words in the middle of a plain ground."""
    image = Image.new("RGB", (size[0] // scale, size[1] // scale), ground)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default()
    width = draw.textlength(text, font=font)
    ink = (120, 120, 120) if sum(ground) > 380 else (230, 230, 230)
    place = ((image.width - width) / 2, image.height / 2 - 5)
    draw.text(place, text, ink, font=font)
    return image.resize(size, Image.Resampling.BICUBIC)


def saved(image: Image.Image, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, **options)  # type: ignore[arg-type]
    return Image.open(file).convert("RGB")


def shape(kind: str) -> Image.Image:
    """Draw a shape of one colour on white, as simple product drawings are."""
    image = Image.new("RGB", (300, 300), "white")
    draw = ImageDraw.Draw(image)
    if kind == "disc":
        draw.ellipse((90, 90, 200, 200), (200, 30, 30))
    elif kind == "box":
        draw.rectangle((100, 60, 200, 160), (30, 30, 200))
    else:
        draw.polygon([(150, 60), (240, 240), (60, 240)], (20, 120, 40))
    return image


def gradient() -> Image.Image:
    level = np.linspace(90, 160, 200, dtype=np.uint8)
    return Image.fromarray(np.stack([np.tile(level, (200, 1))] * 3, axis=-1))


@pytest.mark.parametrize("colour", ["white", "black", "#777", "#c03040", (1, 2, 3)])
@pytest.mark.parametrize("size", [(1, 1), (20, 12), (640, 480)])
def test_one_colour_is_blank(colour: str | RGB, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, colour)
    assert emptiness(image) == "blank"
    assert emptiness(saved(image, format="JPEG", quality=60)) == "blank"


@pytest.mark.parametrize("text", ["image not available", "No image", "404", "Photo coming soon"])
@pytest.mark.parametrize("ground", [(255, 255, 255), (204, 204, 204), (20, 30, 60)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_drawn_words(text: str, ground: RGB, scale: int) -> None:
    image = words(text, ground=ground, scale=scale)
    assert emptiness(image) == "words"
    assert emptiness(saved(image, format="JPEG", quality=85)) == "words"


@pytest.mark.parametrize("size", [(200, 200), (600, 600), (1200, 800)])
def test_large_drawn_words(size: tuple[int, int]) -> None:
    image = words("No image", size=size, scale=size[1] // 100)
    assert emptiness(image) == "words"


@pytest.mark.parametrize("kind", ["disc", "box", "triangle"])
def test_a_drawn_thing_is_something(kind: str) -> None:
    assert emptiness(shape(kind)) == ""


def test_noise_gradients_and_two_halves_are_something() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    halves = Image.new("RGB", (100, 100), "white")
    halves.paste((10, 10, 10), (0, 0, 50, 100))
    for image in (Image.fromarray(noise), gradient(), halves):
        assert emptiness(image) == ""


@pytest.mark.slow
def test_photos_are_something(fashion: Path) -> None:
    photos = sorted((fashion / "images").iterdir())[::10]
    kinds = [emptiness(open_image(photo)) for photo in photos]
    assert kinds.count("") >= 0.998 * len(kinds)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_picture(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "P":
        Image.new("P", (40, 40)).save(path, transparency=0)
    else:
        colour = (200, 30, 30, 0) if mode == "RGBA" else (90, 0)
        Image.new(mode, (40, 40), colour).save(path)
    assert emptiness(open_image(path)) == "blank"
    assert is_transparent(path, open_image)


@pytest.mark.parametrize("colour", [(255, 255, 255, 255), (0, 0, 0, 255), (255, 255, 255, 128)])
def test_a_picture_that_can_be_seen_is_not_transparent(
    tmp_path: Path, colour: tuple[int, int, int, int]
) -> None:
    Image.new("RGBA", (40, 40), colour).save(tmp_path / "a.png")
    assert not is_transparent(tmp_path / "a.png", partial(open_image))
