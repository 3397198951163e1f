"""An image's source: what it is called, whose pixels it has, and what is no source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.errors import ImageError, ImageRefusedError
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


def test_a_picture_beyond_the_bounds_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageRefusedError, match="more than 10 pixels"):
        own_pixels(Image.new("RGB", (4, 5)))


def test_names() -> None:
    assert source_name(Path("a.png")) == "image 'a.png'"
    assert source_name(b"png") == "the image given as bytes"
