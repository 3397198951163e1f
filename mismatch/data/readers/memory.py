"""Rows as people have them: a file, a table of another library, or any iterable of mappings."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mismatch.data.columns import SEPARATOR, Columns
from mismatch.data.encoding import is_utf8
from mismatch.data.readers.arrow import class_names
from mismatch.data.rows import as_text
from mismatch.errors import ImageError, InputError, MachineError
from mismatch.images import ImageSource, as_image_source, encoded_image
from mismatch.io.atomic import FULL, SHOWN
from mismatch.io.remote import Remote, is_url, located
from mismatch.io.text import article

__all__ = ["RowsFile", "RowsLike", "row_mappings", "rows_file", "value_text"]

# A path or URL; a table of pandas, polars or pyarrow; a datasets.Dataset; an iterable of mappings.
RowsLike = Any
NEEDED = (
    "a path, a table of pandas, polars, pyarrow or datasets, or an iterable of mappings is needed"
)
# what JSON has, so that a text which is none is still none in a file
JSON_VALUES = (str, bool, int, float, list, tuple, dict, type(None))
IMAGE = "image"  # column that is taken for the images where the one that is asked for is missing


class RowsFile(NamedTuple):
    """A file of rows."""

    path: Path | Remote
    image_folder: Path | None  # that its image paths are relative to, where images were in memory


@contextmanager
def rows_file(
    rows: RowsLike, columns: Columns, base: str = "", *, absolute_images: bool = False
) -> Iterator[RowsFile]:
    """Yield a file of these rows: a path as it is, anything else as JSON lines in a temporary
    folder, which is removed when the block ends.

    Images in memory are written there once each, as they are where they are encoded, else as PNG.
    Where the first image is in memory, image paths are relative to that folder, so that they
    are the same whenever the rows are; `absolute_images`: they are absolute. `base`: folder that
    paths among the rows are relative to. InputError for what holds no rows.
    """
    if isinstance(rows, (str, os.PathLike, Remote)):
        yield RowsFile(rows if isinstance(rows, Remote) else located(os.fspath(rows)), None)
        return
    records = row_mappings(rows)
    with _temporary_folder() as folder:
        path = folder / f"{type(rows).__name__}.jsonl"
        spooled = _Spooled(folder, columns, base, absolute=absolute_images)
        number = 0
        try:
            # half a character becomes an escape, which is a problem of its row
            encoding = columns.encoding or "utf-8"  # in which the file is read
            with path.open("w", encoding=encoding, errors=SHOWN, newline="\n") as file:
                for number, record in enumerate(spooled.records(records), start=1):
                    file.write(_json_line(record, number, ascii_only=not is_utf8(encoding)))
        except OSError as error:
            if error.errno in FULL and error.filename is None:
                raise _no_room(error) from error
            raise
        if not number:
            raise InputError(f"the {type(rows).__name__} has no rows; nothing to do")
        yield RowsFile(path, spooled.image_folder)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="mismatch-")
    except OSError as error:
        raise _no_room(error) from error
    with folder as name:
        yield Path(name)


def _no_room(error: OSError) -> MachineError:
    """Return what to raise where rows can't be written to the temporary folder."""
    folder = tempfile.tempdir or ""
    return MachineError(
        f"rows in memory can't be written to the temporary folder {folder}: {error.strerror}; make"
        " room there, set TMPDIR to another folder, or pass a file"
    )


def row_mappings(rows: RowsLike) -> Iterator[Mapping[str, Any]]:
    """Yield each row of a table or an iterable as a mapping, in order.

    The kind of a table is known by its methods: none of those libraries is imported. InputError,
    at once, for what holds no rows.
    """
    if isinstance(rows, (str, bytes, bytearray, Mapping)):
        raise InputError(f"the rows are {article(type(rows).__name__)}; {NEEDED}")
    if hasattr(rows, "iter_rows") and hasattr(rows, "columns"):  # polars
        return iter(rows.iter_rows(named=True))
    if hasattr(rows, "itertuples") and hasattr(rows, "columns"):  # pandas
        return _pandas_rows(rows)
    if hasattr(rows, "to_batches") and hasattr(rows, "column_names"):  # pyarrow
        _check_names(rows.column_names)
        names = class_names(rows.schema.metadata or {})
        return _with_class_names(
            (row for batch in rows.to_batches() for row in batch.to_pylist()), names
        )
    if hasattr(rows, "cast_column") and hasattr(rows, "features"):  # datasets
        names = {
            name: list(map(str, feature.names))
            for name, feature in rows.features.items()
            if type(feature).__name__ == "ClassLabel"
        }
        return _with_class_names(_with_encoded_images(rows), names)
    if not isinstance(rows, Iterable):
        raise InputError(f"the rows are {article(type(rows).__name__)}; {NEEDED}")
    return _checked(rows)


