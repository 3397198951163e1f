"""Image files from strangers: known formats only, and no more bytes or pixels than allowed, before anything is decoded."""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image

from mismatch.errors import ImageError

__all__ = ["FORMATS", "checked_image", "from_base64"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO")  # Pillow's names; nothing that runs another program or holds a script


def from_base64(text: str, *, most: int) -> bytes:
    """The bytes; ImageError for anything else than base64, or more than `most` bytes."""
    if len(text) > 4 * (most // 3 + 1):
        raise ImageError(f"the image has more than {most:,} bytes; send a smaller file")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("the image is not base64; encode the file's bytes") from None


def checked_image(data: bytes, *, most: int, pixels: int) -> bytes:
    """The same bytes, if they look like an image of a known format within the limits. Reads the header only."""
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    if len(data) > most:
        raise ImageError(f"the image has more than {most:,} bytes; send a smaller file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise ImageError(f"the image has more than {pixels:,} pixels; make it smaller") from None
    except Exception:  # noqa: BLE001 - whatever a hostile header does to Pillow
        raise ImageError(f"the image is of no known format; one of {', '.join(FORMATS[:-1])} is needed") from None
    if width * height > pixels:
        raise ImageError(f"the image has more than {pixels:,} pixels; make it smaller")
    return data
