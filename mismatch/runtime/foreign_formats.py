"""What a file is by its first bytes: formats that Pillow does not read and what to do about each,
HEIC by pillow-heif, and the ending of a name that fits.
"""

from __future__ import annotations

import re
from functools import cache
from typing import IO, Any

__all__ = ["OTHER", "foreign_format", "heif_opener", "image_suffix", "is_heif"]

HEAD = 1024  # bytes, by which a file is known
BOM = b"\xef\xbb\xbf"
CONVERT = "convert it to JPEG or PNG"
# ISO's files say after eight bytes of what brand they are
BRAND = re.compile(rb".{4}ftyp(?P<brand>.{4})", re.DOTALL)
HEIF = {b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIF", b"msf": "HEIF"}
BRANDS = {
    b"avi": f"AVIF, which this Pillow does not read; install Pillow 11.3 or newer, or {CONVERT}",
    b"crx": f"a camera's raw file, which is not read; {CONVERT}",
}
VIDEO = "a video, and not an image; save one of its frames as an image"
STARTS = {
    b"\xff\x0a": f"JPEG XL, which is not read; {CONVERT}",
    b"\0\0\0\x0cJXL ": f"JPEG XL, which is not read; {CONVERT}",
    b"%PDF": "a PDF, and not an image; save its page as an image",
    b"\x1f\x8b": "packed with gzip; unpack it",
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x1a\x45\xdf\xa3": VIDEO,  # Matroska and WebM
}
MARKUP = re.compile(rb"<(?:\?xml|!--|!doctype|svg|html|head|body)", re.IGNORECASE)
SVG = "an SVG drawing, which has no pixels; save it as PNG"
# what an image of each kind begins with → the ending of its name
SUFFIXES = (
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"\x89PNG\r\n"), ".png"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), ".webp"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), ".tif"),
    (re.compile(rb"BM"), ".bmp"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), ".avif"),
    (re.compile(rb".{4}ftyp(?:hei|hev)", re.DOTALL), ".heic"),
    (re.compile(rb".{4}ftyp(?:mif|msf)", re.DOTALL), ".heif"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), ".jp2"),
)
OTHER = ".img"  # of a kind that is none of these
PAGE = "a page of HTML or XML, as a server sends in place of an image; fetch the image again"


def foreign_format(file: IO[bytes]) -> str | None:
    """Return what a file is and what to do, as `an SVG drawing, …; save it as PNG`; None where that
    can't be told from its beginning.
    """
    file.seek(0)
    head = file.read(HEAD)
    brand = BRAND.match(head)
    if brand is not None:
        kind = brand["brand"][:3].lower()
        return _heif_words(HEIF[kind]) if kind in HEIF else BRANDS.get(kind, VIDEO)
    text = head.removeprefix(BOM).lstrip()
    if MARKUP.match(text):
        return SVG if b"<svg" in head.lower() else PAGE
    return next((words for start, words in STARTS.items() if head.startswith(start)), None)


@cache
def heif_opener() -> Any:
    """Return what opens HEIC as a picture of Pillow, given a file and a name; None where
    pillow-heif isn't installed. Pillow itself does not learn of it: other code stays as it is.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return None
    return HeifImageFile


def is_heif(head: bytes) -> bool:
    """Return whether a file's first 12 bytes say that it is HEIC or HEIF."""
    brand = BRAND.match(head)
    return brand is not None and brand["brand"][:3].lower() in HEIF


def image_suffix(data: bytes) -> str:
    """Return the ending of a name for an image with these bytes, as `.jpg`; `.img` where its kind
    is not a common one.
    """
    head = data[:16]
    return next((suffix for start, suffix in SUFFIXES if start.match(head)), OTHER)


def _heif_words(name: str) -> str:
    if heif_opener() is None:
        return (
            f"{name}, which only the extra [heif] reads; install mismatch-clip[heif], or {CONVERT}"
        )
    return f"{name} that pillow-heif can't read, as it is damaged or of a rare kind; {CONVERT}"
