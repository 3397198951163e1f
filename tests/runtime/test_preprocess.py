"""Images of every kind that a shop's folder holds, whole and broken."""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import sys
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from mismatch.colour_profiles import to_srgb
from mismatch.errors import ImageError, ImageNotFoundError, MachineError
from mismatch.io.remote import Remote
from mismatch.runtime import open_image as opening
from mismatch.runtime.preprocess import Preprocessor, open_image
from mismatch.specs import ImageSpec
from tests.support.profiles import ADOBE

CLIP = ImageSpec(size=32, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))


def newer(format: str) -> Any:  # noqa: A002
    """What older versions of Pillow can't write."""
    old = tuple(map(int, PIL.__version__.split(".")[:2])) < (11, 3)
    return pytest.param(format, marks=pytest.mark.skipif(old, reason="this Pillow can't write it"))


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Smooth, and different in every corner."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack(
            [x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=2
        ).astype(np.uint8)
    )


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 - Pillow's word
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def same(image: Image.Image, expected: Image.Image) -> bool:
    return (
        image.mode == expected.mode == "RGB"
        and image.size == expected.size
        and image.tobytes() == expected.tobytes()
    )


def noisy() -> Image.Image:
    """Hard to compress, so that a file cut in half is cut in its pixels."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))


def half(format: str) -> bytes:  # noqa: A002
    whole = encoded(noisy(), format)
    return whole[: len(whole) // 2]


# ---- what a source may be


def test_a_path_a_string_bytes_an_image_and_an_array_are_the_same(tmp_path: Path) -> None:
    expected = picture()
    path = tmp_path / "a.png"
    expected.save(path)
    for source in (path, str(path), path.read_bytes(), expected, np.asarray(expected)):
        assert same(open_image(source), expected)


@pytest.mark.parametrize(
    "format",
    ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG", "JPEG2000", newer("AVIF"), "ICO", "TGA"],
)
def test_formats(format: str, tmp_path: Path) -> None:  # noqa: A002
    path = tmp_path / "named.jpg"  # the bytes decide, not the name
    path.write_bytes(encoded(picture(32, 32), format))
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert (
        np.abs(np.asarray(image).astype(int) - np.asarray(picture(32, 32)).astype(int)).mean() < 12
    )


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(encoded(picture(), "GIF"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        open_image(path)
    if sys.platform == "linux":
        assert str(path) not in {
            os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
        }


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for format in ("GIF", "WEBP", "PNG"):  # noqa: A001
        source = encoded(
            frames[0],
            format,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if format == "WEBP" else {}),
        )
        assert open_image(source).getpixel((4, 4)) == (255, 0, 0)


def test_an_rgb_image_is_not_copied_and_no_source_is_changed() -> None:
    image = picture()
    assert open_image(image) is image
    grey = image.convert("L")
    open_image(grey)
    assert grey.mode == "L"


@pytest.mark.parametrize(
    ("array", "level"),
    [
        (np.full((4, 5), 200, np.uint8), 200),
        (np.full((4, 5, 1), 200, np.uint8), 200),
        (np.full((4, 5, 3), 200, np.uint8), 200),
        (np.full((4, 5, 4), 255, np.uint8), 255),
        (np.zeros((4, 5, 4), np.uint8), 255),  # wholly transparent: the background
        (np.ones((4, 5), np.bool_), 255),
        (np.full((4, 5), 65535, np.uint16), 255),
        (np.full((4, 5, 3), 257 * 77, np.uint16), 77),
        (np.full((5, 4), 9, np.uint8).T, 9),
        (np.full((4, 10, 3), 9, np.uint8)[:, ::-2], 9),
    ],
)
def test_arrays(array: np.ndarray, level: int) -> None:
    image = open_image(array)
    assert (image.size, image.getpixel((0, 0))) == ((5, 4), (level, level, level))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5), np.float32), "array of float32"),
        (np.zeros((4, 5, 3), np.int64), "array of int64"),
        (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\)"),
        (np.zeros((4,), np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((2, 4, 5, 3), np.uint8), "shape"),
    ],
)
def test_arrays_that_are_no_image(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(array)


# ---- modes


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_opaque_modes_are_converted_as_pillow_does(mode: str) -> None:
    image = picture().convert(mode)
    assert same(open_image(image), image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparency_shows_the_background(mode: str) -> None:
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    source = Image.new("PA", clear.size) if mode == "PA" else clear.convert(mode)
    assert open_image(source).getcolors() == [(1200, (255, 255, 255))]
    assert open_image(source, background=(1, 2, 3)).getcolors() == [(1200, (1, 2, 3))]
    assert (
        Preprocessor(ImageSpec(size=8, mean=(0, 0, 0), std=(1, 1, 1), background=(0, 0, 0)))(
            source
        ).max()
        == 0
    )


def test_half_transparent_is_half_background() -> None:
    assert open_image(Image.new("RGBA", (4, 4), (0, 100, 200, 128))).getpixel((0, 0)) == (
        127,
        177,
        227,
    )


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_colour_shows_the_background(format: str) -> None:  # noqa: A002
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    opened = open_image(encoded(image, format, transparency=1))
    assert opened.getcolors() == [(16, (255, 255, 255))]


def test_a_palette_with_levels_of_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 0, 0, 0])
    assert open_image(encoded(image, "PNG", transparency=bytes([255, 128]))).getpixel((0, 0)) == (
        127,
        127,
        127,
    )


def test_a_transparent_colour_of_grey_and_rgb_files() -> None:
    assert open_image(encoded(Image.new("L", (4, 4), 7), "PNG", transparency=7)).getpixel(
        (0, 0)
    ) == (255, 255, 255)
    assert open_image(
        encoded(Image.new("RGB", (4, 4), (7, 8, 9)), "PNG", transparency=(7, 8, 9))
    ).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF", newer("PPM")])
def test_16_bits_are_scaled_not_cut(format: str) -> None:  # noqa: A002
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    opened = open_image(encoded(Image.fromarray(values), format))
    assert np.asarray(opened)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]
    assert np.asarray(opened).std(axis=2).max() == 0


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_tiffs_of_many_bits_are_read_as_they_are_meant(bits: int, white_is_zero: bool) -> None:
    if bits == 12 and white_is_zero:
        pytest.skip("Pillow reads no such file")
    levels = np.array([[0, 0.25, 0.5, 1]]) * (2**bits - 1)
    shown = (2**bits - 1) - levels if white_is_zero else levels
    opened = open_image(grey_tiff(shown.astype(np.uint16), bits, white_is_zero))
    np.testing.assert_allclose(np.asarray(opened)[0, :, 0], [0, 64, 128, 255], atol=1)


def test_signed_grey_tiffs_are_refused() -> None:
    with pytest.raises(ImageError, match="signed pixels"):
        open_image(grey_tiff(np.zeros((1, 4), np.uint16), 16, white_is_zero=False, signed=True))


def grey_tiff(
    levels: NDArray[np.uint16], bits: int, white_is_zero: bool, signed: bool = False
) -> bytes:
    """Write a TIFF of one strip by hand."""
    height, width = levels.shape
    if bits == 16:
        pixels = levels.astype("<u2").tobytes()
    else:  # two pixels in three bytes, the highest bits first
        pairs = levels.reshape(-1, 2).astype(np.uint32)
        packed = (pairs[:, 0] << 12) | pairs[:, 1]
        pixels = b"".join(int(value).to_bytes(3, "big") for value in packed)
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(pixels)),
        (339, 3, 2 if signed else 1),
    ]
    place = 8 + len(pixels)
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", place)
    return head + pixels + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


def test_32_bits_that_are_16_are_scaled_and_others_refused() -> None:
    assert open_image(Image.fromarray(np.array([[0, 65535]], np.int32))).getpixel((1, 0)) == (
        255,
        255,
        255,
    )
    with pytest.raises(ImageError, match="from -5 to 70000"):
        open_image(Image.fromarray(np.array([[-5, 70000]], np.int32)))
    with pytest.raises(ImageError, match="floating-point"):
        open_image(Image.fromarray(np.zeros((4, 4), np.float32)))


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_is_applied_once(orientation: int, format: str) -> None:  # noqa: A002
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    source = encoded(
        picture(), format, exif=exif, **({"lossless": True} if format == "WEBP" else {})
    )
    with Image.open(io.BytesIO(source)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    opened = open_image(source)
    assert same(opened, expected)
    assert opened.size == ((40, 30) if orientation < 5 else (30, 40))
    assert same(open_image(opened), expected)
    with Image.open(io.BytesIO(source)) as image:
        assert same(open_image(image), expected)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0nonsense",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_hurts_nobody(exif: bytes) -> None:
    assert open_image(encoded(picture(), "JPEG", exif=exif)).size == (40, 30)


# ---- what can't be used


def test_an_absent_file_says_where_to_look(tmp_path: Path) -> None:
    for path in (tmp_path / "no.jpg", tmp_path / "no" / "such" / "folder.jpg"):
        with pytest.raises(ImageNotFoundError, match="folder that it is relative to") as caught:
            open_image(path)
        assert isinstance(caught.value, FileNotFoundError)
        assert str(path) in str(caught.value)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageNotFoundError):
        open_image(tmp_path / "file" / "below.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just some text, named .jpg\n" * 50, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (half("JPEG"), "cut short"),
        (half("PNG"), "cut short"),
        (half("GIF"), "image"),
        (half("WEBP"), "cut short"),
        (half("BMP"), "cut short"),
        (half("TIFF"), "image"),
        (encoded(picture(), "JPEG")[:10], "image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "image"),
    ],
    ids=[
        "empty",
        "text",
        "svg",
        "eps",
        "jpeg",
        "png",
        "gif",
        "webp",
        "bmp",
        "tiff",
        "jpeg-start",
        "png-start",
    ],
)
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_broken_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        open_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ImageNotFoundError)
    with pytest.raises(ImageError, match="given as bytes"):
        open_image(content)


@pytest.mark.parametrize("length", range(0, 1200, 37))
def test_a_jpeg_cut_anywhere_is_refused(length: int) -> None:
    whole = encoded(picture(64, 64), "JPEG", quality=95)
    assert len(whole) > 1200
    with pytest.raises(ImageError):
        open_image(whole[:length])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO"])
@pytest.mark.filterwarnings("ignore")
def test_random_damage_never_escapes_as_another_error(format: str) -> None:  # noqa: A002
    whole = bytearray(encoded(picture(32, 32), format))
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 5):
            broken[place] = rng.integers(0, 256)
        try:
            assert open_image(bytes(broken)).mode == "RGB"
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_folders_pipes_addresses_and_odd_names(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="folder"):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="folder"):
        open_image(".")
    with pytest.raises(ImageNotFoundError):
        open_image("")
    with pytest.raises(ImageError, match="`fetch_images` says so"):
        open_image("https://example.com/a.jpg")
    with pytest.raises(ImageError, match="download it first"):
        open_image("ftp://example.com/a.jpg")
    with pytest.raises(ImageError, match="can't be opened"):
        open_image("a\0b.jpg")
    with pytest.raises(ImageError, match="can't be opened"):
        open_image("x" * 5000)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ImageError, match="device"):
            open_image(tmp_path / "pipe")


@pytest.mark.parametrize("limit", [1199, 700, 599, 1])
def test_too_many_pixels_are_refused_without_a_warning(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow itself only warns below twice its limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for source in (encoded(picture(), "PNG"), picture()):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ImageError, match=f"more than {limit:,} pixels; make it smaller"):
                open_image(source)
        assert caught == []


def test_pillows_limit_is_obeyed_and_may_be_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    assert open_image(encoded(picture(), "PNG")).size == (40, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert open_image(encoded(picture(), "PNG")).size == (40, 30)


def test_a_png_that_claims_a_billion_pixels_costs_nothing() -> None:
    bomb = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    tracemalloc.start()
    with pytest.raises(ImageError):
        open_image(bytes(bomb))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_pillows_settings_are_left_alone() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == 89478485


# ---- pixel_values


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize(
    "size", [(40, 30), (30, 41), (3, 5), (1, 1), (300, 1), (1, 300), (32, 32), (1, 4000)]
)
@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_every_size_becomes_a_square(mode: Any, size: tuple[int, int], rounding: Any) -> None:
    spec = ImageSpec(
        size=32,
        resize=0 if mode == "longest" else 36,
        mean=CLIP.mean,
        std=CLIP.std,
        mode=mode,
        crop_rounding=rounding,
    )
    pixels = Preprocessor(spec)(picture(*size))
    assert (pixels.shape, pixels.flags.c_contiguous) == ((3, 32, 32), True)
    assert pixels.dtype == np.float32
    assert np.isfinite(pixels).all()


def test_normalising_is_the_formula() -> None:
    pixels = Preprocessor(CLIP)(picture(32, 32))
    mean, std = (np.array(values)[:, None, None] for values in (CLIP.mean, CLIP.std))
    assert (
        np.abs(pixels - (np.asarray(picture(32, 32)).transpose(2, 0, 1) / 255 - mean) / std).max()
        < 1e-6
    )


@pytest.mark.parametrize(
    ("rounding", "width", "left"),
    [
        ("floor", 35, 1),
        ("round", 35, 2),
        ("floor", 33, 0),
        ("round", 33, 0),
        ("round", 37, 2),
        ("round", 39, 4),
    ],
)
def test_crop_offsets(rounding: Any, width: int, left: int) -> None:
    """Python's round takes halves to the even number, as torchvision does."""
    spec = ImageSpec(size=32, mean=(0, 0, 0), std=(1, 1, 1), crop_rounding=rounding)
    columns = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (32, width, 3))
    assert round(float(Preprocessor(spec)(columns)[0, 0, 0]) * 255) == left


