"""Rows as the pipeline needs them: an image that is ours alone, a text, and what is wrong."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mismatch.data.columns import Columns, locate_image
from mismatch.data.confined import ConfinedFolder
from mismatch.data.pairs import read_rows
from mismatch.data.readers.memory import row_mappings
from mismatch.data.rows import Row, not_text
from mismatch.errors import ImageError, InputError
from mismatch.images import as_image_source, is_in_memory
from mismatch.io.hub_urls import HubRows, is_hub_url
from mismatch.io.remote import Remote, located
from mismatch.runtime.arguments import check_path
from mismatch.runtime.hub_rows import hub_rows
from mismatch.runtime.preprocess import ImageSource, PreparedImage, own_pixels
from mismatch.specs import SliceThresholds

__all__ = [
    "Locate",
    "Pair",
    "PairReader",
    "PairSource",
    "as_asked",
    "image_name",
    "image_source",
    "is_live",
    "locator",
    "rows_of",
    "text_problem",
]

HALF = re.compile("[\ud800-\udfff]")  # half of a character that UTF-16 writes as two
HALF_A_CHARACTER = (
    "half of a character (\\ud800 to \\udfff) stands in the text; write both halves, or the"
    " character itself"
)
# csv.DictReader keeps what stands behind the last column under the key None
TOO_MANY_FIELDS = "the row has more fields than there are columns; quote texts that hold commas"
NUL = "a NUL character stands in the text; take it out"
TABLE_METHODS = ("iter_rows", "itertuples", "to_batches", "cast_column")  # one for each library
Locate = Callable[[str], Path | Remote]  # raises InputError for a path that can't be had


class Pair(NamedTuple):
    """An image, a text, and, where the row is known to be unusable, why. A tuple, since tables have
    millions of rows.
    """

    image: ImageSource
    text: str
    problem: str | None = None
    name: str = ""  # the image's, as the row has it; empty for one that has no path
    slice_value: object = None  # the row's in the column by which the model has thresholds


class PairSource(NamedTuple):
    """Rows, from where their images come, and how their columns are read."""

    rows: Any
    base: str  # folder, or URL, that image paths are relative to; "": the working directory
    columns: Columns | None

    @classmethod
    def of(cls, rows: Any, base: str, columns: Columns | None) -> PairSource:
        """Open a file by its path, rows of a hub by their URL, or a source that has `path`, `base`
        and `columns`; take any other rows as they are.
        """
        if is_hub_url(rows):
            hub = hub_rows(rows)
            source = cls.of(hub.path, base, columns)
            return source._replace(rows=_named(source.rows, hub))
        if isinstance(rows, (str, Path, Remote)):
            columns = Columns(base=str(base)) if columns is None else columns
            return cls(read_rows(rows, require_label=False, columns=columns), base, columns)
        if isinstance(getattr(rows, "columns", None), Columns):
            columns = rows.columns if columns is None else columns
            opened = read_rows(rows.path, require_label=False, columns=columns)
            return cls(opened, base or rows.base, columns)
        return cls(rows, base, columns)


def _named(rows: Iterable[Row], hub: HubRows) -> Iterator[Row]:
    """Yield rows of a hub, which errors call by their URLs."""
    with hub.naming():
        yield from rows


def rows_of(rows: Any) -> Iterable[Any]:
    """Return what holds rows as an iterable of them: mappings, `Row`s or pairs.

    InputError, at once, for what holds none.
    """
    is_table = any(hasattr(rows, name) for name in TABLE_METHODS)
    is_one_thing = isinstance(rows, (str, bytes, bytearray, Mapping, Row))
    if is_table or is_one_thing or not isinstance(rows, Iterable):
        return row_mappings(rows)
    return rows


def is_live(rows: object) -> bool:
    """Return whether rows are scored as they come: what has no length may be late."""
    return not hasattr(rows, "__len__")


def image_source(image: object, *, copy: bool = False) -> ImageSource:
    """Return an image that a caller has handed over as one of the kinds that are read here.

    `copy`: also pixels that the caller may change later. ImageError for what is no image, by the
    name of its type: nothing of it is touched.
    """
    if isinstance(image, PreparedImage):
        return image
    source = as_image_source(image)
    return own_pixels(source) if copy else source


def image_name(image: object) -> str:
    """Return an image's path as given; empty for one that has none."""
    return str(image) if isinstance(image, (str, os.PathLike, Remote)) else ""


def text_problem(text: object) -> str | None:
    """Return why a value can't be a text; None where it can."""
    if not isinstance(text, str):
        return not_text("text", text)
    if not text.isascii() and HALF.search(text):
        return HALF_A_CHARACTER
    return NUL if "\0" in text else None


