"""A picture is put upright once, as its EXIF data say."""

from __future__ import annotations

import pytest
from PIL import Image

from mismatch.runtime.orientation import TURNS, orientation, upright


@pytest.mark.parametrize("mark", [1, *TURNS])
def test_a_picture_is_turned_once(mark: int) -> None:
    image = Image.new("RGB", (4, 2))
    exif = Image.Exif()
    exif[0x0112] = mark
    image.info["exif"] = exif.tobytes()
    assert orientation(image) == mark
    turned = upright(image)
    assert turned.size == ((2, 4) if mark >= 5 else (4, 2))
    assert orientation(turned) == 1
    assert upright(turned) is turned


def test_damaged_exif_says_nothing() -> None:
    image = Image.new("RGB", (4, 2))
    image.info["exif"] = b"Exif\0\0damaged"
    assert upright(image) is image