def test_longest_fills_around() -> None:
    spec = ImageSpec(size=32, mean=(0, 0, 0), std=(1, 1, 1), mode="longest", fill=(255, 0, 51))
    # resized to 32 x 15: 8 rows above, 9 below
    pixels = Preprocessor(spec)(Image.new("RGB", (64, 30), (10, 20, 30)))
    rows = (pixels[:, :, 0] * 255).round().astype(int).T.tolist()
    assert [row == [255, 0, 51] for row in rows] == [True] * 8 + [False] * 15 + [True] * 9
    assert rows[10] == [10, 20, 30]


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (300, 300), (3, 2)])
@pytest.mark.parametrize(("rounding", "start"), [("floor", 1), ("round", 2)])
def test_squash_resizes_both_sides_and_crops_the_centre(
    size: tuple[int, int], rounding: Any, start: int
) -> None:
    image = picture(*size)
    spec = ImageSpec(
        size=32, resize=35, mode="squash", mean=(0, 0, 0), std=(1, 1, 1), crop_rounding=rounding
    )
    whole = Preprocessor(
        ImageSpec(size=35, mode="squash", mean=(0, 0, 0), std=(1, 1, 1), crop_rounding=rounding)
    )(image)
    assert np.array_equal(
        Preprocessor(spec)(image), whole[:, start : start + 32, start : start + 32]
    )


