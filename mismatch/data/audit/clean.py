"""The rows of a file that can be used, and the reason for each that can't."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mismatch.data.audit.row_check import image_resolver, pair_key
from mismatch.data.columns import SEPARATOR
from mismatch.data.pairs import Columns, Row, read_rows, training_problem

__all__ = ["split_usable_rows"]


def split_usable_rows(
    path: str | Path,
    image_base_path: str | Path,
    *,
    broken: Mapping[str, object],
    leaked: Mapping[str, str] | None = None,
    meant: Mapping[str, str] | None = None,
    columns: Columns | None = None,
    labelled: bool = True,
) -> Iterator[tuple[Row, str | None]]:
    """Yield each row of a file, in order, with why it can't be used: None where it can.

    `broken`: images that can't be read, and why; `leaked`: images that stand in a file to test on,
    and where; `meant`: paths that name no file → the file that is meant, which rows then have.
    `labelled`: whether rows have labels, and need them. The first of rows that repeat each other
    stays; none does of an image and a text that are match and mismatch. InputError for a file that
    can't be read.
    """
    columns = columns or Columns()
    where = image_resolver(image_base_path)

    def rows() -> Iterator[Row]:
        for row in read_rows(path, require_label=labelled, columns=columns, strict=False):
            yield _respelt(row, columns, where, meant) if meant else row

    clashing = _clashing(rows())
    seen: dict[int, int] = {}  # the pair → its line
    for row in rows():
        images = [where(image) for image in columns.images(row.image_path)]
        problem = training_problem(row, columns)
        yield row, problem or _reason(row, images, broken, leaked or {}, clashing, seen)


def _respelt(
    row: Row, columns: Columns, where: Callable[[str], str], meant: Mapping[str, str]
) -> Row:
    """Return a row with the paths of the files that are meant."""
    images = columns.images(row.image_path)
    if not any(where(image) in meant for image in images):
        return row
    path = SEPARATOR.join(meant.get(where(image), image) for image in images)
    return row._replace(image_path=path, columns=row.columns | {"image_path": path})


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
    pair = pair_key(row)
    if pair in clashing:
        return "the same image and text stand once as match and once as mismatch"
    if (line := seen.setdefault(pair, row.line)) != row.line:
        same = "image and text" if row.label is None else "image, text and label"
        return f"repeats line {line}: same {same}"
    return next(
        (
            f"its image, or a near-duplicate, stands in {leaked[image]}"
            for image in images
            if image in leaked
        ),
        None,
    )


def _clashing(rows: Iterable[Row]) -> set[int]:
    """Return the pairs with both labels, by hash."""
    labels: dict[int, int] = {}
    clashing = set()
    for row in rows:
        if row.problem is None and row.label is not None:
            pair = pair_key(row)
            if labels.setdefault(pair, row.label) != row.label:
                clashing.add(pair)
    return clashing
