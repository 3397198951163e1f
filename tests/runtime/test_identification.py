"""mismatch.runtime.identification: formats of cameras and shops become the picture that is seen."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mismatch.errors import ImageError
from mismatch.runtime.decoding import DecodingPool
from mismatch.runtime.foreign_formats import heif_opener
from mismatch.runtime.identification import identify
from mismatch.runtime.preprocess import ImageLimits, open_image, open_part
from tests.support.profiles import ADOBE, CMYK

WHITE = (255, 255, 255)
RED = (200, 40, 40)
BLUE = (20, 20, 220)
ORIENTATION = 0x0112


def picture(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return red, with a blue corner above left."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, 0, 16, 16))
    return image


def heic(image: Image.Image | None = None, **options: Any) -> bytes:
    """Return a picture as a phone writes it; `info`: of the picture, as exif and icc_profile;
    `others`: pictures that follow.
    """
    pillow_heif = pytest.importorskip(
        "pillow_heif", reason="pillow-heif is not installed; pip install pillow-heif"
    )
    info = options.pop("info", {})
    others = options.pop("others", ())
    file = pillow_heif.from_pillow(picture() if image is None else image)
    file.info.update(info)
    for other in others:
        file.add_from_pillow(other)
    written = io.BytesIO()
    file.save(written, quality=95, chroma=444, **options)
    return written.getvalue()


def is_near(image: Image.Image, at: tuple[int, int], colour: tuple[int, ...]) -> bool:
    return bool(np.abs(np.asarray(image)[at[1], at[0]].astype(int) - colour).max() <= 8)


def test_heic_is_read_here_and_elsewhere_alike() -> None:
    data = heic()
    image = open_image(data)
    assert (image.size, image.mode) == ((64, 48), "RGB")
    assert is_near(image, (4, 4), BLUE)
    assert is_near(image, (50, 40), RED)
    with DecodingPool(workers=1) as pool:
        assert pool.image(data, WHITE).tobytes() == image.tobytes()
    assert "HEIF" not in Image.OPEN  # other code's Pillow is as it was


def test_heic_stands_upright_once() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = open_image(heic(info={"exif": exif.tobytes()}))
    assert image.size == (48, 64)
    assert is_near(image, (44, 4), BLUE)  # above left → above right
    assert is_near(image, (4, 60), RED)


def test_heics_profile_says_what_its_colours_are() -> None:
    plain = open_image(heic())
    wide = open_image(heic(info={"icc_profile": ADOBE}))
    expected = io.BytesIO()
    picture().save(expected, "PNG", icc_profile=ADOBE)
    assert is_near(wide, (50, 40), open_image(expected.getvalue()).getpixel((50, 40)))  # type: ignore[arg-type]
    assert wide.getpixel((50, 40)) != plain.getpixel((50, 40))


def test_heics_transparency_and_first_picture() -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert is_near(open_image(heic(clear)), (9, 9), WHITE)
    two = heic(others=[Image.new("RGB", (64, 48), (0, 255, 0))])
    assert is_near(open_image(two), (50, 40), RED)


def test_heic_is_bounded_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match="has more than 3,071 pixels"):
        open_image(data)
    monkeypatch.undo()
    place = data.index(b"ispe") + 8
    for side in (60_000, 2**31):
        lying = data[:place] + 2 * side.to_bytes(4, "big") + data[place + 8 :]
        with pytest.raises(ImageError):
            open_image(lying)


@pytest.mark.parametrize("end", [20, 60, 300, -200])
def test_heic_that_is_cut_short(end: int) -> None:
    with pytest.raises(ImageError, match=r"HEIC that pillow-heif can't read|damaged or cut short"):
        open_image(heic()[:end])


def test_heic_is_refused_where_it_is_not_among_the_formats() -> None:
    data = heic()
    for formats in (("JPEG",), ("JPEG", "HEIF")):
        limits = ImageLimits(formats=formats)
        if "HEIF" in formats:
            assert open_part(data, WHITE, limits=limits)[0].size == (64, 48)
        else:
            with pytest.raises(ImageError, match="one of JPEG is needed"):
                open_part(data, WHITE, limits=limits)


def test_heic_is_nothing_without_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heif_opener.cache_clear()
    try:
        assert identify(io.BytesIO(data), ()) is None
    finally:
        heif_opener.cache_clear()


def test_a_cameras_mpo_is_its_first_picture() -> None:
    file = io.BytesIO()
    second = Image.new("RGB", (64, 48), (0, 255, 0))
    picture().save(file, "MPO", save_all=True, append_images=[second], quality=95)
    image = identify(io.BytesIO(file.getvalue()), ())
    assert image is not None
    assert image.format == "MPO"
    assert is_near(open_image(file.getvalue()), (50, 40), RED)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_become_8_by_their_range(kind: str) -> None:
    levels = np.linspace(0, 65_535, 64 * 48).astype(np.uint16).reshape(48, 64)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, kind)
    seen = np.asarray(open_image(file.getvalue()))[:, :, 0]
    assert np.abs(seen.astype(int) - levels / 257).max() <= 0.5


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_profile_and_else_as_pillow_does(kind: str) -> None:
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = {}
    for name, profile in (("profile", CMYK), ("none", b"")):
        file = io.BytesIO()
        inks.save(file, kind, icc_profile=profile)
        found[name] = np.asarray(open_image(file.getvalue()))[8, 8].astype(int)
    transform = ImageCms.ImageCmsTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(CMYK)),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        "CMYK",
        "RGB",
    )
    for name, expected in (("profile", transform.apply(inks)), ("none", inks.convert("RGB"))):
        assert np.abs(found[name] - np.asarray(expected)[8, 8]).max() <= 3