def test_squash_without_a_crop_gives_the_whole_image() -> None:
    for resize in (0, 32):
        spec = ImageSpec(size=32, resize=resize, mode="squash", mean=(0, 0, 0), std=(1, 1, 1))
        columns = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (16, 64, 3))
        levels = Preprocessor(spec)(columns)[0, 0] * 255
        assert (levels[0] < 6, levels[-1] > 183) == (True, True)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("rounding", ["floor", "round"])
@pytest.mark.parametrize("size", [(600, 40), (40, 600), (900, 100), (100, 1700)])
def test_an_elongated_image_is_resized_where_it_is_kept(
    interpolation: Any, rounding: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one level of resizing it whole."""
    spec = ImageSpec(
        size=32, mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation, crop_rounding=rounding
    )
    image = Image.fromarray(
        np.random.default_rng(0).integers(40, 216, (size[1], size[0], 3), dtype=np.uint8)
    )
    part = Preprocessor(spec)(image)
    monkeypatch.setattr("mismatch.runtime.preprocess._LONG", 10**9)
    assert np.abs(part - Preprocessor(spec)(image)).max() < 1.001 / 255 * (
        3 if rounding == "round" else 1
    )


def test_a_very_long_strip_costs_little() -> None:
    strip = Image.new("RGB", (200_000, 1), (9, 9, 9))  # resized whole at 224: 30 GB
    assert Preprocessor(ImageSpec(size=224, mean=(0, 0, 0), std=(1, 1, 1)))(strip) == pytest.approx(
        9 / 255, abs=1e-6
    )


def test_out_is_written_in_place() -> None:
    batch = np.zeros((2, 3, 32, 32), np.float32)
    returned = Preprocessor(CLIP)(picture(), out=batch[1])
    assert returned.base is batch or returned is batch[1] or np.shares_memory(returned, batch)
    assert np.array_equal(batch[1], Preprocessor(CLIP)(picture()))
    assert not batch[0].any()


def test_sixteen_threads_give_the_same(tmp_path: Path) -> None:
    paths = []
    for i in range(24):
        paths.append(tmp_path / f"{i}.png")
        picture(40 + i, 30).save(paths[-1])
    preprocess, start = Preprocessor(CLIP), threading.Barrier(8)

    def work(path: Path) -> np.ndarray:
        if path in paths[:8]:
            start.wait(timeout=20)
        return preprocess(path)

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, paths))
    assert all(np.array_equal(a, preprocess(path)) for a, path in zip(together, paths, strict=True))


# ---- JPEGs decoded smaller


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(
    ("size", "times"),
    [
        ((64, 64), 1),
        ((127, 128), 1),
        ((128, 129), 2),
        ((301, 201), 2),
        ((1000, 701), 8),
        ((128, 1100), 1),
    ],
)
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(
    mode: str, size: tuple[int, int], times: int
) -> None:
    preprocess = Preprocessor(ImageSpec(size=32, mean=(0, 0, 0), std=(1 / 255,) * 3, mode=mode))  # type: ignore[arg-type]
    if mode == "longest" and size != (128, 1100):
        times = max(times, {127: 1, 128: 2, 301: 4}.get(size[0], times))
        times = 2 if size == (127, 128) else times
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    levels = np.asarray(coarse).astype(np.int16) + random.normal(
        0, 4, (size[1], size[0], 3)
    ).astype(np.int16)
    picture = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    data = encoded(picture, "JPEG", quality=92)
    assert preprocess.reduction(size) == times
    whole = preprocess(Image.open(io.BytesIO(data)).convert("RGB"))  # decoded at full size by us
    difference = np.abs(preprocess(data) - whole)
    assert difference.mean() <= 0.5
    assert difference.max() <= (6 if times > 1 else 0)


def test_a_large_jpeg_with_a_profile_is_decoded_smaller_and_converted_alike() -> None:
    preprocess = Preprocessor(ImageSpec(size=32, mean=(0, 0, 0), std=(1 / 255,) * 3))
    coarse = np.random.default_rng(0).integers(40, 216, (6, 8, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((800, 600), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95, icc_profile=ADOBE)
    assert preprocess.reduction(large.size) == 8
    whole = preprocess.resize(to_srgb(Image.open(io.BytesIO(data)), ADOBE))
    difference = np.abs(preprocess(data).transpose(1, 2, 0) - np.asarray(whole))
    assert difference.mean() <= 0.5
    assert difference.max() <= 6
    assert np.abs(preprocess(data) - preprocess(large)).mean() > 3


# what has no whole number of smaller pixels is decoded whole
@pytest.mark.parametrize(("size", "levels"), [((304, 208), 6), ((301, 203), 0)])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_turned_jpeg_is_decoded_smaller_too(
    size: tuple[int, int], levels: int, orientation: int
) -> None:
    preprocess, exif = Preprocessor(CLIP), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    coarse = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    ).resize(size, Image.Resampling.BICUBIC)
    data = encoded(coarse, "JPEG", quality=95, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert preprocess.reduction(turned.size) == 2
    difference = np.abs(
        np.asarray(preprocess.picture(data)).astype(int)
        - np.asarray(preprocess.resize(turned)).astype(int)
    )
    assert difference.max() <= levels
    assert (difference.max() > 0) == (levels > 0)


def test_other_formats_and_images_in_memory_keep_every_pixel() -> None:
    preprocess, large = Preprocessor(CLIP), picture(640, 480)
    expected = preprocess.resize(large).tobytes()
    for source in (encoded(large, "PNG"), large, np.asarray(large)):
        assert preprocess.picture(source).tobytes() == expected


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "can't be opened: Too many open files"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_machine_lacks_says_nothing_of_the_image(
    colour_images: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(opening, "open_once" if isinstance(error, OSError) else "_load", fail)
    with pytest.raises(MachineError, match=words):
        open_image(colour_images / "red.png")


def test_an_object_is_the_image_that_a_file_with_its_bytes_is(
    store: Remote, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("red.png", "whole.jpg", "cut.jpg", "lie.jpg"):
        (store / name).write((colour_images / name).read_bytes())
    (store / "empty.jpg").write(b"")
    for name in ("red.png", "whole.jpg"):
        assert open_image(store / name).tobytes() == open_image(colour_images / name).tobytes()
    for name, said in {
        "cut.jpg": "is damaged or cut short",
        "lie.jpg": "is not an image in a format",
        "empty.jpg": "is empty (0 bytes)",
    }.items():
        with pytest.raises(
            ImageError, match=re.escape(f"image '{store}/{name}' ") + ".*" + re.escape(said)
        ):
            open_image(store / name)
    with pytest.raises(
        ImageNotFoundError,
        match=f"image '{store}/gone.jpg' not found; check its path",
    ):
        open_image(store / "gone.jpg")
    with pytest.raises(ImageError, match="is an address; mismatch fetches nothing"):
        open_image(str(store / "red.png"))  # a text is never fetched
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with pytest.raises(ImageError, match="has more than 240 bytes; make it smaller, or raise PIL"):
        open_image(store / "whole.jpg")


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (
            errno.EIO,
            ImageError,
            (
                r"can't be read \(the store fails, tried 4 times\); look after its disk or network,"
                r" then score the row again"
            ),
        ),
        (
            errno.EHOSTUNREACH,
            MachineError,
            "can't be fetched: the store fails, tried 4 times; look after the network, then go on",
        ),
        (
            errno.EACCES,
            ImageError,
            "can't be opened .*the store fails.*; check its path and permissions",
        ),
    ],
)
def test_a_store_that_fails_is_the_row_s_error_and_one_out_of_reach_the_machine_s(
    number: int, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fail(self: Remote, start: int, end: int) -> bytes:
        asked.append(start)
        raise OSError(number, "the store fails")

    monkeypatch.setattr(Remote, "read", fail)
    monkeypatch.setattr("mismatch.io.retries.PAUSES", (0.0, 0.0, 0.0))
    with pytest.raises(kind, match=said):
        open_image(Remote.of("s3://shop/a.jpg"))
    assert len(asked) == (1 if number == errno.EACCES else 4)
