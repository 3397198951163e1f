"""The rows of a file that are fit to train on, and the reason for each that isn't."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from mismatch.data.pairs import Columns, Row, read_rows, resolve_image, training_problem

__all__ = ["split_usable_rows"]


def split_usable_rows(
    path: str | Path,
    image_base_path: str | Path,
    *,
    broken: Mapping[str, object],
    leaked: Mapping[str, str] | None = None,
    columns: Columns | None = None,
) -> Iterator[tuple[Row, str | None]]:
    """Yield each row of a file with labels, in order, with why it can't be trained on: None where
    it can.

    `broken`: images that can't be read, and why; `leaked`: images that stand in a file to test on,
    and where. The first of rows that repeat each other stays; none does of an image and a text that
    are match and mismatch. InputError for a file that can't be read.
    """
    columns = columns or Columns()
    clashing = _clashing(path, columns)
    seen: dict[int, int] = {}  # the pair → its line
    for row in read_rows(path, require_label=True, columns=columns, strict=False):
        images = [
            str(resolve_image(image_base_path, image)) for image in columns.images(row.image_path)
        ]
        yield (
            row,
            training_problem(row, columns)
            or _reason(row, images, broken, leaked or {}, clashing, seen),
        )


def _reason(
    row: Row,
    images: Sequence[str],
    broken: Mapping[str, object],
    leaked: Mapping[str, str],
    clashing: Collection[int],
    seen: dict[int, int],
) -> str | None:
    if bad := next((image for image in images if image in broken), None):
        return str(broken[bad])
    pair = hash((row.image_path, row.text))
    if pair in clashing:
        return "the same image and text stand once as match and once as mismatch"
    if (line := seen.setdefault(pair, row.line)) != row.line:
        return f"repeats line {line}: same image, text and label"
    return next(
        (
            f"its image, or a near-duplicate, stands in {leaked[image]}"
            for image in images
            if image in leaked
        ),
        None,
    )


def _clashing(path: str | Path, columns: Columns) -> set[int]:
    """Return the pairs with both labels, by hash."""
    labels: dict[int, int] = {}
    clashing = set()
    for row in read_rows(path, require_label=True, columns=columns, strict=False):
        if row.problem is None and row.label is not None:
            pair = hash((row.image_path, row.text))
            if labels.setdefault(pair, row.label) != row.label:
                clashing.add(pair)
    return clashing
