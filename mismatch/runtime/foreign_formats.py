"""Files in place of images that Pillow does not read, and what to do about each."""

from __future__ import annotations

import re
from typing import IO

__all__ = ["foreign_format"]

HEAD = 1024  # bytes, by which a file is known
BOM = b"\xef\xbb\xbf"
CONVERT = "convert it to JPEG or PNG"
# ISO's files say after eight bytes of what brand they are
BRAND = re.compile(rb".{4}ftyp(?P<brand>.{4})", re.DOTALL)
BRANDS = {
    b"hei": f"HEIC, which is not read; {CONVERT}",
    b"hev": f"HEIC, which is not read; {CONVERT}",
    b"mif": f"HEIF, which is not read; {CONVERT}",
    b"msf": f"HEIF, which is not read; {CONVERT}",
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
PAGE = "a page of HTML or XML, as a server sends in place of an image; fetch the image again"


def foreign_format(file: IO[bytes]) -> str | None:
    """Return what a file is and what to do, as `an SVG drawing, …; save it as PNG`; None where that
    can't be told from its beginning.
    """
    file.seek(0)
    head = file.read(HEAD)
    brand = BRAND.match(head)
    if brand is not None:
        return BRANDS.get(brand["brand"][:3].lower(), VIDEO)
    text = head.removeprefix(BOM).lstrip()
    if MARKUP.match(text):
        return SVG if b"<svg" in head.lower() else PAGE
    return next((words for start, words in STARTS.items() if head.startswith(start)), None)
