"""Rows in: image_path, text and label of a CSV, TSV, JSONL, Parquet, Arrow or webdataset file or a
Hugging Face dataset, each fault with its file and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from mismatch.data.columns import ALIASES, COLUMNS, LABELS, Columns, parse_label, resolve_image
from mismatch.data.encoding import codec_name, is_utf8
from mismatch.data.readers.arrow import arrow_header, arrow_rows
from mismatch.data.readers.csv import csv_header, csv_rows
from mismatch.data.readers.dataset_folder import STATE, dataset_files
from mismatch.data.readers.json import json_header, json_rows
from mismatch.data.readers.text_files import open_text
from mismatch.data.readers.webdataset import webdataset_header, webdataset_rows
from mismatch.data.rows import MAX_COLUMNS, Fault, Reading, Row
from mismatch.data.shards import is_pattern, row_place, shard_files
from mismatch.errors import InputError, LabelError, MachineError
from mismatch.io.atomic import sha256_file
from mismatch.io.remote import Remote, located
from mismatch.io.retries import reason

__all__ = [
    "ALIASES",
    "DELIMITERS",
    "LABELS",
    "SUFFIXES",
    "Columns",
    "Row",
    "all_columns",
    "format_location",
    "kind_of",
    "load_pairs",
    "one_image_each",
    "open_text",
    "parse_label",
    "read_header",
    "read_rows",
    "refusal",
    "resolve_image",
    "rows_files",
    "scan_rows",
    "source_digest",
    "training_problem",
    "usable_rows",
]

SUFFIXES = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
CONTAINERS = {".arrow": "arrow", ".tar": "webdataset"}  # read, and not written
DELIMITERS = {"csv": ",", "tsv": "\t"}
SHOWN = 10  # problems in one message
# kinds whose rows have numbers, and no lines; several files of them are read as one
NUMBERED = ("parquet", "arrow", "webdataset")
PLAIN = Columns()


def read_header(
    path: str | Path | Remote,
    *,
    require_label: bool,
    columns: Columns = PLAIN,
    aliases: bool = False,
    strict: bool = True,
) -> list[str]:
    """Return the names of the columns, as rows have them; InputError where a needed one is missing.
    `aliases`: usual names stand for needed ones: file, title; `strict`: see `read_rows`.

    JSONL has the keys of its first hundred objects as columns; Parquet and datasets those columns
    that don't hold bytes.
    """
    needed = _needed(require_label)
    reading = Reading(located(path), columns, needed, _raise_at(path), aliases, strict)
    kind = kind_of(path)
    if kind in DELIMITERS:
        return csv_header(reading, DELIMITERS[kind])
    if kind == "jsonl":
        return json_header(reading)
    first = replace(reading, path=_files(reading.path)[0])
    return webdataset_header(first) if kind == "webdataset" else arrow_header(first)


def read_rows(
    path: str | Path | Remote,
    *,
    require_label: bool,
    columns: Columns = PLAIN,
    aliases: bool = False,
    strict: bool = True,
) -> Iterator[Row]:
    """Stream the records; a record that can't be used carries its problem, a file that can't be
    read raises InputError.

    The name, or the URL, says what a file is: .tsv, .jsonl, .parquet; a folder is a dataset; all
    others are CSV. `strict`: a CSV with bytes that are not in its encoding can't be read; else they
    are a problem of their row, unless the whole file is in another encoding.
    """
    needed = _needed(require_label)
    return _rows(Reading(located(path), columns, needed, _raise_at(path), aliases, strict))


def scan_rows(
    path: str | Path, fault: Fault, columns: Columns = PLAIN, *, require_label: bool = True
) -> Iterator[Row]:
    """Stream all that can be read of a file; what is wrong with the file itself goes to `fault`,
    with its line.

    A missing column is one fault, and its rows are checked for the rest. InputError only for a file
    that can't be opened.
    """
    yield from _rows(Reading(path, columns, _needed(require_label), fault, strict=False))


def load_pairs(
    path: str | Path,
    image_base_path: str | Path = "",
    *,
    require_label: bool = True,
    columns: Columns = PLAIN,
) -> list[Row]:
    """Return all rows, checked as `usable_rows` says."""
    return list(usable_rows(path, require_label=require_label, columns=columns))


def usable_rows(
    path: str | Path, *, require_label: bool = True, columns: Columns = PLAIN
) -> Iterator[Row]:
    """Stream the rows, each usable and of one image. Where one is not, the rest is only checked;
    then InputError (LabelError where all faults are labels) with the first ten and the count.

    A row of several images is as many rows; see `one_image_each`.
    """
    unusable = _Unusable()
    is_empty = True
    for row in read_rows(path, require_label=require_label, columns=columns):
        for image_row in one_image_each(row, columns):
            is_empty = False
            if image_row.problem:
                unusable.add(image_row)
            if not unusable.count:
                yield image_row
    if is_empty:
        raise InputError(f"{path}: there are no rows under the header; nothing to do")
    if unusable.count:
        raise unusable.error(path)


def all_columns(
    path: str | Path | Remote,
    *,
    require_label: bool,
    columns: Columns = PLAIN,
    strict: bool = True,
) -> list[str]:
    """Return what `read_header` does, with the keys of all objects of JSON lines, in the order in
    which they come; InputError for more than a table has columns.
    """
    names = read_header(path, require_label=require_label, columns=columns, strict=strict)
    header = dict.fromkeys(names)
    if kind_of(path) in ("jsonl", "webdataset"):
        for row in read_rows(path, require_label=require_label, columns=columns):
            header |= dict.fromkeys(row.columns)
            if len(header) > MAX_COLUMNS:
                raise InputError(
                    f"{format_location(path, row.line)}: the keys of all objects are more than"
                    f" {MAX_COLUMNS:,}; a file of rows has no more columns"
                )
    return list(header)


def one_image_each(row: Row, columns: Columns) -> Iterator[Row]:
    """Yield a row of several images as a row for each, with the row's label where it holds for each
    of them: a match where rows match by all their images, a mismatch where they match by their best
    one. The other label is that of one image, and which one is not known: a problem.
    """
    images = columns.images(row.image_path)
    if columns.multi_image is None or len(images) < 2 or row.problem:
        yield (
            row._replace(image_path=images[0]) if columns.multi_image and len(images) == 1 else row
        )
        return
    if row.label is not None and row.label != (columns.multi_image == "all"):
        which = "which one matches" if row.label else "which one doesn't match"
        rule = "all of their images" if columns.multi_image == "all" else "their best image"
        why = (
            f"label {row.label} of {len(images)} images does not say {which} (rows match by"
            f" {rule}); give each image a row of its own"
        )
        yield row._replace(label=None, problem=why, only_label=True)
        return
    yield from (row._replace(image_path=image) for image in images)


def training_problem(row: Row, columns: Columns) -> str | None:
    """Return why a row can't be trained on: its own problem, or a label that does not say which of
    its images it is about.
    """
    return row.problem or next(
        (image_row.problem for image_row in one_image_each(row, columns) if image_row.problem), None
    )


def refusal(path: str | Path | Remote, bad: Sequence[Row]) -> InputError:
    """Return one error for rows that can't be used: the first ten and the count; a LabelError where
    all faults are labels.
    """
    unusable = _Unusable()
    for row in bad:
        unusable.add(row)
    return unusable.error(path)


@dataclass
class _Unusable:
    """Rows that can't be used, as far as one error speaks of them."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)  # lines and problems, ten at most
    only_labels: bool = True  # whether all their faults are labels

    def add(self, row: Row) -> None:
        """Count one more."""
        problem = row.problem or ""
        self.count += 1
        self.only_labels = self.only_labels and row.only_label
        if len(self.first) < SHOWN:
            self.first.append((row.line, problem))

    def error(self, path: str | Path | Remote) -> InputError:
        """Return what to raise; see `refusal`."""
        more = (
            f" (and {self.count - SHOWN:,} more; mismatch validate lists all)"
            if self.count > SHOWN
            else ""
        )
        kind = LabelError if self.only_labels else InputError
        return kind(
            "; ".join(f"{format_location(path, line)}: {problem}" for line, problem in self.first)
            + more
        )


