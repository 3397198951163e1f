"""What counts as an image, and what is refused by the name of its type."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.errors import ImageError
from mismatch.images import as_image_source, encoded_image, is_in_memory
from mismatch.runtime.preprocess import open_image

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        png(),
        bytearray(png()),
        memoryview(png()),
        io.BytesIO(png()),
        {"bytes": png(), "path": "x.png"},
        {"bytes": None, "path": "x.png"},
        Path("x.png"),
        "x.png",
    ],
    ids=lambda value: type(value).__name__,
)
def test_encoded_ones_and_paths(value: Any) -> None:
    source = as_image_source(value)
    assert source == png() or str(source) == "x.png"


def test_an_open_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with path.open("rb") as file:
        assert as_image_source(file) == png()
        assert not file.closed
    with path.open(encoding="latin-1") as text, pytest.raises(ImageError, match="mode 'rb'"):
        as_image_source(text)


def test_arrays_and_tensors_are_height_width_channels() -> None:
    torch = pytest.importorskip("torch")
    for value in (PIXELS, torch.tensor(PIXELS), torch.tensor(PIXELS).permute(2, 0, 1)):
        np.testing.assert_array_equal(as_image_source(value), PIXELS)


def test_pixels_are_kept_in_a_file_without_loss() -> None:
    for source in (PIXELS, Image.fromarray(PIXELS)):
        np.testing.assert_array_equal(Image.open(io.BytesIO(encoded_image(source))), PIXELS)
    assert encoded_image(png()) == png()
    assert encoded_image(Image.new("CMYK", (3, 3))).startswith(b"\x89PNG")
    with pytest.raises(ImageError, match="is a path"):
        encoded_image("x.png")


def turned() -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.repeat(PIXELS, 8, axis=1)).save(file, "PNG", exif=exif)
    return Image.open(io.BytesIO(file.getvalue()))


def with_alpha(mode: str) -> Image.Image:
    """Rows from clear to opaque, in a mode that has no file format."""
    alpha = Image.fromarray(np.repeat(np.arange(0, 240, 60, dtype=np.uint8)[:, None], 5, axis=1))
    image = Image.fromarray(PIXELS)
    if mode == "PA":
        image = image.convert("P").convert("PA")
        image.putalpha(alpha)
        return image
    image.putalpha(alpha)
    return image.convert(mode.upper()).convert(mode)


DEEP = (np.arange(20, dtype=np.uint16) * 3000).reshape(4, 5)


@pytest.mark.parametrize(
    "source",
    [
        turned(),
        DEEP,
        Image.fromarray(DEEP),
        Image.fromarray(DEEP.astype(np.int32)),
        PIXELS[:, :, :1],
        np.dstack([DEEP, DEEP, DEEP]),
        PIXELS > 20,
        Image.fromarray(PIXELS).convert("CMYK"),
        with_alpha("PA"),
        with_alpha("La"),
        with_alpha("RGBa"),
    ],
    ids=[
        "turned",
        "uint16",
        "I;16",
        "I",
        "one channel",
        "uint16 colours",
        "bool",
        "CMYK",
        "PA",
        "La",
        "RGBa",
    ],
)
def test_a_file_of_pixels_reads_as_they_do(source: Any) -> None:
    read = open_image(encoded_image(source))
    np.testing.assert_array_equal(read, open_image(source))


@pytest.mark.parametrize(
    "source",
    [
        DEEP.astype(np.float32),
        DEEP.astype(np.int32),
        PIXELS[:, :, :2],
        PIXELS.astype(np.int8),
        PIXELS.astype(np.float64),
        PIXELS[None],
        PIXELS[:0],
        Image.fromarray(DEEP.astype(np.float32)),
        Image.fromarray(DEEP.astype(np.int32) - 5),
        Image.fromarray(np.full((4, 4), 200, np.int32)),  # 8 bits or 16?
        np.full((4, 4, 3), 200, np.uint16),
    ],
)
def test_pixels_that_no_model_takes_are_refused_as_a_model_does(source: Any) -> None:
    with pytest.raises(ImageError):
        open_image(source)
    with pytest.raises(ImageError):
        encoded_image(source)


def test_a_picture_that_is_cut_short_is_an_image_error() -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    cut = Image.open(io.BytesIO(file.getvalue()[:2000]))
    with pytest.raises(ImageError, match="can't be decoded"):
        encoded_image(cut)


def test_a_number_is_no_file() -> None:
    """It would be taken for a file descriptor, read and closed."""
    read, write = os.pipe()
    try:
        for value, words in (
            (read, "an int"),
            (1.5, "a float"),
            (None, "a NoneType"),
            (np.int64(read), "an int64"),
            ([1], "a list"),
            ({"url": "x"}, "the keys 'url'"),
        ):
            with pytest.raises(ImageError, match=words):
                as_image_source(value)
        os.fstat(read)
    finally:
        os.close(read)
        os.close(write)


def test_what_is_in_memory_and_what_is_a_path() -> None:
    data = b"\x89PNG"
    encoded: list[Any] = [
        data,
        bytearray(data),
        memoryview(data),
        io.BytesIO(data),
        {"bytes": data},
    ]
    pixels: list[Any] = [Image.new("RGB", (1, 1)), np.zeros((1, 1, 3), np.uint8)]
    others: list[Any] = ["a.png", Path("a.png"), None, 5, float("nan"), np.float64(1), ["a.png"]]
    assert [is_in_memory(value) for value in encoded + pixels] == [True] * 7
    assert [is_in_memory(value) for value in others] == [False] * 7
