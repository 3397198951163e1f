"""What a picture's file may hold is counted before it is decoded, in every kind of file, and honest
files pass.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import hostile_pictures as hostile
from mismatch.errors import ImageRefusedError
from mismatch.runtime import image_bounds
from mismatch.runtime.image_bounds import check_structure, is_costly_exif
from mismatch.runtime.preprocess import open_image

COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: hostile.jpeg_of_scans(64, 3_000), "scans"),
    "segments of EXIF": (lambda: hostile.jpeg_of_exif(50_000), "segments"),
    "nothing between segments": (lambda: hostile.jpeg_of_junk(2**20), "bytes between"),
    "tags of EXIF": (lambda: hostile.jpeg_of_tags(4_000), "tags that name"),
    "more tags of EXIF": (lambda: hostile.jpeg_of_tags(4_900), "tags"),
    "comments of a GIF": (lambda: hostile.gif_of_comments(50_000), "blocks"),
    "chunks of a PNG": (lambda: hostile.png_of_chunks(50_000), "chunks"),
    "runs of a BMP": (lambda: hostile.bmp_of_runs(5_000), "run-length"),
    "a tile": (lambda: hostile.tiff_of_tile(4_000), "tile of 4,000 x 4,000"),
    "tiles": (lambda: hostile.tiff_of_tiles(100), "100 tiles of 2,048 x 2,048"),
    "tags of a TIFF": (lambda: hostile.tiff_of_tags(4_000), "tags"),
    "pages of a TIFF": (lambda: hostile.tiff_of_pages(5_000), "pages"),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_file_is_refused_by_its_structure(kind: str) -> None:
    make, words = COSTLY[kind]
    file = io.BytesIO(make())
    with pytest.raises(ImageRefusedError, match=f"image 'a' has .*{words}.*; save it again"):
        check_structure(file, "image 'a'")
    assert file.tell() == 0


@pytest.mark.parametrize("kind", COSTLY)
def test_so_it_is_wherever_an_image_is_opened(kind: str, tmp_path: Path) -> None:
    make, words = COSTLY[kind]
    path = tmp_path / "a.jpg"
    path.write_bytes(make())
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageRefusedError, match=words):
            open_image(source)


HONEST: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"icc_profile": bytes(200_000), "comment": b"by hand"}),
    ("PNG", {}),
    ("GIF", {"comment": b"long " * 5_000}),
    (
        "GIF",
        {
            "save_all": True,
            "append_images": [Image.new("RGB", (90, 60), name) for name in ("red", "blue")] * 20,
        },
    ),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"big_tiff": True}),
    ("TIFF", {"save_all": True, "append_images": [Image.new("RGB", (90, 60))] * 50}),
    ("AVIF", {}),
]


@pytest.mark.parametrize(("kind", "options"), HONEST)
def test_honest_files_pass(kind: str, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a bag " * 500
    file = io.BytesIO()
    known = kind not in ("GIF", "BMP")
    Image.fromarray(pixels).save(file, kind, **options, **({"exif": exif} if known else {}))
    check_structure(file, "image 'a'")
    assert open_image(file.getvalue()).size == ((60, 90) if known else (90, 60)), (
        "its EXIF turns it still"
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "ICO"])
def test_a_file_that_is_cut_anywhere_is_left_to_its_decoder(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, kind)
    for length in range(len(file.getvalue())):
        check_structure(io.BytesIO(file.getvalue()[:length]), "a")


def test_scans_are_counted_over_pieces_and_up_to_the_end_of_the_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_bounds, "_PIECE", 16)
    most = image_bounds.MAX_SCANS
    check_structure(io.BytesIO(hostile.jpeg_of_scans(64, most)), "a")
    # as a phone's film behind a photo
    check_structure(
        io.BytesIO(hostile.jpeg_of_scans(64, most) + hostile.jpeg_of_scans(64, most)), "a"
    )
    with pytest.raises(ImageRefusedError, match=f"more than {most} progressive scans"):
        check_structure(io.BytesIO(hostile.jpeg_of_scans(64, most + 1)), "a")


def test_exif_is_costly_where_it_names_more_than_there_is() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 1_000
    assert not is_costly_exif(exif.tobytes())
    assert is_costly_exif(bytes(image_bounds.MAX_EXIF + 1))
    assert not is_costly_exif(b"no EXIF at all")


SIDE = 1_500  # pixels, of a square that is too large for Python


def dds(
    *,
    bits: int = 24,
    masks: tuple[int, ...] = (0xFF0000, 0xFF00, 0xFF, 0),
    flags: int = 0x40,
    side: int = SIDE,
) -> bytes:
    head = struct.pack("<7I44x", 124, 0x1007, side, side, 0, 0, 0)
    return b"DDS " + head + struct.pack("<IIII5I", 32, flags, 0, bits, *masks, 0) + bytes(16)


def blp(version: int) -> bytes:
    if version == 1:
        return b"BLP1" + struct.pack("<iIIIiI", 1, 0, SIDE, SIDE, 4, 0) + bytes(2048)
    return b"BLP2" + struct.pack("<iBBBBII", 1, 1, 0, 0, 0, SIDE, SIDE) + bytes(2048)


def ico_of_runs(magic: bytes) -> bytes:
    bitmap = hostile.bmp_of_runs(SIDE)[14:]
    return magic + struct.pack("<HBBBBHHII", 1, 16, 16, 0, 0, 1, 8, len(bitmap), 22) + bitmap


SLOW = {
    "dds_rgb": dds(),
    "dds_rgb with alpha": dds(bits=32, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000), flags=0x41),
    "BLP1": blp(1),
    "BLP2": blp(2),
    "qoi": b"qoif" + struct.pack(">IIBB", SIDE, SIDE, 3, 0),
    "xpm": (
        b"/* XPM */\nstatic char *x[] = {\n"
        + b'"%d %d 2 1",\n"a c #ff0000",\n"b c #00ff00",\n' % (SIDE, SIDE)
        + b'"ab"\n};'
    ),
    "ppm_plain": b"P3 %d %d 255\n1 2 3" % (SIDE, SIDE),
    "ppm_plain of bits": b"P1 %d %d\n1 0 1" % (SIDE, SIDE),
    "ppm": b"P6 %d %d 200\n" % (SIDE, SIDE),
    "ppm of 16 bits": b"P5 %d %d 1000\n" % (SIDE, SIDE),
    "bmp_rle": hostile.bmp_of_runs(SIDE),
    "bmp_rle without a head": hostile.bmp_of_runs(SIDE)[14:],
    "bmp_rle in an icon": ico_of_runs(b"\x00\x00\x01\x00"),
    "bmp_rle in a cursor": ico_of_runs(b"\x00\x00\x02\x00"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_what_pillow_decodes_in_python_is_smaller(kind: str) -> None:
    Image.init()
    if kind.split()[0] not in Image.DECODERS:
        pytest.skip("this Pillow decodes it in C")
    with pytest.raises(
        ImageRefusedError, match=r"more than 2,097,152 (pixels in a kind of|run-length)"
    ):
        open_image(SLOW[kind])


PLAIN: list[tuple[str, str, dict[str, Any]]] = [
    ("PPM", "RGB", {}),
    ("PPM", "L", {}),
    ("BMP", "RGB", {}),
    ("TGA", "RGB", {}),
    ("DDS", "L", {}),
    ("SGI", "L", {}),
]


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [*PLAIN, ("SGI", "L", {"bpc": 2}), ("MSP", "1", {}), ("ICO", "RGB", {})],
)
def test_what_it_decodes_in_c_may_be_larger(
    monkeypatch: pytest.MonkeyPatch, kind: str, mode: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(image_bounds, "MAX_SLOW_PIXELS", 100)
    file = io.BytesIO()
    Image.new(mode, (32, 32)).save(file, kind, **options)
    assert open_image(file.getvalue()).size == (32, 32)


@pytest.mark.parametrize("side", [10, 11])
def test_the_bound_of_slow_pixels_is_exact(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(image_bounds, "MAX_SLOW_PIXELS", 100)
    data = b"P3 %d %d 255\n" % (side, side) + b"1 2 3 " * side**2
    if side == 10:
        assert open_image(data).size == (10, 10)
    else:
        with pytest.raises(ImageRefusedError, match="more than 100 pixels in a kind of PPM"):
            open_image(data)
