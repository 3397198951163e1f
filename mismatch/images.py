"""What counts as an image: a path, encoded bytes, pixels, or what other libraries hand around."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.colour_profiles import embedded_profile
from mismatch.errors import ImageError
from mismatch.io.remote import Remote
from mismatch.io.text import article

__all__ = [
    "ORIENTATION",
    "ImageSource",
    "as_image_source",
    "check_integers",
    "encoded_image",
    "from_array",
    "is_in_memory",
    "no_image",
    "to_8_bits",
    "to_rgba",
]

ORIENTATION = 0x0112  # EXIF's tag
MAX_PROFILE = 2**20  # bytes of a colour profile that Pillow reads of a PNG

# a path, an encoded image, a Pillow image, or an (H, W, 3) uint8 array
ImageSource = str | Path | Remote | bytes | Image.Image | NDArray[Any]
NEEDED = (
    "a path, encoded bytes, a file, a PIL image, an (H, W, 3) uint8 array, or a mapping with"
    " `bytes` or `path` is needed"
)


def as_image_source(value: object) -> ImageSource:
    """Return what `value` holds as one of the kinds that are read here. Nothing is decoded.

    `value`: a path, bytes, a memoryview, a file that is open for reading bytes, or a PIL image. An
    array or tensor is (H, W, 3) or (3, H, W) of uint8, a mapping Hugging Face's {"bytes", "path"}.
    ImageError for anything else, by the name of its type.
    """
    if isinstance(value, (str, Path, Remote, bytes, Image.Image)):
        return value
    if isinstance(value, os.PathLike):
        return Path(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, io.BytesIO):
        return value.getvalue()
    if callable(getattr(value, "read", None)):
        return _of_file(value)
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        return _of_array(value)
    raise no_image(value)


def is_in_memory(value: object) -> bool:
    """Return whether a value may be an image and is no path: bytes, a file, pixels, or Hugging
    Face's mapping.
    """
    if value is None or isinstance(value, (str, os.PathLike, Remote, np.generic)):
        return False
    if isinstance(value, (bytes, bytearray, memoryview, Mapping, Image.Image)):
        return True
    return hasattr(value, "__array__") or callable(getattr(value, "read", None))


def no_image(value: object) -> ImageError:
    """Return what to raise for a value that is no image: it says its type and what is needed."""
    return ImageError(f"an image is {article(type(value).__name__)}; {NEEDED}")


def encoded_image(source: ImageSource) -> bytes:
    """Return an image that is not a path as the bytes of a file. Encoded ones stay as they are;
    pixels become PNG or TIFF, which read as they do. ImageError for pixels that no model takes.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, np.ndarray):
        source = from_array(source, "an image in memory")
    if not isinstance(source, Image.Image):
        raise ImageError(f"{source} is a path, and pixels or encoded bytes are needed")
    profile = embedded_profile(source)
    if source.mode == "F" or not source.width * source.height:
        raise ImageError("an image in memory has no pixels, or floating-point ones")
    try:
        source.load()  # a TIFF turns itself upright then
    except OSError as error:
        raise ImageError(f"an image in memory can't be decoded: {error}") from error
    image = source
    if source.mode.startswith("I"):
        image = _of_16_bits(source)
    elif source.mode == "CMYK" and profile:  # which says what the inks look like
        return _saved(source, "TIFF", profile, exif=_orientation(source))
    elif source.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = to_rgba(source) if source.has_transparency_data else source.convert("RGB")
    return _saved(image, "PNG", profile, compress_level=1, exif=_orientation(source))


def _saved(image: Image.Image, kind: str, profile: bytes, **options: Any) -> bytes:
    file = io.BytesIO()
    is_small = len(profile) <= MAX_PROFILE or kind != "PNG"
    image.save(file, kind, icc_profile=profile if is_small else b"", **options)
    return file.getvalue()


def to_rgba(image: Image.Image) -> Image.Image:
    """Return a picture with transparency as RGBA; Pillow has no way there from grey levels that are
    multiplied by it.
    """
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Return modes I and I;16 as I;16, which PNG keeps."""
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(
            f"an image in memory has pixels from {levels.min()} to {levels.max()}; convert it to"
            " 8 or 16 bits"
        )
    check_integers(image.mode, int(levels.max()), "an image in memory")
    return Image.fromarray(levels.astype(np.uint16))


def check_integers(mode: str, largest: int, name: str) -> None:
    """Refuse 32-bit pixels that may be 8-bit ones: read as 16 bits, the picture would be black."""
    if mode == "I" and 0 < largest <= 255:
        raise ImageError(
            f"{name} has 32-bit pixels of at most {largest}, whose range is unknown; convert it to"
            " 8 or 16 bits"
        )


def _orientation(image: Image.Image) -> bytes:
    """Return the part of a picture's EXIF data that says how it is turned."""
    kept = Image.Exif()
    try:
        kept[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
        return kept.tobytes()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - damaged EXIF says nothing, and the picture itself is whole
        return b""


def from_array(array: NDArray[Any], name: str) -> Image.Image:
    """Make an image of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); bool, uint8 or uint16.

    ImageError, which calls it `name`, for anything else.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ImageError(
            f"{name} is an array of shape {array.shape}; (height, width), or that and 3 or 4"
            " channels, is needed"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        if array.size and 0 < (largest := int(array.max())) <= 255:
            raise ImageError(
                f"{name} is an array of uint16 with values of at most {largest}, as uint8 has;"
                " scale it to 0..65535, or convert it to uint8"
            )
        array = to_8_bits(array)
    if array.dtype != np.uint8:
        raise ImageError(
            f"{name} is an array of {array.dtype}; uint8 (0..255), uint16 or bool is needed"
        )
    if 0 in array.shape:
        raise ImageError(f"{name} has no pixels (shape {array.shape})")
    return Image.fromarray(np.ascontiguousarray(array))


def to_8_bits(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale 0..65535 → 0..255, to the nearest; Pillow's own conversion would saturate."""
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _of_mapping(value: Mapping[str, Any]) -> ImageSource:
    """Return the bytes, else the path, of Hugging Face's struct."""
    if value.get("bytes") is not None:
        return as_image_source(value["bytes"])
    if isinstance(value.get("path"), (str, os.PathLike)):
        return as_image_source(value["path"])
    keys = ", ".join(map(repr, value)) or "none"
    raise ImageError(f"an image is a mapping with the keys {keys}; {NEEDED}")


def _of_file(file: Any) -> bytes:
    """Return what an open file holds from where it stands; it stays open."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageError(f"an image is an open file that can't be read: {error}") from error
    if not isinstance(data, (bytes, bytearray)):
        raise ImageError("an image is a file that is open for text; open it with mode 'rb'")
    return bytes(data)


def _of_array(value: Any) -> NDArray[np.uint8]:
    """Return (H, W, 3), or (H, W) as it is, of an array or a tensor on any device."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        array = np.asarray(value)
    except Exception as error:  # each library has its own
        raise ImageError(
            f"an image is {article(type(value).__name__)} without pixels; {NEEDED}"
        ) from error
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    return array
