"""An image's source: what it is called, whose pixels it has, and what is no source."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.errors import ImageError, ImageRefusedError
from mismatch.images import ORIENTATION, encoded_image
from mismatch.runtime.open_image import open_image_file, open_part, own_pixels, source_name

WHITE = (255, 255, 255)


@pytest.mark.parametrize("value", [0, 3, True])
def test_a_number_is_no_file(value: Any) -> None:
    with pytest.raises(ImageError, match=type(value).__name__):
        open_image_file(value)
    with pytest.raises(ImageError, match=type(value).__name__):
        open_part(value, WHITE)


def test_pixels_are_copied_and_paths_are_not() -> None:
    array = np.zeros((4, 5, 3), np.uint8)
    copied = own_pixels(array)
    array[:] = 255
    assert not np.asarray(copied).any()
    assert own_pixels("a.png") == "a.png"
    assert own_pixels(b"png") == b"png"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "of a file"])
def test_a_copy_is_turned_as_the_picture_is(orientation: int, saved: bool) -> None:
    picture = Image.fromarray(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3))
    picture.getexif()[ORIENTATION] = 6
    if saved:
        file = io.BytesIO()
        picture.save(file, "PNG", exif=picture.getexif())
        picture = Image.open(file)
    picture.getexif()[ORIENTATION] = orientation
    copied = own_pixels(picture)
    assert copied is not picture
    for one in (copied, encoded_image(picture)):
        np.testing.assert_array_equal(open_part(one, WHITE)[0], open_part(picture, WHITE)[0])
    assert open_part(copied, WHITE)[0].size == ((4, 5) if orientation > 4 else (5, 4))


def test_a_picture_beyond_the_bounds_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageRefusedError, match="more than 10 pixels"):
        own_pixels(Image.new("RGB", (4, 5)))


def test_names() -> None:
    assert source_name(Path("a.png")) == "image 'a.png'"
    assert source_name(b"png") == "the image given as bytes"
