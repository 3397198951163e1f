"""Pictures of files, small enough for a page; where there is none, it is said why."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from mismatch.errors import ImageError
from mismatch.reports.thumbnails import SIDE, thumbnail, thumbnail_of


def test_a_thumbnail_is_small_and_shows_the_picture(colour_images: Path) -> None:
    Image.new("RGB", (900, 300), (0, 0, 255)).save(colour_images / "wide.png")
    head, _, data = thumbnail(colour_images / "wide.png").partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/jpeg;base64"
    assert max(picture.size) == SIDE
    red, _, blue = picture.convert("RGB").getpixel((50, 30))  # type: ignore[misc]
    assert (red < 10, blue > 240) == (True, True)


def test_a_broken_picture_has_no_thumbnail(colour_images: Path) -> None:
    with pytest.raises(ImageError):
        thumbnail(colour_images / "cut.jpg")


def test_a_row_has_its_picture_or_a_reason(colour_images: Path) -> None:
    base = str(colour_images)
    assert thumbnail_of("red.png", base).url.startswith("data:image/jpeg;base64,")
    assert thumbnail_of("gone.png", base, "data:kept") == ("data:kept", "")
    url, problem = thumbnail_of("gone.png", base)
    assert url == ""
    assert "gone.png" in problem