def as_asked(row: Mapping[str, Any], image_column: str, text_column: str) -> dict[str, Any]:
    """Return a row with the columns that are asked for as `image_path` or `image`, and `text`."""
    asked = dict(row)
    if image_column in row:
        image = row[image_column]
        asked.pop("image_path", None)
        asked["image" if is_in_memory(image) else "image_path"] = image
    if text_column in row:
        asked["text"] = row[text_column]
    return asked


def locator(base_path: str | Path, outside: bool | None) -> Locate:
    """Return what finds the file or object of a row's path; it raises InputError for a path that
    leaves the base and may not.
    """
    base = located(os.fspath(base_path))
    folder = str(base_path)
    if isinstance(base, Remote) or outside or (outside is None and not folder):
        return partial(locate_image, base, outside=bool(outside))
    confined = ConfinedFolder(folder)

    def locate(path: str) -> Path | Remote:
        place = locate_image(base, path)
        if confined.leaves(path):
            where = folder or "the working directory"
            raise InputError(
                f"image {path!r} leaves {where}; pass outside_images=True if it may lie elsewhere"
            )
        return place

    return locate


class PairReader:
    """Turns rows into pairs: one a row, or one for each of its images."""

    def __init__(
        self,
        locate: Locate,
        *,
        slice_column: str | None = None,
        columns: Columns | None = None,
        copy: bool = True,
    ) -> None:
        """Make a reader. `slice_column`: by which the model has thresholds; `columns`: say whether
        an image_path names several images; `copy`: pixels that rows hand over, as they may be
        changed before they are looked at.
        """
        self._locate = locate
        self._slice_column = slice_column
        self._columns = columns
        self._copy = copy

    @classmethod
    def of(
        cls,
        rows: object,
        base: str | Path,
        outside: bool | None,
        *,
        slices: SliceThresholds | None,
        columns: Columns | None = None,
    ) -> PairReader:
        """Return what reads these rows; `slices`: the model's; see `locator` for the others."""
        return cls(
            locator(check_path(base, "image_base_path"), outside),
            slice_column=None if slices is None else slices.column,
            columns=columns,
            copy=not isinstance(rows, (list, tuple)),  # which nobody changes while they are read
        )

    def pairs(self, row: object, number: int) -> list[Pair]:
        """Return the pairs of a row; InputError, with its number, for what is none."""
        if isinstance(row, Row):
            return self._of_row(row)
        if isinstance(row, Pair):
            return [row]
        if isinstance(row, (dict, Mapping)):  # a dict is recognised faster
            return [self._of_mapping(row, number)]
        raise InputError(
            f"row {number} is a {type(row).__name__}; a mapping with `image_path` (or `image`) and"
            " `text` is needed"
        )

    def _of_row(self, row: Row) -> list[Pair]:
        value = None
        if self._slice_column is not None:
            value = row.columns.get(self._slice_column)
        paths = [row.image_path]
        if self._columns is not None and not row.problem:
            paths = self._columns.images(row.image_path)
        if not paths:
            return [Pair("", row.text, "the image_path is empty", row.image_path, value)]
        pairs = []
        for path in paths:
            image, problem = self._located(path, row.problem)
            pairs.append(Pair(image, row.text, problem or text_problem(row.text), path, value))
        return pairs

    def _of_mapping(self, row: Mapping[str, Any], number: int) -> Pair:
        if "text" not in row or ("image_path" not in row and "image" not in row):
            raise InputError(
                f"row {number} has the keys {', '.join(map(str, row)) or 'none'}; image_path and"
                " text are needed"
            )
        too_many = TOO_MANY_FIELDS if row.get(None) else None  # type: ignore[call-overload]
        path = row.get("image_path")
        name = str(path) if isinstance(path, (str, os.PathLike)) else ""
        image: ImageSource
        if "image_path" in row and not is_in_memory(path):
            image, problem = self._located(name, _path_problem(path))
        else:
            image, problem = self._received(path if "image_path" in row else row["image"])
            if problem is None and isinstance(image, (str, Path)):
                image, problem = self._located(str(image), None)
        text = row["text"]
        value = None if self._slice_column is None else row.get(self._slice_column)
        return Pair(image, str(text), problem or too_many or text_problem(text), name, value)

    def _received(self, image: object) -> tuple[ImageSource, str | None]:
        """Return an image of the caller's, and why it can't be used."""
        try:
            return image_source(image, copy=self._copy), None
        except ImageError as error:
            return "", str(error)

    def _located(self, path: str, problem: str | None) -> tuple[Path | Remote, str | None]:
        """Return where an image lies, and why it can't be had from there."""
        if problem is None:
            try:
                return self._locate(path), None
            except InputError as error:
                problem = str(error)
        return Path(path), problem


def _path_problem(path: object) -> str | None:
    if isinstance(path, (str, os.PathLike)):
        return None
    # nan: an empty cell in pandas
    missing = path is None or (isinstance(path, float) and math.isnan(path))
    return "the image_path is missing" if missing else not_text("image_path", path)
