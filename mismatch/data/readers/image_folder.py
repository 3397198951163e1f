"""A folder of images with a file of metadata, as Hugging Face's ImageFolder has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mismatch.data.columns import SEPARATOR
from mismatch.data.confined import ConfinedFolder
from mismatch.data.embedded.names import container_of
from mismatch.data.rows import Reading, Row
from mismatch.errors import InputError

__all__ = ["USUAL", "metadata_file", "rows_at_home"]

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
USUAL = {"image_path": "file_name"}  # the layout's name of this column
MAX_SPLITS = 20  # that an error names


def metadata_file(folder: Path) -> Path | None:
    """Return the file that lists a folder's images; None where there is none, in it or in the
    folders in it. InputError for several, and for a folder of splits.
    """
    files = _metadata(folder)
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise InputError(f"{folder} has {names}; name one of them, as in {files[0]}")
    if files:
        return files[0]
    splits = sorted(entry for entry in folder.iterdir() if entry.is_dir() and _metadata(entry))
    if splits:
        names = ", ".join(map(str, splits[:MAX_SPLITS]))
        more = ", …" if len(splits) > MAX_SPLITS else ""
        raise InputError(f"{folder} holds several splits; name one: {names}{more}")
    return None


def rows_at_home(rows: Iterator[Row], reading: Reading) -> Iterator[Row]:
    """Yield the rows of an image folder, whose paths begin with it; one that leaves it is a problem
    of its row.
    """
    confined = None if reading.columns.outside else ConfinedFolder(reading.home)
    for row in rows:
        images = [image for image in reading.columns.images(row.image_path) if image.strip()]
        container = container_of(row.image_path)
        is_embedded = container != row.image_path and container == str(reading.path)
        moves = bool(images) and not is_embedded
        yield _row_at_home(row, images, reading.home, confined) if moves else row


def _row_at_home(row: Row, images: list[str], home: str, confined: ConfinedFolder | None) -> Row:
    path = SEPARATOR.join(os.path.join(home, image) for image in images)
    moved = row._replace(image_path=path, columns=row.columns | {"image_path": path})
    outside = [image for image in images if confined is not None and confined.leaves(image)]
    if not outside or row.problem is not None:
        return moved
    return moved._replace(
        problem=f"image {outside[0]!r} leaves {home}; allow outside images if it may lie elsewhere"
    )


def _metadata(folder: Path) -> list[Path]:
    return [folder / name for name in METADATA if (folder / name).is_file()]