def _checked(rows: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InputError(
                f"row {number} is {article(type(row).__name__)}; a mapping with `image_path`"
                " (or `image`) and `text` is needed"
            )
        yield row


def _pandas_rows(frame: Any) -> Iterator[Mapping[str, Any]]:
    names = [str(name) for name in frame.columns]
    _check_names(names)
    return _tuples_as_rows(frame, names)


def _check_names(names: Iterable[str]) -> None:
    """Raise InputError for a name that two columns have: one would hide the other."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"the table has two columns {twice[0]!r}; rename one")


def _tuples_as_rows(frame: Any, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for values in frame.itertuples(index=False, name=None):
        yield dict(zip(names, values, strict=True))


def _with_encoded_images(dataset: Any) -> Any:
    """Return the dataset with its images as bytes or paths rather than decoded."""
    for name, feature in dataset.features.items():
        if type(feature).__name__ == "Image" and getattr(feature, "decode", False):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset


def _with_class_names(
    rows: Iterable[Mapping[str, Any]], names: Mapping[str, Sequence[str]]
) -> Iterator[Mapping[str, Any]]:
    """Yield the rows with what their classes are called in place of their numbers: a label is its
    name, as in a file of such a table, not where that stands in a list.
    """
    for row in rows:
        yield {**row, **{name: _class_name(row.get(name), names[name]) for name in names}}


def _class_name(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class; None for -1, by which datasets means that there is none."""
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


class _Spooled:
    """Rows on their way to a file: their images next to it, their values as JSON has them."""

    def __init__(self, folder: Path, columns: Columns, base: str, *, absolute: bool) -> None:
        self.image_folder: Path | None = None  # that paths are relative to
        self._folder = folder
        self._columns = columns
        self._base = base
        self._absolute = absolute
        self._has_images = False  # so far
        self._written_as: dict[bytes, Path] = {}  # digests of images → their files
        self._of_row = Counter[int]()  # images that were written for a row's number

    def records(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield what is written of each row; InputError, with its number, for an image of a kind
        that is not known.
        """
        asked = self._columns.image
        for number, row in enumerate(rows, start=1):
            name = asked if asked in row or IMAGE not in row else IMAGE
            record = {str(key): _plain(value) for key, value in row.items() if key != name}
            if len(record) < len(row) - (name in row):
                raise InputError(f"row {number}: two of its keys are the same text; rename one")
            text = self._columns.text
            is_time = isinstance(row.get(text), (np.datetime64, np.timedelta64))
            if text in record and (is_time or not isinstance(record[text], JSON_VALUES)):
                # an object is no text to whoever reads the file, which its words would be
                record[text] = {type(record[text]).__name__: str(record[text])}
            beyond = row.get(None)  # type: ignore[call-overload]  # where csv.DictReader puts them
            if beyond:
                record[text] = {"too many fields": [record.get(text), *beyond]}
            if name in row:
                record[asked] = self._paths(row[name], number)
            yield record

    def _paths(self, value: Any, number: int) -> Any:
        """Return the path of an image, or the paths of a list of them."""
        if isinstance(value, np.ndarray) and value.dtype == object:  # as pandas has lists
            value = value.tolist()
        if not isinstance(value, (list, tuple)):
            return self._path(value, number)
        if any(map(_is_missing, value)):
            raise InputError(f"row {number}: one of its images is missing; leave it out")
        return [self._path(image, number) for image in value]

    def _path(self, value: Any, number: int) -> Any:
        """Return the path of an image; one in memory is written to a file."""
        if _is_missing(value):
            return _plain(value)
        try:
            source = as_image_source(value)
        except InputError as error:
            raise InputError(f"row {number}: {error}") from error
        is_first = not self._has_images
        self._has_images = True
        if isinstance(source, (str, Path, Remote)):
            return self._kept(str(source))
        if is_first and not self._absolute:
            self.image_folder = self._folder
        path = self._written(source, number)
        return path.name if self.image_folder is not None else str(path)

    def _kept(self, path: str) -> str:
        """Return a path among images in memory, absolute where those are not."""
        if self.image_folder is None or is_url(path):
            return path
        images = self._columns.images(path)
        return SEPARATOR.join(os.path.abspath(os.path.join(self._base, image)) for image in images)

    def _written(self, source: ImageSource, number: int) -> Path:
        if self._columns.inside:
            raise InputError(
                f"row {number}: its image is in memory, and `image_base_path` goes with images"
                " that are paths; leave it out"
            )
        try:
            data = encoded_image(source)
        except ImageError as error:
            raise ImageError(f"row {number}: {error}") from error
        digest = hashlib.sha256(data).digest()
        path = self._written_as.get(digest)
        if path is None:
            name = f"row-{number}"
            self._of_row[number] += 1
            if self._of_row[number] > 1:
                name = f"{name}-{self._of_row[number]}"
            path = self._written_as[digest] = self._folder / name
            path.write_bytes(data)
        return path


def value_text(value: Any) -> str:
    """Return a value of a table as a file of rows has it: `true`, `1.5`, nothing where it is
    missing.
    """
    plain = _plain(value)
    if plain is None or isinstance(plain, (str, bool, int, float, list, dict)):
        return as_text(plain)
    return str(plain)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of NumPy as Python's, what is missing as null."""
    if _is_missing(value):
        return None
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)  # `item` would make nanoseconds a number
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def _json_line(record: dict[str, Any], number: int, *, ascii_only: bool) -> str:
    """Return a row as a line; InputError for a value that holds itself or is nested too deeply."""
    try:
        try:
            return json.dumps(record, ensure_ascii=ascii_only, default=str) + "\n"
        except TypeError:  # a key in a value is no text
            return json.dumps(_with_text_keys(record), ensure_ascii=ascii_only, default=str) + "\n"
    except (ValueError, RecursionError) as error:
        what = (
            "has too many digits"
            if "digits" in str(error)
            else "holds itself, or is nested too deeply"
        )
        raise InputError(f"row {number}: a value {what}; take it out") from error


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_missing(value: Any) -> bool:
    """Return whether it is None, nan, or what pandas and polars have for it."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")
