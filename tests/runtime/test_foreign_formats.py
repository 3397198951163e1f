"""mismatch.runtime.foreign_formats: a file that is no image says what it is."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image, features

from mismatch.errors import ImageError
from mismatch.runtime.foreign_formats import foreign_format, heif_opener, image_suffix
from mismatch.runtime.preprocess import open_image

SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SVG, "is an SVG drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->" + SVG, "is an SVG drawing"),
        (b"\n<!DOCTYPE html><html><body>403</body></html>", "is a page of HTML"),
        (b"\xff\x0a" + bytes(40), "is JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "is JPEG XL"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "is HEIC"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + bytes(40), "is HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40), "is HEIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(40), "is a video"),
        (b"%PDF-1.7\n" + bytes(40), "is a PDF"),
        (b"\x1f\x8b\x08" + bytes(40), "is packed with gzip; unpack it"),
        (b"PK\x03\x04" + bytes(40), "is a zip archive; unpack it"),
        (b"hello", "is not an image in a format that Pillow reads"),
        (b"\0\0\0\x18ftyp", "is not an image in a format that Pillow reads"),
    ],
)
def test_it_is_named_with_the_remedy(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    for source in (data, tmp_path / "photo.jpg"):
        with pytest.raises(ImageError, match=words) as caught:
            open_image(source)
        assert ";" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read() -> None:
    picture = Image.new("RGB", (16, 16), (200, 40, 40))
    file = io.BytesIO()
    picture.save(file, "AVIF", quality=100)
    assert open_image(file.getvalue()).size == (16, 16)


def test_an_image_is_none_of_them() -> None:
    for format in ("PNG", "JPEG", "GIF", "TIFF", "BMP"):  # noqa: A001
        file = io.BytesIO()
        Image.new("RGB", (4, 4)).save(file, format)
        assert foreign_format(file) is None


def test_without_pillow_heif_the_remedy_is_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif_opener.cache_clear()
    try:
        with pytest.raises(
            ImageError, match=r"is HEIC, which only the extra \[heif\] reads; install"
        ):
            open_image(heic)
    finally:
        heif_opener.cache_clear()


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("JPEG", ".jpg"),
        ("MPO", ".jpg"),
        ("PNG", ".png"),
        ("WEBP", ".webp"),
        ("GIF", ".gif"),
        ("TIFF", ".tif"),
        ("BMP", ".bmp"),
        ("AVIF", ".avif"),
        ("JPEG2000", ".jp2"),
        ("PPM", ".img"),
    ],
)
def test_the_ending_that_fits_an_image(kind: str, suffix: str) -> None:
    file = io.BytesIO()
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    Image.new("RGB", (16, 16)).save(file, kind)
    assert image_suffix(file.getvalue()) == suffix
