"""Rows of CSV and TSV, each fault with its line."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from mismatch.data.columns import COLUMNS, may_leave
from mismatch.data.rows import Reading, Row, Span, SpanError
from mismatch.errors import InputError, MachineError
from mismatch.remote import Remote, open_located
from mismatch.retries import is_transient, reason

__all__ = ["bad_bytes", "csv_begin", "csv_header", "csv_rows", "not_utf8", "open_rows", "open_text"]

MAX_FIELD = 2**24  # characters; csv's own limit of 2¹⁷ is a text of 40 pages
ESCAPED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8
NEEDED = "a CSV, TSV, JSONL or Parquet file, or a folder that save_to_disk of Hugging Face datasets wrote, is needed"


def csv_header(reading: Reading, delimiter: str) -> list[str]:
    """The columns as rows have them."""
    with open_text(reading.path, "strict") as file:
        header, names = _header(_records(file, reading, delimiter), reading)
    reading.present(header, names or [])
    return names or []


def csv_begin(reading: Reading, delimiter: str) -> tuple[int, int]:
    """Where the header's record ends: how many bytes and how many lines stand before that."""
    with open_text(reading.path, "strict") as file:
        sizes: list[int] = []
        header, names = _header(_records(_measured(file, sizes), reading, delimiter), reading)
    reading.present(header, names or [])
    with open_located(reading.path) as raw:
        marked = raw.read(len(BOM_UTF8)) == BOM_UTF8
    return sum(sizes) + len(BOM_UTF8) * marked, len(sizes)


def csv_rows(reading: Reading, delimiter: str) -> Iterator[Row]:
    """Stream the records. Raises csv.field_size_limit to 16 M characters, for the whole process: csv knows no other way."""
    with open_text(reading.path, "strict" if reading.strict else "replace") as file:
        records = _records(file, reading, delimiter)
        header, names = _header(records, reading)
        if names is None:
            return
        present = reading.present(header, names)
        wanted = records if reading.span is None else _span_records(reading, reading.span, delimiter)
        found = (_row(line, record, names, present, reading, delimiter) for line, record in wanted)
        if reading.columns.label_map or reading.columns.multi_image:
            yield from map(reading.checked, found)
        elif reading.columns.inside:
            yield from (reading.checked(row) if may_leave(row.image_path) else row for row in found)
        else:
            yield from found


def open_text(path: str | Path | Remote, errors: str) -> TextIO:
    """A file of UTF-8 text, line ends kept; InputError where there is none."""
    return io.TextIOWrapper(open_rows(path), encoding="utf-8-sig", errors=errors, newline="")


def open_rows(path: str | Path | Remote) -> io.BufferedReader:
    """A file or an object of rows, as bytes; InputError where there is none."""
    try:
        if not isinstance(path, Remote) and Path(path).exists() and not Path(path).is_file():  # a pipe would be empty when it is opened again
            raise InputError(f"{path} is a folder, a pipe or a device; {NEEDED}")
        return open_located(path)
    except OSError as error:
        if is_transient(error):
            raise MachineError(f"{path} can't be read: {reason(error)}") from error
        raise InputError(f"{path}: {error.strerror}") from error


def bad_bytes(path: str | Path | Remote) -> Iterator[tuple[int, int]]:
    """Each line that is not UTF-8, with its first wrong byte."""
    with io.TextIOWrapper(open_located(path), encoding="utf-8", errors="surrogateescape", newline="") as file:
        if _is_binary(file.read(64)):
            return
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if not line.isascii() and (wrong := ESCAPED.search(line)):
                yield number, ord(wrong[0]) - 0xDC00


def not_utf8(byte: int) -> str:
    """What to say of such a byte."""
    return f"byte {byte:#04x} is not UTF-8; save the file as UTF-8"


