"""Small pictures of images that were in memory: their files go when the job ends, and a page may be
written later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from mismatch.data.columns import resolve_image
from mismatch.data.readers.memory import RowsLike
from mismatch.errors import ImageError
from mismatch.io.remote import Remote
from mismatch.jobs.options import RowSource

__all__ = ["KeptPicture", "kept_picture", "temporary_folder"]


class KeptPicture(NamedTuple):
    """A picture that outlasts its file."""

    name: str  # the file's
    data_url: str


def temporary_folder(rows: RowsLike, source: RowSource) -> Path | None:
    """Return where images in memory were written to; None where the rows are a file."""
    if isinstance(rows, (str, os.PathLike, Remote)) or isinstance(source.path, Remote):
        return None
    return source.path.parent


def kept_picture(image_path: str, base: str, folder: Path | None) -> KeptPicture | None:
    """Return the picture of an image in the temporary folder; None for one that lies elsewhere, or
    can't be read.
    """
    from mismatch.reports.thumbnails import thumbnail

    path = resolve_image(base, image_path)
    if folder is None or not isinstance(path, Path) or path.parent != folder:
        return None
    try:
        return KeptPicture(path.name, thumbnail(path))
    except ImageError:
        return None
