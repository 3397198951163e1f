"""How an image file is built, counted before it is decoded: scans, segments, blocks, chunks, tiles,
pages.

A decoder's time and memory grow with these too, and a file of a few kilobytes can ask for any
number of them. Everything is read in the file's own order, in bounded pieces, and reading stops at
the bound.
"""

from __future__ import annotations

import io
import os
import re
import struct
from typing import IO

from PIL import Image

from mismatch.errors import ImageRefusedError
from mismatch.runtime.structure import CostlyError, read_exactly

__all__ = ["check_decoder", "check_structure", "is_costly_exif"]

MAX_SCANS = 64  # a JPEG's; a progressive one has about ten
MAX_SEGMENTS = 4_096  # a JPEG's; 64 kB each
MAX_JUNK = 65_536  # bytes between a JPEG's segments, which Pillow passes over one by one
MAX_BLOCKS = 4_096  # comments and extensions before a GIF's pixels; 255 bytes each
MAX_CHUNKS = 1_000  # a PNG or WebP of any size may have them
CHUNK_BYTES = 512  # a larger file may have one more chunk for so many
MAX_TILES = 65_536  # tiles or strips of a TIFF
MAX_TILE_PIXELS = 2**22  # pixels of one tile that is larger than the picture
# all tiles together have so many times the picture's pixels, or a large tile's: a layer a colour,
# and edges
TILE_LAYERS = 16
MAX_TAGS = 4_096  # entries of one directory of a TIFF or of EXIF
MAX_PAGES = 1_024  # directories of a TIFF
MAX_EXIF = 2**20  # bytes
# pixels that Pillow decodes one by one in Python, a microsecond or more each; full HD has fewer
MAX_SLOW_PIXELS = 2**21

_PNG = b"\x89PNG\r\n\x1a\n"
_QUICK_DECODERS = frozenset({"MSP", "SGI16"})  # written in Python too, but quick
_COSTLY_TAGS = "tags that name more bytes than it has"
_PIECE = 2**16  # bytes that are searched at a time at first
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # what ends the pixels of a JPEG's scan
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_EOI = 0xD9
_SOS = 0xDA
_APP1 = 0xE1
_APP2 = 0xE2
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
# tags of TIFF
_WIDTH = 256
_HEIGHT = 257
# EXIF, place, interoperability: Pillow reads them with the picture
_FURTHER_TAGS = (34665, 34853, 40965)
_STRIP_OFFSETS = 273
_TILE_WIDTH = 322
_TILE_HEIGHT = 323
_TILE_OFFSETS = 324


def check_structure(file: IO[bytes], name: str) -> None:
    """Raise ImageRefusedError, which begins with `name`, for a file that costs out of proportion to
    its pixels.

    A file that is damaged, or of a format that isn't counted here, passes: its decoder says what is
    wrong. The file is left at its beginning.
    """
    file.seek(0)
    prefix = file.read(34)
    file.seek(0)
    try:
        _check_kind(file, prefix)
    except CostlyError as error:
        raise ImageRefusedError(
            f"{name} has {error}, which costs too much to decode; save it again, or drop the row"
        ) from None
    except (struct.error, EOFError):
        pass
    finally:
        file.seek(0)


def check_decoder(image: Image.Image, name: str) -> None:
    """Raise ImageRefusedError, which begins with `name`, for a picture that is not loaded yet and
    that Pillow decodes pixel by pixel in Python.

    Such are DDS, BLP, QOI, XPM, plain and unusually scaled PPM, run-length encoded BMP: no signal
    ends a program meanwhile.
    """
    tiles = getattr(image, "tile", None) or ()
    is_slow = any(tile[0] in Image.DECODERS and tile[0] not in _QUICK_DECODERS for tile in tiles)
    if is_slow and image.width * image.height > MAX_SLOW_PIXELS:
        what = (
            f"more than {MAX_SLOW_PIXELS:,} pixels in a kind of {image.format} that is slow to"
            " decode"
        )
        raise ImageRefusedError(f"{name} has {what}; save it again as PNG or JPEG, or drop the row")


def is_costly_exif(exif: bytes) -> bool:
    """Return whether reading a block of EXIF costs out of proportion: Pillow reads all of its tags,
    and each of thousands may name the whole block.
    """
    data = exif.removeprefix(b"Exif\x00\x00")
    if len(data) > MAX_EXIF:
        return True
    try:
        _Directory(io.BytesIO(data))
    except CostlyError:
        return True
    except (struct.error, EOFError):
        return False
    return False


def _check_kind(file: IO[bytes], prefix: bytes) -> None:
    if prefix.startswith(b"\xff\xd8"):
        _Jpeg(file).check()
    elif prefix.startswith(_PNG):
        _check_chunks(file, start=8, head=">I4s", size_at=0, trailer=4)
    elif prefix.startswith(b"RIFF"):
        _check_chunks(file, start=12, head="<4sI", size_at=1, trailer=0)
    elif prefix.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(file)
    elif prefix.startswith((b"II", b"MM")):
        _check_tiff(file)
    elif prefix.startswith(b"BM"):
        _check_bitmap(prefix[14:])
    elif prefix.startswith((b"\x00\x00\x01\x00", b"\x00\x00\x02\x00")):
        _check_icons(file)


