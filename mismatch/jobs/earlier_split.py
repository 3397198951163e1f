"""Whether a table that a split would leave next to its own is an earlier split's, whose rows now
stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mismatch.data.columns import Columns
from mismatch.data.pairs import read_rows, rows_files
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.jobs.table_kinds import read_names

__all__ = ["is_earlier_split"]


def is_earlier_split(
    path: Path,
    others: Sequence[Path],
    source: Path | Remote,
    header: Sequence[str],
    columns: Columns,
) -> bool:
    """Return whether all rows of the table at `path` stand in `source`, and none of its images in
    `others`, parts made with it.

    False where nothing is there, or a table of other images, which may stay. InputError for
    anything else: images would stand on two sides, and somebody may have chosen the rows by hand.
    """
    if (
        not path.is_file()
        or not path.stat().st_size
        or any(path.samefile(file) for file in rows_files(source))
    ):
        return False
    names = read_names(path)
    if names is None or "image_path" not in names:
        return False
    # a split writes image_path, text and label, whatever its input calls them
    written = Columns(multi_image=columns.multi_image)
    images = _images(path, written)
    if not images:
        return names == list(header)
    if not images & _images(source, columns):
        return False
    is_part = not any(images & _images(other, written) for other in others)
    if (
        names == list(header)
        and is_part
        and _rows(path, header, written) <= _rows(source, header, columns)
    ):
        return True
    raise InputError(
        f"{path} is there with images of {source}, which may now be in train.csv too; move it away,"
        " or choose another `output_dir`"
    )


def _images(path: Path | Remote, columns: Columns) -> set[str]:
    """Return the images of all rows."""
    return {
        image
        for row in read_rows(path, require_label=False, columns=columns)
        for image in columns.images(row.image_path)
    }


def _rows(path: Path | Remote, names: Sequence[str], columns: Columns) -> set[int]:
    """Return the values of these columns of every row, as hashes."""
    rows = read_rows(path, require_label=False, columns=columns)
    return {hash(tuple(row.columns.get(name, "") for name in names)) for row in rows}
