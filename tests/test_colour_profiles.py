"""Colours are seen as people see them: by the profile that a picture brings, where it can be used,
and by its bare numbers otherwise.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mismatch.colour_profiles import (
    MAX_BYTES,
    embedded_profile,
    profile_problem,
    rgb_profile,
    to_srgb,
)
from mismatch.images import encoded_image
from mismatch.runtime.open_image import open_part
from mismatch.runtime.preprocess import open_image
from tests.support.profiles import (
    ADOBE,
    CMYK,
    GREY,
    P3,
    PROPHOTO,
    SPACES,
    SRGB,
    grey_profile,
    icc,
    numbers_in,
)

# sRGB's numbers: strong and pale, dark and light, as goods have them
MEANT = [(220, 30, 30), (20, 160, 60), (250, 200, 40), (30, 60, 200), (128, 128, 128), (90, 40, 20)]
TELLING = (220, 30, 30)  # which other spaces write quite otherwise


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def stripes(space: str) -> Image.Image:
    """A block of 16 x 16 for each colour that is meant, by the numbers of a space."""
    return Image.fromarray(np.kron(numbers_in(space, MEANT), np.ones((16, 16, 1), np.uint8)))


def seen(source: Any) -> np.ndarray:
    """Return (N, 3): the middle of each block."""
    return np.asarray(open_image(source))[8, 8::16].astype(int)


def plain(source: Any) -> np.ndarray:
    """Return what is seen where no profile is looked at."""
    return np.asarray(open_part(source, (255, 255, 255), convert_colours=False)[0])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_colours_are_seen_as_they_are_meant(space: str, kind: str) -> None:
    choices: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "WEBP": {"lossless": True},
    }
    profile = rgb_profile(*SPACES[space])
    data = encoded(stripes(space), kind, icc_profile=profile, **choices.get(kind, {}))
    away = np.abs(seen(data) - MEANT)
    is_lossy = kind in ("JPEG", "AVIF", "MPO")
    assert away.max() <= (24 if is_lossy else 6), "a level of the space may be some of sRGB's"
    assert away.mean() <= (3 if is_lossy else 1.5)
    assert np.abs(plain(data)[8, 8::16] - np.array(MEANT)).max() > 15


@pytest.mark.parametrize("profile", [b"", SRGB], ids=["no profile", "sRGB's"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK"])
def test_srgb_stays_as_it_is_to_the_bit(mode: str, profile: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    data = encoded(image, kind, icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_image(data)), plain(data))
    assert not profile_problem(profile)


def test_a_picture_in_srgb_is_not_copied() -> None:
    image = Image.new("RGB", (4, 4))
    assert to_srgb(image, b"") is image
    assert to_srgb(image, SRGB) is image
    assert to_srgb(image, ADOBE) is not image


def test_transparency_is_kept_and_lies_on_a_background_of_srgb() -> None:
    image = stripes("Adobe RGB").convert("RGBA")
    image.putalpha(Image.new("L", image.size, 128))
    shown = np.asarray(open_image(encoded(image, icc_profile=ADOBE), (0, 0, 0)))[8, 8::16]
    assert np.abs(shown - np.array(MEANT) * 128 / 255).max() <= 4


def test_a_palette_has_the_colours_of_its_profile() -> None:
    image = stripes("ProPhoto").convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.abs(seen(encoded(image, icc_profile=PROPHOTO)) - MEANT).max() <= 6
    image.info["transparency"] = 0
    data = encoded(image, icc_profile=PROPHOTO, transparency=image.getpixel((8, 8)))
    shown = seen(data)
    assert shown[0].tolist() == [255, 255, 255]
    assert np.abs(shown[1:] - MEANT[1:]).max() <= 6


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1"])
def test_grey_levels_have_a_profile_of_their_own(mode: str) -> None:
    # as bright as half of the light
    pixels = np.full((8, 8), 128, np.uint8)
    image = Image.fromarray(pixels).convert("LA") if mode == "LA" else Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    if mode == "1":
        image = Image.fromarray(pixels).point(lambda level: 255, "1")
    data = encoded(image, icc_profile=GREY)
    levels = set(np.asarray(open_image(data)).ravel().tolist())
    assert levels <= ({255} if mode == "1" else {187, 188, 189})
    assert set(plain(data).ravel().tolist()) == ({255} if mode == "1" else {128})


def test_inks_look_as_their_profile_says() -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for data in (
        encoded(image, "TIFF", icc_profile=CMYK),
        encoded(image, "JPEG", icc_profile=CMYK, quality=100),
    ):
        shown = np.asarray(open_image(data))[8, 8].astype(int)
        assert np.ptp(shown) <= 6, "a grey of lightness 60, and no cyan"
        assert abs(shown.mean() - 145) <= 6
    for data in (encoded(image, "TIFF"), encoded(image, "TIFF", icc_profile=ADOBE)):
        np.testing.assert_array_equal(np.asarray(open_image(data)), plain(data))


@pytest.mark.parametrize("profile", [b"", GREY, CMYK, ADOBE])
def test_the_profile_of_another_kind_of_picture_is_left_out(profile: bytes) -> None:
    modes = {"RGB": GREY, "L": ADOBE, "CMYK": ADOBE, "P": GREY, "LAB": ADOBE, "LA": CMYK}
    for mode, other in modes.items():
        image = Image.new("LAB", (8, 8), (120, 150, 90)) if mode == "LAB" else None
        image = image or Image.new("RGB", (8, 8), TELLING).convert(mode)
        if profile in (b"", other):
            data = encoded(image, "TIFF", icc_profile=other)
            np.testing.assert_array_equal(np.asarray(open_image(data)), plain(data))


def patched(profile: bytes, place: int, part: bytes) -> bytes:
    return profile[:place] + part + profile[place + len(part) :]


def looping() -> bytes:
    """A profile whose tags lie in its own table, in each other and in themselves."""
    tags = {f"t{number:03d}".encode(): b"" for number in range(90)}
    profile = bytearray(icc(tags))
    for number in range(90):
        struct.pack_into(">II", profile, 136 + 12 * number, 128 + number, 1000)
    for name, place in ((b"rXYZ", 132), (b"A2B0", 144), (b"rTRC", 156)):
        profile[place : place + 4] = name
    return bytes(profile)


def dark() -> bytes:
    """A profile that makes every picture black."""
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 2, 0, 0)
    colorant = b"XYZ \0\0\0\0" + struct.pack(">3i", 20000, 20000, 20000)
    tags = dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ"), colorant)
    return icc(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def greedy() -> bytes:
    """A few bytes that claim a table of 255 x 255 x 255 x 255 colours."""
    unit = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft2\0\0\0\0" + bytes([4, 3, 255, 0]) + unit + struct.pack(">HH", 4096, 4096)
    return icc({b"A2B0": table}, space=b"CMYK", connection=b"Lab ", kind=b"prtr")


def long_curves() -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">I", 2**31) + bytes(600_000)
    colorant = b"XYZ \0\0\0\0" + struct.pack(">3i", 20000, 20000, 20000)
    tags = dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ"), colorant)
    return icc(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


USELESS = {
    "nothing": b"\0",
    "a header alone": ADOBE[:128],
    "cut short": ADOBE[:200],
    "no profile": b"GIF89a" * 100,
    "huge": ADOBE + bytes(MAX_BYTES),
    "no signature": patched(ADOBE, 36, b"acse"),
    "Lab": icc({}, space=b"Lab "),
    "XYZ": icc({}, space=b"XYZ "),
    "fifteen inks": icc({}, space=b"FCLR"),
    "named colours": patched(ADOBE, 12, b"nmcl"),
    "a link": patched(ADOBE, 12, b"link"),
    "abstract": patched(ADOBE, 12, b"abst"),
    "no tags": icc({}),
    "a billion tags": patched(ADOBE, 128, struct.pack(">I", 10**9)),
    "more tags than are read": icc({f"t{number:03d}".encode(): b"" for number in range(101)}),
    "tables without bound": icc({b"D2B0": b"mpet" + bytes(100)}),
    "looping": looping(),
    "dark": dark(),
    "greedy": greedy(),
    "long curves": long_curves(),
}


@pytest.mark.parametrize("profile", USELESS.values(), ids=USELESS.keys())
def test_a_profile_that_cant_be_used_costs_nothing_and_changes_nothing(profile: bytes) -> None:
    modes = ("RGB", "CMYK") if profile == USELESS["greedy"] else ("RGB", "RGBA", "L")
    for mode in modes:
        data = encoded(Image.new("RGB", (9, 9), TELLING).convert(mode), "TIFF", icc_profile=profile)
        began = time.process_time()
        shown = np.asarray(open_image(data))
        assert time.process_time() - began < 0.2
        np.testing.assert_array_equal(shown, plain(data))
    problem = profile_problem(profile)
    assert problem
    assert "\n" not in problem


@pytest.mark.parametrize("base", [ADOBE, CMYK, GREY], ids=["RGB", "CMYK", "grey"])
def test_damage_anywhere_is_never_an_error(base: bytes) -> None:
    rng = np.random.default_rng(0)
    mode = {ADOBE: "RGB", CMYK: "CMYK", GREY: "L"}[base]
    image = Image.new(mode, (4, 4))
    for _ in range(60):
        profile = bytearray(base)
        for place in rng.integers(0, len(base), 4):
            profile[place] = rng.integers(0, 256)
        began = time.process_time()
        assert to_srgb(image, bytes(profile)).size == (4, 4)
        assert time.process_time() - began < 0.5


def png_with(image: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks behind its head."""
    data = encoded(image)
    more = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return data[:33] + more + data[33:]


