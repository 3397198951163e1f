"""mismatch.jobs.output.image_bytes: images as their files are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from mismatch.errors import ImageError
from mismatch.jobs.output import image_bytes
from mismatch.jobs.output.image_bytes import ImageBytes, image_ending


@pytest.mark.parametrize(("kind", "ending"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_an_image_has_the_ending_of_its_format(kind: str, ending: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, kind)
    assert image_ending(file.getvalue(), "a") == ending
    with pytest.raises(ImageError, match=r"image 'a' is no JPEG, PNG or WebP.*\.parquet"):
        image_ending(b"GIF89a", "a")


def test_its_bytes_are_those_of_the_file(colour_images: Path) -> None:
    read = ImageBytes(str(colour_images)).read
    assert read(["red.png"]) == (colour_images / "red.png").read_bytes()
    assert read(["lie.jpg"]) == (colour_images / "lie.jpg").read_bytes()
    with pytest.raises(ImageError, match=r"no JPEG"):
        ImageBytes(str(colour_images), for_archives=True).read(["lie.jpg"])


def test_what_is_no_image_is_named(colour_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (colour_images / "empty.png").touch()
    read = ImageBytes(str(colour_images)).read
    for images, words in (
        (["gone.png"], r"gone\.png' not found"),
        (["."], "a folder or a device"),
        (["empty.png"], "is empty"),
        (["red.png", "blue.png"], "this row has 2 images"),
        (["https://example.org/a.png"], "is an address"),
    ):
        with pytest.raises(ImageError, match=words):
            read(images)
    monkeypatch.setattr(image_bytes, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="more than 10 bytes"):
        read(["red.png"])
