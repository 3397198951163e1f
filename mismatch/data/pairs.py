"""Rows in: a CSV of image_path, text and label, each fault with its file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from mismatch.errors import InputError, LabelError

__all__ = ["LABELS", "Row", "load_pairs", "parse_label", "read_header", "read_rows", "resolve_image"]

LABELS = {"0": 0, "1": 1}  # mismatch, match
COLUMNS = ("image_path", "text", "label")
ALIASES = {"image": "image_path", "path": "image_path", "file": "image_path", "filename": "image_path", "caption": "text", "title": "text", "description": "text"}
MAX_FIELD = 2**24  # characters; csv's own limit of 2¹⁷ is a text of 40 pages
SHOWN = 10  # problems in one message


@dataclass(frozen=True, slots=True)
class Row:
    """One record, as it stands in the file."""

    line: int  # where it starts, from 1
    image_path: str
    text: str
    label: int | None  # None where there is none, none is wanted, or it is wrong
    columns: dict[str, str] = field(repr=False)  # all columns, as written
    problem: str | None = None  # why this row can't be used


def read_header(path: str | Path, *, require_label: bool) -> list[str]:
    """The names of the columns; InputError where a needed one is missing."""
    with _open(path) as file:
        header, _ = _header(_reader(file), path)
    _check_columns(header, path, require_label)
    return header


def read_rows(path: str | Path, *, require_label: bool) -> Iterator[Row]:
    """Stream the records; a record that can't be used carries its problem, a file that can't be read raises InputError."""
    with _open(path) as file:
        reader = _reader(file)
        header, line = _header(reader, path)
        _check_columns(header, path, require_label)
        for line, record in _records(reader, path, line):
            yield _row(line, record, header, require_label)


def load_pairs(path: str | Path, image_base_path: str | Path = "", *, require_label: bool = True) -> list[Row]:
    """All rows, each usable; else InputError (LabelError where all faults are labels) with the first ten and the count."""
    rows = list(read_rows(path, require_label=require_label))
    if not rows:
        raise InputError(f"{path}: there are no rows under the header; nothing to do")
    if bad := [row for row in rows if row.problem]:
        kind = LabelError if all("label" in (row.problem or "") for row in bad) else InputError
        raise kind(_summary(f"{path}:{row.line}: {row.problem}" for row in bad))
    return rows


def resolve_image(image_base_path: str | Path, image_path: str) -> Path:
    """Where a row's image lies; an empty base is the working directory, an absolute path is taken as it is."""
    return Path(image_base_path) / image_path


def parse_label(value: str) -> int:
    """"0" or "1", exactly; LabelError otherwise."""
    label = LABELS.get(value.strip())
    if label is None:
        raise LabelError(f"label {value!r} is neither 0 nor 1 (1 = the text describes the image)" if value.strip() else "the label is missing; 0 or 1 is needed")
    return label


def _summary(problems: Iterable[str]) -> str:
    every = list(problems)
    more = f" (and {len(every) - SHOWN:,} more; mismatch validate lists all)" if len(every) > SHOWN else ""
    return "; ".join(every[:SHOWN]) + more


def _row(line: int, record: list[str], header: list[str], require_label: bool) -> Row:
    columns = dict(zip(header, record, strict=False))
    image_path, text = columns.get("image_path", ""), columns.get("text", "")
    problem, label = None, None
    if len(record) != len(header):
        problem = f"{len(record)} fields where the header has {len(header)}; put texts that contain commas or quotes in double quotes"
    elif not image_path.strip():
        problem = "the image_path is empty"
    elif not text.strip():
        problem = "the text is empty"
    if require_label and len(record) == len(header):
        try:
            label = parse_label(columns["label"])
        except LabelError as error:
            problem = f"{problem}; {error}" if problem else str(error)
    return Row(line, image_path, text, label, columns, problem)


def _open(path: str | Path) -> TextIO:
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{path}: the file is in UTF-16; save it as UTF-8")
        return open(path, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _reader(file: TextIO) -> Iterator[list[str]]:
    if csv.field_size_limit() < MAX_FIELD:
        csv.field_size_limit(MAX_FIELD)
    return csv.reader(file, strict=True)


def _records(reader: Iterator[list[str]], path: str | Path, line: int) -> Iterator[tuple[int, list[str]]]:
    """Each record that isn't a blank line, with the line on which it starts."""
    while True:
        start = line + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{_line_of_bad_byte(path)}: byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8") from error
        except csv.Error as error:
            raise InputError(_csv_fault(path, start, str(error))) from error
        line = reader.line_num  # type: ignore[attr-defined]
        if record:
            yield start, record


def _csv_fault(path: str | Path, line: int, said: str) -> str:
    if "unexpected end of data" in said:
        return f"{path}:{line}: a double quote opens here and never closes; close it, or write a quote inside a quoted text twice"
    if "field larger" in said:
        return f"{path}:{line}: a field is longer than {MAX_FIELD:,} characters; is a double quote missing?"
    if "NUL" in said:
        return f"{path}:{line}: a NUL byte stands here; save the file as plain UTF-8 text"
    return f"{path}:{line}: {said}; write a quote inside a quoted text twice"


def _line_of_bad_byte(path: str | Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _header(reader: Iterator[list[str]], path: str | Path) -> tuple[list[str], int]:
    """The first record, and the line on which it ends."""
    for _, record in _records(reader, path, 0):
        return [name.strip() for name in record], reader.line_num  # type: ignore[attr-defined]
    raise InputError(f"{path}: the file is empty; a header {','.join(COLUMNS)} is needed")


def _check_columns(header: list[str], path: str | Path, require_label: bool) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{path}:1: column {twice[0]!r} stands twice in the header; rename one")
    needed = COLUMNS if require_label else COLUMNS[:2]
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(f"{path}:1: column {', '.join(map(repr, missing))} is missing; found {', '.join(header)}{_hint(header, missing)}")


def _hint(header: list[str], missing: list[str]) -> str:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        return "; the columns must be separated by commas"
    folded = {name.lower().replace(" ", "_"): name for name in header}
    for name in missing:
        near = folded.get(name) or next((folded[a] for a, meant in ALIASES.items() if meant == name and a in folded), None)
        near = near or next((folded[n] for n in get_close_matches(name, folded, n=1, cutoff=0.7)), None)
        if near:
            return f"; rename {near!r} to {name!r}"
    return ""