def format_location(path: str | Path | Remote, line: int) -> str:
    """Return where a row stands, for people: `train.csv:17`; of Parquet and datasets, which have no
    lines, `train.parquet:row 17`; of an archive `00000.tar:000001234`, with the sample's key.
    """
    kind = kind_of(path)
    if kind in (*DELIMITERS, "jsonl"):
        return f"{path}:{line}"
    place = None
    if not isinstance(path, Remote) and (kind == "webdataset" or is_pattern(path)):
        place = row_place(path, line)
    return place or f"{path}:row {line}"


def kind_of(path: str | Path | Remote) -> str:
    """Return what a file is read as: csv, tsv, jsonl, parquet, arrow, webdataset or dataset."""
    path = located(path)
    return (
        "dataset"
        if isinstance(path, Path) and path.is_dir()
        else (SUFFIXES | CONTAINERS).get(path.suffix.lower(), "csv")
    )


def rows_files(path: str | Path | Remote) -> list[Path]:
    """Return the files that rows are read from: this one, or all of a dataset's; none of a URL."""
    path = located(path)
    if isinstance(path, Remote):
        return []
    if Path(path).is_dir():
        return [*dataset_files(path), Path(path) / STATE]
    return shard_files(path) if kind_of(path) in NUMBERED else [Path(path)]


