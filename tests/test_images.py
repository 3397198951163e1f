"""Image files from strangers: known formats, within limits, before anything is decoded."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from mismatch.errors import ImageError
from mismatch.serving.images import checked_image, from_base64


def encoded(kind: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", size, "red").save(held, kind, **options)
    return held.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_usual_formats_pass_unchanged(kind: str) -> None:
    data = encoded(kind)
    assert checked_image(data, most=10_000, pixels=1_000) is data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello", "no known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known format"),
        (b"GIF89a", "no known format"),
        (encoded("PPM"), "no known format"),
        (encoded("PNG", (100, 100)), "more than 1,000 pixels"),
        (b"\xff\xd8" + b"x" * 20_000, "more than 10,000 bytes"),
    ],
)
def test_others_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        checked_image(data, most=10_000, pixels=1_000)


def test_base64() -> None:
    assert from_base64(base64.b64encode(b"abc").decode(), most=3) == b"abc"
    for text in ("????", "a", "äöü", "YWJj\nYWJj"):
        with pytest.raises(ImageError, match="not base64"):
            from_base64(text, most=100)
    with pytest.raises(ImageError, match="more than 3 bytes"):
        from_base64(base64.b64encode(b"abcdefgh").decode(), most=3)