def _row(line: int, record: list[str], names: list[str], present: Sequence[str], reading: Reading, delimiter: str) -> Row:
    columns = dict(zip(names, record, strict=False))
    image_path, text = columns.get("image_path", ""), columns.get("text", "")
    label = reading.columns.labels.get(columns.get("label", "")) if "label" in present else None
    if len(record) == len(names) and image_path.strip() and text.strip() and (label is not None or "label" not in present) and "\0" not in "".join(record):
        return Row(line, image_path, text, label, columns)
    if damage := _damage(record, len(names), delimiter):
        return Row(line, image_path, text, None, columns, damage, intact=False)
    return reading.row(line, columns, present)


def _damage(record: list[str], width: int, delimiter: str) -> str | None:
    """Why a record can't be taken apart into `width` fields."""
    if len(record) != width:
        mark = "tab" if delimiter == "\t" else "comma"
        cure = f"put a text that holds {mark}s in double quotes" if len(record) > width else f"a {mark} or a closing quote is missing"
        return f"{len(record)} field{'s' * (len(record) != 1)} where the header has {width}; {cure}"
    return "a NUL byte stands in this row; save the file as plain UTF-8 text" if any("\0" in value for value in record) else None


def _measured(lines: Iterable[str], sizes: list[int]) -> Iterator[str]:
    """The same lines; the size of each that is taken, bytes, is added to `sizes`."""
    for line in lines:
        sizes.append(len(line.encode()))
        yield line


def _span_records(reading: Reading, span: Span, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Those of a span, which begins behind the header; SpanError unless all are whole: strict csv takes an end within quotes for an error."""
    with io.TextIOWrapper(open_located(reading.path, span.start, span.end), encoding="utf-8", newline="") as file:
        yield from _records(file, reading, delimiter, span.line)


def _records(lines: Iterable[str], reading: Reading, delimiter: str, before: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Each record that isn't a blank line, with the line on which it starts, of which `before` stand before these; after a fault, reading goes on with the
    next line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        start = before + reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except (UnicodeDecodeError, csv.Error) as error:
            if reading.span is not None:
                raise SpanError from error
            reading.fault(*_fault_of(error, reading.path, start, delimiter))
        else:
            if record:
                yield start, record


def _fault_of(error: UnicodeDecodeError | csv.Error, path: str | Path | Remote, line: int, delimiter: str) -> tuple[int, str]:
    """The line and what is wrong there, of a record that starts at `line`."""
    if isinstance(error, UnicodeDecodeError):
        return next(((line, not_utf8(byte)) for line, byte in bad_bytes(path)), (line, "not UTF-8"))
    said = str(error)
    if "unexpected end of data" in said:
        return _open_quote(path, line, delimiter), "a double quote opens here and never closes; close it, or write a quote inside a quoted text twice"
    if "field larger" in said:
        return line, f"a field is longer than {MAX_FIELD:,} characters; is a double quote missing?"
    return line, f"{said}; write a quote inside a quoted text twice"


def _open_quote(path: str | Path | Remote, start: int, delimiter: str) -> int:
    """The line of the quote that never closes, in the record that starts at line `start`: behind all the whole fields."""
    with open_text(path, "replace") as file:
        text = "".join(islice(file, start - 1, None))
    whole_field = re.compile(rf'(?:"(?:[^"]++|"")*+"|(?!")[^{delimiter}\r\n]*+)(?:{delimiter}|\r\n|\r|\n)')
    at = 0
    while found := whole_field.match(text, at):
        at = found.end()
    return start + len(re.findall(r"\r\n|\r|\n", text[:at]))


def _is_binary(start: str) -> bool:
    """A header in UTF-16 holds NUL bytes, and so does the beginning of nearly any spreadsheet, archive or image."""
    return "\0" in start.partition("\n")[0]


def _header(records: Iterator[tuple[int, list[str]]], reading: Reading) -> tuple[list[str], list[str] | None]:
    """The first record, and its names as rows have them, None where it can't be a header."""
    with open_located(reading.path) as file:
        if _is_binary(file.read(64).decode("latin-1")):
            reading.fault(1, "this is not plain text (UTF-16? a spreadsheet?); save it as CSV in UTF-8")
            return [], None
    for _, record in records:
        header = [name.strip() for name in record]
        return header, reading.names(header)
    reading.fault(1, f"the file is empty; a header {','.join(COLUMNS)} is needed")
    return [], None