def source_digest(path: str | Path | Remote, columns: Columns = PLAIN) -> str:
    """Return a digest, in hex, of all that the rows say: the files, and how they are read. An
    object is not read for it, its ETag stands for what it holds (`Remote.version`).
    """
    path = located(path)
    if isinstance(path, Remote):
        content = path.version()
    else:
        content = "".join(map(sha256_file, rows_files(path)))
    digest = hashlib.sha256(content.encode())
    reading = Columns(
        columns.image, columns.text, columns.label, columns.label_map, columns.multi_image
    )
    if reading != PLAIN:
        digest.update(repr(reading).encode())
    if not is_utf8(columns.encoding):
        digest.update(codec_name(columns.encoding).encode())
    return digest.hexdigest()


def _rows(reading: Reading) -> Iterator[Row]:
    kind = kind_of(reading.path)
    try:
        if kind in DELIMITERS:
            yield from csv_rows(reading, DELIMITERS[kind])
        elif kind == "jsonl":
            yield from json_rows(reading)
        else:
            yield from _numbered_rows(reading, kind)
    except OSError as error:
        raise MachineError(f"{reading.path} can't be read to its end: {reason(error)}") from error


def _numbered_rows(reading: Reading, kind: str) -> Iterator[Row]:
    """Yield the rows of one file or of several, numbered throughout."""
    rows_of = webdataset_rows if kind == "webdataset" else arrow_rows
    before = 0
    for file in _files(reading.path):
        number = 0
        for row in rows_of(replace(reading, path=file)):
            number = row.line
            yield row if not before else row._replace(line=before + number)
        before += number


def _files(path: str | Path | Remote) -> Sequence[str | Path | Remote]:
    return [path] if isinstance(path, Remote) else shard_files(path)


def _needed(require_label: bool) -> tuple[str, ...]:
    return COLUMNS if require_label else COLUMNS[:2]


def _raise_at(path: str | Path | Remote) -> Fault:
    def fault(line: int, message: str) -> NoReturn:
        raise InputError(f"{format_location(path, line)}: {message}")

    return fault
