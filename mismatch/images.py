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

from mismatch.errors import ImageError
from mismatch.io.remote import Remote
from mismatch.io.text import article

__all__ = ["ImageSource", "as_image_source", "encoded_image", "no_image"]

# a path, an encoded image, a Pillow image, or an (H, W, 3) uint8 array
ImageSource = str | Path | Remote | bytes | Image.Image | NDArray[Any]
NEEDED = (
    "a path, encoded bytes, a file, a PIL image, an (H, W, 3) uint8 array, or a mapping with"
    " `bytes` or `path` is needed"
)


def as_image_source(value: object) -> ImageSource:
    """Return what `value` holds as one of the kinds that are read here. Nothing is decoded.

    `value`: a path, bytes, a memoryview, a file that is open for reading bytes, a PIL image, an
    array or tensor (H, W, 3) or (3, H, W) of uint8, or Hugging Face's {"bytes", "path"}. ImageError
    for anything else, by the name of its type.
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


def no_image(value: object) -> ImageError:
    """Return what to raise for a value that is no image: it says its type and what is needed."""
    return ImageError(f"an image is {article(type(value).__name__)}; {NEEDED}")


def encoded_image(source: ImageSource) -> bytes:
    """Return an image that is not a path as the bytes of a file: encoded ones as they are, pixels
    as PNG, which loses nothing.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source)
    if not isinstance(source, Image.Image):
        raise ImageError(f"{source} is a path, and pixels or encoded bytes are needed")
    file = io.BytesIO()
    image = source if source.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else source.convert("RGB")
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


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