class _Jpeg:
    """One JPEG: its segments before the pixels, and its scans where there may be several."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.segments = 0
        self.junk = 0  # bytes
        self.components = 0
        self.progressive = False
        self.exif: list[bytes] = []  # its segments, which Pillow joins

    def check(self) -> None:
        """Raise CostlyError at the first bound."""
        self.file.seek(2)
        while True:
            marker = self._next_marker()
            if marker == _EOI:
                return
            body = self._segment(marker)
            self._note_tags(marker, body)
            if marker in _FRAMES and len(body) > 5:
                self.components = body[5]
                self.progressive = marker in _PROGRESSIVE
            if marker == _SOS:
                if is_costly_exif(b"".join(self.exif)):
                    raise CostlyError(_COSTLY_TAGS)
                several = self.progressive or not body or body[0] < self.components
                if several:  # else a decoder reads this one and no other
                    self._count_scans()
                return

    def _note_tags(self, marker: int, body: bytes) -> None:
        """Keep EXIF for later; look at the list of a phone's further pictures, which is built as
        EXIF is.
        """
        if marker == _APP1 and body.startswith(b"Exif\x00\x00"):
            self.exif.append(body[6:])
        elif marker == _APP2 and body.startswith(b"MPF\x00") and is_costly_exif(body[4:]):
            raise CostlyError(_COSTLY_TAGS)

    def _next_marker(self) -> int:
        """Return the number of the next marker, which decoders look for byte by byte."""
        previous = 0
        while True:
            [byte] = read_exactly(self.file, 1)
            if previous == 0xFF and byte not in (0x00, 0xFF):
                return byte
            previous = byte
            self.junk += 1
            if self.junk > MAX_JUNK:
                raise CostlyError(f"more than {MAX_JUNK:,} bytes between its segments")

    def _segment(self, marker: int) -> bytes:
        """Return what a marker's segment holds; the file is behind it then."""
        self.segments += 1
        if self.segments > MAX_SEGMENTS:
            raise CostlyError(f"more than {MAX_SEGMENTS:,} segments")
        if marker in _WITHOUT_LENGTH:
            return b""
        (length,) = struct.unpack(">H", read_exactly(self.file, 2))
        return read_exactly(self.file, max(0, length - 2))

    def _count_scans(self) -> None:
        """Count scans from behind the head of the first one to the end of the picture; CostlyError
        for too many.
        """
        scans = 1
        while (marker := self._marker_in_pixels()) not in (None, _EOI):
            self._segment(marker)
            scans += marker == _SOS
            if scans > MAX_SCANS:
                raise CostlyError(f"more than {MAX_SCANS} progressive scans")

    def _marker_in_pixels(self) -> int | None:
        """Find the next marker, in pieces that grow while there is none; None at the file's end."""
        size = _PIECE
        while True:
            start = self.file.tell()
            piece = self.file.read(size)
            marker = _MARKER.search(piece)
            if marker is not None:
                self.file.seek(start + marker.end())
                return marker[0][1]
            if len(piece) < size:
                return None
            self.file.seek(start + size - 1)  # the last byte may begin a marker
            size = min(2 * size, 16 * _PIECE)


def _check_chunks(file: IO[bytes], *, start: int, head: str, size_at: int, trailer: int) -> None:
    """Check the chunks of a PNG or a RIFF, each with a type and a size. `trailer`: bytes behind
    each one, its checksum.
    """
    end = file.seek(0, os.SEEK_END)
    max_chunks = MAX_CHUNKS + end // CHUNK_BYTES
    position = start
    for _ in range(max_chunks):
        file.seek(position)
        fields = struct.unpack(head, read_exactly(file, 8))
        size = fields[size_at]
        padding = size % 2 if trailer == 0 else 0  # RIFF's chunks begin at even bytes
        position += 8 + size + padding + trailer
        if fields[1 - size_at] == b"IEND":
            return
    raise CostlyError(f"more than {max_chunks:,} chunks")


def _check_gif(file: IO[bytes]) -> None:
    """Check the blocks before the first picture; CostlyError for too many."""
    header = read_exactly(file, 13)
    if header[10] & 0x80:  # a table of colours
        read_exactly(file, 3 << (header[10] & 7) + 1)
    blocks = 0
    while read_exactly(file, 1) == b"!":
        read_exactly(file, 1)
        while size := read_exactly(file, 1)[0]:
            read_exactly(file, size)
            blocks += 1
            if blocks > MAX_BLOCKS:
                raise CostlyError(f"more than {MAX_BLOCKS:,} blocks of comments")


