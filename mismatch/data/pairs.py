"""Rows in: a CSV of image_path, text and label, each fault with its file and line."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from mismatch.errors import InputError, LabelError

__all__ = ["ALIASES", "LABELS", "Row", "load_pairs", "open_text", "parse_label", "read_header", "read_rows", "refusal", "resolve_image", "scan_rows"]

LABELS = {"0": 0, "1": 1}  # mismatch, match
COLUMNS = ("image_path", "text", "label")
ALIASES = {
    "image_path": ("image", "path", "file", "filename", "img", "image_file"),
    "text": ("caption", "title", "description", "name"),
    "label": ("target", "match", "is_match", "class", "y"),
}
MAX_FIELD = 2**24  # characters; csv's own limit of 2¹⁷ is a text of 40 pages
SHOWN = 10  # problems in one message
WHOLE_FIELD = re.compile(r'(?:"(?:[^"]++|"")*+"|(?!")[^,\r\n]*+)(?:,|\r\n|\r|\n)')
ESCAPED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8

Fault = Callable[[int, str], None]  # is given a line and what is wrong with the file there


class Row(NamedTuple):
    """One record, as it stands in the file. A tuple, since files have millions."""

    line: int  # where it starts, from 1
    image_path: str
    text: str
    label: int | None  # None where there is none, none is wanted, or it is wrong
    columns: dict[str, str]  # all columns, as written
    problem: str | None = None  # why this row can't be used
    intact: bool = True  # whether its fields can be told apart: as many as the header has, and no NUL byte


def read_header(path: str | Path, *, require_label: bool, aliases: bool = False) -> list[str]:
    """The names of the columns; InputError where a needed one is missing. With `aliases`, usual names stand for needed ones: file, title."""
    fault = _raise_at(path)
    with open_text(path, "strict") as file:
        header, _ = _header(_records(file, path, fault), path, fault)
    header = _renamed(header) if aliases else header
    _check_columns(header, _needed(require_label), fault)
    return header


def read_rows(path: str | Path, *, require_label: bool, aliases: bool = False) -> Iterator[Row]:
    """Stream the records; a record that can't be used carries its problem, a file that can't be read raises InputError.

    Raises csv.field_size_limit to 16 M characters, for the whole process: csv knows no other way.
    """
    return _rows(path, _needed(require_label), _raise_at(path), "strict", aliases=aliases)


def scan_rows(path: str | Path, fault: Fault) -> Iterator[Row]:
    """Stream all that can be read of a file with labels; what is wrong with the file itself goes to `fault`, with its line.

    A missing column is one fault, and its rows are checked for the rest. InputError only for a file that can't be opened.
    """
    with open_text(path, "replace"):
        for line, byte in _bad_bytes(path):
            fault(line, _not_utf8(byte))
    yield from _rows(path, COLUMNS, fault, "replace")


def load_pairs(path: str | Path, image_base_path: str | Path = "", *, require_label: bool = True) -> list[Row]:
    """All rows, each usable; else InputError (LabelError where all faults are labels) with the first ten and the count."""
    rows = list(read_rows(path, require_label=require_label))
    if not rows:
        raise InputError(f"{path}: there are no rows under the header; nothing to do")
    if bad := [row for row in rows if row.problem]:
        raise refusal(path, bad)
    return rows


def refusal(path: str | Path, bad: Sequence[Row]) -> InputError:
    """One error for rows that can't be used: the first ten and the count; a LabelError where all faults are labels."""
    kind = LabelError if all(re.match(r"(the )?label ", row.problem or "") for row in bad) else InputError
    return kind(_summary(f"{path}:{row.line}: {row.problem}" for row in bad))


def resolve_image(image_base_path: str | Path, image_path: str) -> Path:
    """Where a row's image lies; an empty base is the working directory, an absolute path is taken as it is."""
    return Path(image_base_path) / image_path


def parse_label(value: str) -> int:
    """A label is written 0 or 1, and nothing else: LabelError."""
    label = LABELS.get(value.strip())
    if label is None:
        raise LabelError(f"label {value!r} is neither 0 nor 1 (1 = the text describes the image)" if value.strip() else "the label is empty; 0 or 1 is needed")
    return label


def _summary(problems: Iterable[str]) -> str:
    every = list(problems)
    more = f" (and {len(every) - SHOWN:,} more; mismatch validate lists all)" if len(every) > SHOWN else ""
    return "; ".join(every[:SHOWN]) + more


def _needed(require_label: bool) -> tuple[str, ...]:
    return COLUMNS if require_label else COLUMNS[:2]


def _raise_at(path: str | Path) -> Fault:
    def fault(line: int, message: str) -> NoReturn:
        raise InputError(f"{path}:{line}: {message}")

    return fault


def _rows(path: str | Path, needed: Sequence[str], fault: Fault, errors: str, *, aliases: bool = False) -> Iterator[Row]:
    with open_text(path, errors) as file:
        records = _records(file, path, fault)
        header, fits = _header(records, path, fault)
        if not fits:
            return
        header = _renamed(header) if aliases else header
        needed = _check_columns(header, needed, fault)
        for line, record in records:
            yield _row(line, record, header, needed)


def _row(line: int, record: list[str], header: list[str], needed: Sequence[str]) -> Row:
    columns = dict(zip(header, record, strict=False))
    image_path, text = columns.get("image_path", ""), columns.get("text", "")
    label = LABELS.get(columns.get("label", "")) if "label" in needed else None
    if len(record) == len(header) and image_path.strip() and text.strip() and (label is not None or "label" not in needed) and "\0" not in "".join(record):
        return Row(line, image_path, text, label, columns)
    if damage := _damage(record, len(header)):
        return Row(line, image_path, text, None, columns, damage, intact=False)
    label = LABELS.get(columns["label"].strip()) if "label" in needed else None
    return Row(line, image_path, text, label, columns, "; ".join(_problems(columns, needed)) or None)