def gamma_chunk(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 / gamma))


def primaries_chunk(space: str) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in SPACES[space][0]))


@pytest.mark.parametrize("space", SPACES)
def test_a_png_says_gamma_and_primaries(space: str) -> None:
    chunks = gamma_chunk(SPACES[space][1]), primaries_chunk(space)
    image = stripes(space)
    assert np.abs(seen(png_with(image, *chunks)) - MEANT).max() <= 6
    # one of them alone says too little, as browsers have it, and sRGB's own chunk comes first
    for others in (chunks[:1], chunks[1:], (*chunks, (b"sRGB", b"\0"))):
        np.testing.assert_array_equal(open_image(png_with(image, *others)), image)


def test_a_png_that_says_srgb_in_other_words_is_srgb() -> None:
    image = stripes("Adobe RGB")
    data = png_with(image, (b"gAMA", struct.pack(">I", 45455)), primaries_chunk("linear"))
    np.testing.assert_array_equal(open_image(data), image)


def test_an_embedded_profile_comes_before_gamma() -> None:
    image = stripes("Adobe RGB")
    data = png_with(image, gamma_chunk(1.0), primaries_chunk("ProPhoto"))
    with Image.open(io.BytesIO(data)) as opened:
        profiled = encoded(opened, icc_profile=ADOBE)
    both = profiled[:33] + data[33 : 33 + 16 + 44] + profiled[33:]
    assert np.abs(seen(both) - MEANT).max() <= 6