def _check_bitmap(header: bytes) -> None:
    """Run lengths, which hold any number of pixels in a byte; `header`: of the bitmap, behind that
    of the file.
    """
    size, width, height = struct.unpack_from("<Iii", header)
    if size < 40:
        return
    (compression,) = struct.unpack_from("<I", header, 16)
    if compression in (1, 2) and abs(width * height) > MAX_SLOW_PIXELS:
        raise CostlyError(f"more than {MAX_SLOW_PIXELS:,} run-length encoded pixels")


def _check_icons(file: IO[bytes]) -> None:
    """Check the bitmaps of an ICO or CUR, whose own headers say how large they are."""
    (count,) = struct.unpack("<H", read_exactly(file, 6)[4:])
    entries = [read_exactly(file, 16) for _ in range(count)]
    for entry in entries:
        file.seek(struct.unpack_from("<I", entry, 12)[0])
        header = file.read(20)
        if len(header) == 20 and not header.startswith(_PNG):
            _check_bitmap(header)


def _check_tiff(file: IO[bytes]) -> None:
    """Check the tags and the tiles of the first page, and how many pages follow."""
    page = _Directory(file)
    _check_tiles(page)
    for tag in _FURTHER_TAGS:
        for offset in page.numbers(tag):
            page.other(offset)
    seen = set()
    while page.following and page.following not in seen:
        seen.add(page.following)
        if len(seen) >= MAX_PAGES:
            raise CostlyError(f"more than {MAX_PAGES:,} pages")
        page = page.other(page.following)


def _check_tiles(page: _Directory) -> None:
    tiles = max(page.count(_STRIP_OFFSETS), page.count(_TILE_OFFSETS))
    if tiles > MAX_TILES:
        raise CostlyError(f"more than {MAX_TILES:,} tiles")
    size = [page.numbers(tag) for tag in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)]
    if not all(size):
        return
    width, height, tile_width, tile_height = (numbers[0] for numbers in size)
    picture = max(MAX_TILE_PIXELS, width * height)
    if tile_width * tile_height > picture:
        raise CostlyError(f"a tile of {tile_width:,} x {tile_height:,} pixels")
    if tiles * tile_width * tile_height > TILE_LAYERS * picture:
        raise CostlyError(f"{tiles:,} tiles of {tile_width:,} x {tile_height:,} pixels")


class _Directory:
    """The tags of one page of a TIFF, classic or big, or of a block of EXIF."""

    def __init__(
        self, file: IO[bytes], order: str = "", offset: int = 0, *, big: bool = False
    ) -> None:
        """Read the first directory, or the one at byte `offset`. Raise CostlyError where it has or
        names too much.
        """
        self._file = file
        self._order = order
        self._big = big
        if not order:
            offset = self._read_header()
        # tag → type, count, the value or where it lies
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        self._read_entries(offset)

    def _read_header(self) -> int:
        """Return the byte at which the first directory lies."""
        head = read_exactly(self._file, 8)
        self._order = "<" if head.startswith(b"II") else ">"
        self._big = 43 in head[2:4]
        if not self._big:
            return int(struct.unpack(f"{self._order}I", head[4:])[0])
        return int(struct.unpack(f"{self._order}Q", read_exactly(self._file, 8))[0])

    def _read_entries(self, offset: int) -> None:
        count_format, entry_format, next_format = (
            ("Q", "HHQ8s", "Q") if self._big else ("H", "HHI4s", "I")
        )
        self._file.seek(offset)
        count = self._unpack(count_format)[0]
        if count > MAX_TAGS:
            raise CostlyError(f"more than {MAX_TAGS:,} tags")
        named = 0  # bytes
        for _ in range(count):
            tag, kind, number, value = struct.unpack(
                self._order + entry_format, read_exactly(self._file, 20 if self._big else 12)
            )
            self._entries[tag] = kind, number, value
            named += number * _TYPE_BYTES.get(kind, 1) if self._lies_elsewhere(kind, number) else 0
        self.following = int(self._unpack(next_format)[0])
        if named > 2 * self._file.seek(0, os.SEEK_END):
            raise CostlyError(_COSTLY_TAGS)

    def _unpack(self, kind: str) -> tuple[int, ...]:
        return struct.unpack(
            self._order + kind, read_exactly(self._file, struct.calcsize(self._order + kind))
        )

    def _lies_elsewhere(self, kind: int, number: int) -> bool:
        return number * _TYPE_BYTES.get(kind, 1) > (8 if self._big else 4)

    def other(self, offset: int) -> _Directory:
        """Return the directory that lies at a byte of the same file."""
        return _Directory(self._file, self._order, offset, big=self._big)

    def count(self, tag: int) -> int:
        """Return how many values a tag has."""
        return self._entries[tag][1] if tag in self._entries else 0

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the whole number of a tag that has one; none of any other."""
        kind, number, value = self._entries.get(tag, (0, 0, b""))
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code is None or number != 1 or self._lies_elsewhere(kind, number):
            return ()
        return struct.unpack_from(self._order + code, value)
