"""Small pictures as data URLs, which stand in pages themselves."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mismatch.data.columns import resolve_image
from mismatch.errors import ImageError
from mismatch.io.remote import Remote

__all__ = ["Thumbnail", "data_url", "thumbnail", "thumbnail_of"]

SIDE = 200  # pixels
QUALITY = 80  # of its JPEG


class Thumbnail(NamedTuple):
    """A picture, or why there is none."""

    url: str  # data URL; empty without a picture
    problem: str  # a sentence; empty with one


def thumbnail_of(image_path: str, base: str, kept: str | None = None) -> Thumbnail:
    """Return the picture of a row, or what is wrong with its file, which may be gone since it was
    scored. `kept`: the data URL, where it was made before.
    """
    if kept is not None:
        return Thumbnail(kept, "")
    try:
        return Thumbnail(thumbnail(resolve_image(base, image_path)), "")
    except ImageError as error:
        return Thumbnail("", str(error))


def thumbnail(path: Path | Remote) -> str:
    """Return an image file, or an image of the web, as a data URL, at most `SIDE` pixels a side.
    ImageError for one that can't be read.
    """
    from mismatch.runtime.preprocess import open_image

    picture = open_image(path).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return data_url(picture)


def data_url(picture: Image.Image) -> str:
    """Return an RGB picture as it stands in a page."""
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