@pytest.mark.parametrize(
    ("chromaticity", "gamma"),
    [
        ((0.0,) * 8, 2.2),
        ((0.3, 0.3) * 4, 2.2),
        ((0.3, 0.3, 0.6, 0.0, 0.3, 0.6, 0.15, 0.06), 2.2),
        ((42949.0,) * 8, 2.2),
        ((float("nan"),) * 8, 2.2),
        (SPACES["linear"][0], 0.0001),
        (SPACES["linear"][0], 5000.0),
    ],
)
def test_impossible_primaries_make_no_profile(chromaticity: Any, gamma: float) -> None:
    assert rgb_profile(chromaticity, gamma) == b""


def test_the_profile_of_a_picture_in_memory_is_that_of_its_file() -> None:
    cases = [
        encoded(stripes("Adobe RGB"), icc_profile=ADOBE),
        encoded(stripes("Adobe RGB").convert("RGBA"), "TIFF", icc_profile=ADOBE),
        encoded(Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "TIFF", icc_profile=CMYK),
        encoded(Image.fromarray(np.full((9, 9), 30_000, np.uint16)), icc_profile=GREY),
        png_with(stripes("ProPhoto"), gamma_chunk(1.8), primaries_chunk("ProPhoto")),
        encoded(stripes("Adobe RGB"), icc_profile=USELESS["cut short"]),
        encoded(stripes("Adobe RGB"), "TIFF", icc_profile=USELESS["huge"]),
        encoded(Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "TIFF"),
    ]
    for data in cases:
        expected = np.asarray(open_image(data))
        for source in (Image.open(io.BytesIO(data)), encoded_image(Image.open(io.BytesIO(data)))):
            np.testing.assert_array_equal(np.asarray(open_image(source)), expected)


def test_what_is_no_bytes_is_no_profile() -> None:
    image = Image.new("RGB", (4, 4), TELLING)
    for value in (None, 3, "sRGB", (1, 2)):
        image.info["icc_profile"] = value
        assert embedded_profile(image) == b""
        assert open_image(image).getpixel((1, 1)) == TELLING


def test_a_turned_picture_has_its_colours_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(stripes("Adobe RGB"), icc_profile=ADOBE, exif=exif)
    shown = np.asarray(open_image(data))[8::16, 8].astype(int)
    assert np.abs(shown - MEANT).max() <= 6


def test_gammas_of_grey_differ() -> None:
    image = Image.new("L", (2, 2), 60)
    profiles = [grey_profile(gamma) for gamma in (1.0, 1.8, 3.0)]
    levels = [int(np.asarray(to_srgb(image, profile))[0, 0, 0]) for profile in profiles]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == 3


def test_the_spaces_of_phones_and_cameras_are_told_from_srgb() -> None:
    image = Image.new("RGB", (2, 2), TELLING)
    shown = {to_srgb(image, profile).getpixel((0, 0)) for profile in (SRGB, ADOBE, PROPHOTO, P3)}
    assert len(shown) == 4


@pytest.mark.parametrize("profile", [ADOBE, P3, PROPHOTO], ids=["Adobe RGB", "P3", "ProPhoto"])
def test_photos_look_the_same_in_every_space(fashion: Path, profile: bytes) -> None:
    spaces = [ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (SRGB, profile)]
    there = ImageCms.ImageCmsTransform(spaces[0], spaces[1], "RGB", "RGB")
    for path in sorted((fashion / "images").glob("*.jpg"))[::700]:
        photo = open_image(path)
        data = encoded(there.apply(photo), icc_profile=profile)
        before = np.abs(plain(data).astype(int) - np.asarray(photo)).mean()
        after = np.abs(np.asarray(open_image(data)).astype(int) - np.asarray(photo)).mean()
        assert after < 1 < before or before < 1.5
        np.testing.assert_array_equal(open_image(path), Image.open(path).convert("RGB"))
