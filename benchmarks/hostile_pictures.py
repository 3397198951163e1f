"""Small files that ask for a lot: what anyone may send in place of a picture. Drawn here, for
tests and for `bench_serving.py`.
"""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

__all__ = [
    "bmp_of_runs",
    "gif_of_comments",
    "jpeg_of_exif",
    "jpeg_of_junk",
    "jpeg_of_scans",
    "jpeg_of_tags",
    "png_of_chunks",
    "png_of_zeros",
    "tiff_of_pages",
    "tiff_of_tags",
    "tiff_of_tile",
    "tiff_of_tiles",
]


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive grey JPEG, `side` pixels square, each of whose further scans takes few bytes
    and goes over all blocks.
    """
    blocks = (side // 8) ** 2
    data = b"\xff\xd8" + _segment(0xDB, bytes([0] + [1] * 64))
    data += _segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    # DC: code 0 means no difference
    data += _segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")
    # AC: code 0 means a run of 2**14 ended blocks
    data += _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    data += _segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes((blocks + 7) // 8)
    scan = _segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + _ended_blocks(blocks)
    return data + scan * (scans - 1) + b"\xff\xd9"


def _ended_blocks(blocks: int) -> bytes:
    """The pixels of a scan that holds nothing: runs of up to 32,767 blocks, 15 bits each."""
    value, bits = 0, 0
    while blocks > 0:
        run = max(16_384, min(blocks, 32_767))
        value = (value << 15) | (run - 16_384)
        bits += 15
        blocks -= run
    padding = -bits % 8
    value = (value << padding) | ((1 << padding) - 1)
    return value.to_bytes((bits + padding) // 8, "big").replace(b"\xff", b"\xff\x00")


def jpeg_of_exif(segments: int) -> bytes:
    """A JPEG that begins with so many segments of EXIF, a letter each."""
    return _behind_start(_segment(0xE1, b"Exif\x00\x00a") * segments)


def jpeg_of_junk(count: int) -> bytes:
    """A JPEG with so many bytes of nothing before its first segment."""
    return _behind_start(bytes(count))


def jpeg_of_tags(count: int) -> bytes:
    """A JPEG whose EXIF has so many tags, each of which names nearly all of it."""
    directory = _tags([(0x9000 + number, 7, 60_000, 0) for number in range(count)])
    return _behind_start(
        _segment(0xE1, (b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + directory).ljust(60_100, b"\x00"))
    )


def _behind_start(data: bytes) -> bytes:
    plain = io.BytesIO()
    Image.new("L", (8, 8)).save(plain, "JPEG")
    return plain.getvalue()[:2] + data + plain.getvalue()[2:]


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def gif_of_comments(blocks: int) -> bytes:
    """A GIF of one pixel whose comment comes in so many blocks of one byte."""
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    return (
        head
        + b"!\xfe"
        + b"\x01a" * blocks
        + b"\x00"
        + b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
    )


def png_of_zeros(side: int) -> bytes:
    """A grey PNG, `side` pixels square: its pixels are honest, and deflated a thousand to one."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side))
    return _png(side, _chunk(b"IDAT", rows + packer.flush()))


def png_of_chunks(count: int) -> bytes:
    """A PNG of one pixel with so many empty chunks before it."""
    return _png(1, _chunk(b"prVt", b"") * count + _chunk(b"IDAT", zlib.compress(b"\x00\x00")))


def _png(side: int, chunks: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bmp_of_runs(side: int) -> bytes:
    """A run-length encoded BMP, `side` pixels square, every row of which ends behind its first
    pixel.
    """
    data = b"\x01\x01\x00\x00" * side + b"\x00\x01"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return (
        struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(data), 0, 0, 54 + 1024)
        + head
        + bytes(1024)
        + data
    )


def tiff_of_tile(side: int, picture: int = 16) -> bytes:
    """A TIFF, `picture` pixels square, in one deflated tile that is `side` pixels square."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    tags = [
        *_picture_tags(picture),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, 1, 8),
        (325, 4, 1, len(data)),
    ]
    return _tiff(data, [_tags(tags)])


def tiff_of_tiles(count: int, side: int = 2_048) -> bytes:
    """A TIFF, one pixel high, of so many tiles that are `side` pixels square and all lie at one
    place.
    """
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    data += bytes(len(data) % 2)
    offsets, sizes = struct.pack("<I", 8) * count, struct.pack("<I", len(data)) * count
    places = (324, 4, count, 8 + len(data)), (325, 4, count, 8 + len(data) + len(offsets))
    tags = [tag for tag in _picture_tags(16) if tag[0] not in (256, 257)]
    tags += [
        (256, 4, 1, side * count),
        (257, 4, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        *places,
    ]
    return _tiff(data + offsets + sizes, [_tags(tags)])


def tiff_of_tags(count: int) -> bytes:
    """A TIFF of one pixel with so many further tags, each of which names all of it."""
    names = [(40_000 + number, 7, 60_000, 0) for number in range(count)]
    return _tiff(
        bytes(60_000), [_tags([*_picture_tags(1), (273, 4, 1, 8), (279, 4, 1, 1), *names])]
    )


def tiff_of_pages(count: int) -> bytes:
    """A TIFF of so many pages of one pixel."""
    return _tiff(bytes(2), [_tags([*_picture_tags(1), (273, 4, 1, 8), (279, 4, 1, 1)])] * count)


def _picture_tags(side: int) -> list[tuple[int, int, int, int]]:
    compression = 1 if side == 1 else 8
    return [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
    ]


def _tags(tags: list[tuple[int, int, int, int]]) -> bytes:
    """A directory but for where the next one lies: number, type, count and value of each tag."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<H", len(tags)) + entries


def _tiff(data: bytes, directories: list[bytes]) -> bytes:
    """`data` from byte 8 on, and the directories behind it, each of which names the next."""
    data += bytes(len(data) % 2)
    at = 8 + len(data)
    file = b"II*\x00" + struct.pack("<I", at) + data
    for number, directory in enumerate(directories):
        at += len(directory) + 4
        last = number == len(directories) - 1
        file += directory + struct.pack("<I", 0 if last else at)
    return file