def _damage(record: list[str], width: int) -> str | None:
    """Why a record can't be taken apart into `width` fields."""
    if len(record) != width:
        cure = "put a text that holds commas in double quotes" if len(record) > width else "a comma or a closing quote is missing"
        return f"{len(record)} field{'s' * (len(record) != 1)} where the header has {width}; {cure}"
    return "a NUL byte stands in this row; save the file as plain UTF-8 text" if any("\0" in value for value in record) else None


def _problems(columns: dict[str, str], needed: Sequence[str]) -> list[str]:
    problems = [f"the {name} is empty" for name in ("image_path", "text") if name in needed and not columns[name].strip()]
    if "label" in needed:
        try:
            parse_label(columns["label"])
        except LabelError as error:
            problems.append(str(error))
    return problems


def open_text(path: str | Path, errors: str) -> TextIO:
    """A file of UTF-8 text, line ends kept; InputError where there is none."""
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be empty when it is opened again
            raise InputError(f"{path} is a folder, a pipe or a device; a CSV file is needed")
        return open(path, encoding="utf-8-sig", errors=errors, newline="")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _records(file: TextIO, path: str | Path, fault: Fault) -> Iterator[tuple[int, list[str]]]:
    """Each record that isn't a blank line, with the line on which it starts; after a fault, reading goes on with the next line."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    reader = csv.reader(file, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError:
            fault(*next(((line, _not_utf8(byte)) for line, byte in _bad_bytes(path)), (start, "not UTF-8")))
        except csv.Error as error:
            fault(*_csv_fault(path, start, str(error)))
        else:
            if record:
                yield start, record


def _csv_fault(path: str | Path, line: int, said: str) -> tuple[int, str]:
    if "unexpected end of data" in said:
        return _open_quote(path, line), "a double quote opens here and never closes; close it, or write a quote inside a quoted text twice"
    if "field larger" in said:
        return line, f"a field is longer than {MAX_FIELD:,} characters; is a double quote missing?"
    return line, f"{said}; write a quote inside a quoted text twice"


def _open_quote(path: str | Path, start: int) -> int:
    """The line of the quote that never closes, in the record that starts at line `start`: behind all the whole fields."""
    with open_text(path, "replace") as file:
        text = "".join(islice(file, start - 1, None))
    at = 0
    while found := WHOLE_FIELD.match(text, at):
        at = found.end()
    return start + len(re.findall(r"\r\n|\r|\n", text[:at]))


def _bad_bytes(path: str | Path) -> Iterator[tuple[int, int]]:
    """Each line that is not UTF-8, with its first wrong byte."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        if _is_binary(file.read(64)):
            return
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if not line.isascii() and (wrong := ESCAPED.search(line)):
                yield number, ord(wrong[0]) - 0xDC00


def _not_utf8(byte: int) -> str:
    return f"byte {byte:#04x} is not UTF-8; save the file as UTF-8"


def _is_binary(start: str) -> bool:
    """A header in UTF-16 holds NUL bytes, and so does the beginning of nearly any spreadsheet, archive or image."""
    return "\0" in start.partition("\n")[0]


def _header(records: Iterator[tuple[int, list[str]]], path: str | Path, fault: Fault) -> tuple[list[str], bool]:
    """The first record, and whether it can be one."""
    with open(path, "rb") as file:
        if _is_binary(file.read(64).decode("latin-1")):
            fault(1, "this is not plain text (UTF-16? a spreadsheet?); save it as CSV in UTF-8")
            return [], False
    for line, record in records:
        header = [name.strip() for name in record]
        if twice := sorted({name for name in header if header.count(name) > 1}):
            fault(line, f"column {twice[0]!r} stands twice in the header; rename one")
            return header, False
        return header, True
    fault(1, f"the file is empty; a header {','.join(COLUMNS)} is needed")
    return [], False


def _check_columns(header: list[str], needed: Sequence[str], fault: Fault) -> list[str]:
    """Those of the needed columns that are there; the others are a fault."""
    missing = [name for name in needed if name not in header]
    if missing:
        names = f"column{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))} {'are' if len(missing) > 1 else 'is'} missing"
        fault(1, f"{names}; found {', '.join(map(repr, header))}{_hint(header, missing)}")
    return [name for name in needed if name in header]


def _renamed(header: list[str]) -> list[str]:
    """With the needed name in place of the first usual one that stands for it, where it is missing."""
    folded = [name.lower().replace(" ", "_").replace("-", "_") for name in header]
    names = list(header)
    for name in (name for name in COLUMNS[:2] if name not in header):
        if at := next((folded.index(alias) + 1 for alias in (name, *ALIASES[name]) if alias in folded), 0):
            names[at - 1] = name
    return names


def _hint(header: list[str], missing: list[str]) -> str:
    marks = [mark for mark in ";\t|" if len(header) == 1 and mark in header[0]]
    if marks:
        return f"; the columns are separated by {marks[0]!r}: save the file with commas"
    pairs = [(near, name) for name in missing if (near := _nearest(name, header))]
    return f"; rename {' and '.join(f'{near!r} to {name!r}' for near, name in pairs)}" if pairs else ""


def _nearest(name: str, header: list[str]) -> str | None:
    folded = {other.lower().replace(" ", "_").replace("-", "_"): other for other in header if other not in COLUMNS}
    known = next((alias for alias in (name, *ALIASES[name]) if alias in folded), None)
    near = known or next(iter(get_close_matches(name, folded, n=1, cutoff=0.7)), None)
    return folded[near] if near else None
