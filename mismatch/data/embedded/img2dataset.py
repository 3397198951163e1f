"""What img2dataset writes: a Parquet file of what it knows of each image, and the images next to
it, in an archive of webdataset or in a folder, by their keys.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from mismatch.data.embedded.names import member_name
from mismatch.data.embedded.tar import IMAGES

__all__ = ["CAPTION", "KEY", "images_by_key"]

KEY = "key"
CAPTION = "caption"
NAMES = {KEY, "url"}  # columns by which its Parquet is known

logger = logging.getLogger(__name__)


def images_by_key(
    path: Path, columns: Collection[str], base: str
) -> Callable[[str | None], str | None] | None:
    """Return what names the image of a key; None where the file is none of img2dataset's, or no
    images are next to it. `base`: folder that image paths are relative to.
    """
    archive = path.with_suffix(".tar")
    folder = path.with_suffix("")
    if not NAMES.issubset(columns) or not (archive.is_file() or folder.is_dir()):
        return None
    if archive.is_file():
        _announce(str(path), str(archive))
        start = member_name(archive, base)
        return lambda key: None if key is None else f"{start}:{key}"
    _announce(str(path), str(folder))
    start = member_name(folder, base)
    names = dict(_image_names(folder))
    return lambda key: None if key is None else os.path.join(start, names.get(key, f"{key}.jpg"))


def _image_names(folder: Path) -> list[tuple[str, str]]:
    """Return the keys of a folder's images, and their names."""
    parted = [(os.path.splitext(name), name) for name in os.listdir(folder)]
    return [(stem, name) for (stem, ending), name in parted if ending[1:].lower() in IMAGES]


@cache
def _announce(path: str, images: str) -> None:
    """Say once what is read."""
    logger.info("%s is img2dataset's; its images are read by their keys from %s", path, images)
