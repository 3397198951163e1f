"""How a picture is turned, by its EXIF data, and what puts it upright."""

from __future__ import annotations

from PIL import Image

from mismatch.images import ORIENTATION
from mismatch.runtime.image_bounds import is_costly_exif
from mismatch.runtime.lazy_pictures import reading

__all__ = ["TURNS", "orientation", "turned_copy", "upright"]

TURNS = {  # EXIF orientation → what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF (or XMP) orientation says, without a mark that would turn
    it again.
    """
    turn = TURNS.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        turned.info.pop(key, None)
    return turned


def turned_copy(image: Image.Image) -> Image.Image:
    """Return a copy that is turned as the picture is, also where its EXIF data were changed in
    memory, which Pillow does not copy.
    """
    with reading(image):
        image.load()  # a TIFF turns itself upright then
        copied = image.copy()
        wanted = orientation(image)
    if orientation(copied) != wanted:
        copied.getexif()[ORIENTATION] = wanted
    return copied


def orientation(image: Image.Image) -> int:
    """Return a picture's EXIF orientation, 1 where it has none or its data are damaged."""
    if is_costly_exif(image.info.get("exif") or b""):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - damaged EXIF says nothing, and the picture itself is whole
        return 1
