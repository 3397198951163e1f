"""Rows of CSV and TSV, each fault with its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import NamedTuple, TextIO

from mismatch.data.columns import COLUMNS
from mismatch.data.rows import MAX_FIELD, Reading, Row
from mismatch.errors import InputError, MachineError
from mismatch.io.remote import Remote, open_located
from mismatch.io.retries import is_transient, reason

__all__ = ["bad_bytes", "csv_header", "csv_rows", "not_utf8", "open_rows", "open_text"]

MAX_RECORD = 2**26  # characters; a file without line ends would else be read whole
# of a record: a thousand times more than any header has, as a comma takes one byte there and eight
# in memory
MAX_FIELDS = 2**20
ESCAPED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8
IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
)
LINE_ENDS = ("\n", "\r")
NEEDED = (
    "a CSV, TSV, JSONL or Parquet file, or a folder that save_to_disk of Hugging Face datasets"
    " wrote, is needed"
)


def csv_header(reading: Reading, delimiter: str) -> list[str]:
    """Return the columns as rows have them."""
    with open_text(reading.path, "strict") as file:
        header, names = _header(_records(_Lines(file, delimiter), reading), reading)
    reading.present(header, names or [])
    return names or []


def csv_rows(reading: Reading, delimiter: str) -> Iterator[Row]:
    """Stream the records. Raises csv.field_size_limit to 16 M characters, for the whole process:
    csv knows no other way.
    """
    with open_text(reading.path, "strict" if reading.strict else "replace") as file:
        records = _records(_Lines(file, delimiter), reading)
        header, names = _header(records, reading)
        if names is None:
            return
        present = reading.present(header, names)
        checked = bool(reading.columns.label_map) or reading.columns.restrained
        for record in records:
            row = _row(record, names, present, reading, delimiter)
            if checked:
                row = reading.checked(row)
            yield (
                row
                if row.problem is None
                else row._replace(raw="".join(record.lines).rstrip("\r\n"))
            )


def open_text(path: str | Path | Remote, errors: str) -> TextIO:
    """Open a file of UTF-8 text, line ends kept; InputError where there is none."""
    return io.TextIOWrapper(open_rows(path), encoding="utf-8-sig", errors=errors, newline="")


def open_rows(path: str | Path | Remote) -> io.BufferedReader:
    """Open a file or an object of rows, as bytes; InputError where there is none."""
    try:
        # a pipe would be empty when it is opened again
        if not isinstance(path, Remote) and Path(path).exists() and not Path(path).is_file():
            raise InputError(f"{path} is a folder, a pipe or a device; {NEEDED}")
        return open_located(path)
    except OSError as error:
        if is_transient(error):
            raise MachineError(f"{path} can't be read: {reason(error)}") from error
        raise InputError(f"{path}: {error.strerror}") from error


def bad_bytes(path: str | Path | Remote) -> Iterator[tuple[int, int]]:
    """Yield each line that is not UTF-8, with its first wrong byte."""
    with io.TextIOWrapper(
        open_located(path), encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        if _is_binary(file.read(64)):
            return
        file.seek(0)
        number = 1
        while line := file.readline(MAX_RECORD):
            if not line.isascii() and (wrong := ESCAPED.search(line)):
                yield number, ord(wrong[0]) - 0xDC00
            number += line.endswith(LINE_ENDS)


def not_utf8(byte: int) -> str:
    """Return what to say of such a byte."""
    return f"byte {byte:#04x} is not UTF-8; save the file as UTF-8"


class _Record(NamedTuple):
    """A record as csv takes it apart, and as it stands in the file."""

    line: int  # where it starts, from 1
    fields: list[str]
    lines: list[str]  # with their ends


class _TooLongError(csv.Error):
    """A record is over the bounds; what is left of its line has been passed over."""


class _Lines:
    """The lines of a file, for csv, with those of the record that is being read."""

    def __init__(self, file: TextIO, delimiter: str) -> None:
        self.taken: list[str] = []  # since `begin`
        self.count = 0  # lines, of all
        self.delimiter = delimiter
        self._read = file.readline
        self._size = 0  # characters since `begin`
        self._marks = 0  # delimiters since `begin`, in the first `_counted` lines
        self._counted = 0

    def begin(self) -> None:
        """Begin a record."""
        self.taken = []
        self._size = self._marks = self._counted = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._read(MAX_RECORD)
        if not line:
            raise StopIteration
        self.count += 1
        self.taken.append(line)
        self._size += len(line)
        if self._size > MAX_FIELDS:
            self._check(line)
        return line

    def _check(self, line: str) -> None:
        """Refuse what csv would make too much of."""
        if self._size >= MAX_RECORD:
            rest = line
            while rest and not rest.endswith(LINE_ENDS):
                rest = self._read(MAX_RECORD)
            raise _TooLongError(
                f"a row is longer than {MAX_RECORD:,} characters; is a double quote missing?"
            )
        self._marks += sum(taken.count(self.delimiter) for taken in self.taken[self._counted :])
        self._counted = len(self.taken)
        if self._marks >= MAX_FIELDS:
            raise _TooLongError(f"a row has more than {MAX_FIELDS:,} fields")


def _row(
    record: _Record, names: list[str], present: Sequence[str], reading: Reading, delimiter: str
) -> Row:
    columns = dict(zip(names, record.fields, strict=False))
    image_path = columns.get("image_path", "")
    text = columns.get("text", "")
    label = reading.columns.labels.get(columns.get("label", "")) if "label" in present else None
    whole = len(record.fields) == len(names) and "\0" not in "".join(record.fields)
    if (
        whole
        and len(record.lines) > 1
        and (count := _rows_in_quotes(record, names, reading.columns.labels, delimiter))
    ):
        problem = (
            f"{count} rows run together here, as a text opens with a double quote; put that text in"
            " quotes, and write a quote inside it twice"
        )
        return Row(record.line, image_path, text, None, columns, problem, intact=False)
    if (
        whole
        and image_path.strip()
        and text.strip()
        and (label is not None or "label" not in present)
    ):
        return Row(record.line, image_path, text, label, columns)
    if damage := _damage(record.fields, len(names), delimiter):
        return Row(record.line, image_path, text, None, columns, damage, intact=False)
    return reading.row(record.line, columns, present)


def _rows_in_quotes(
    record: _Record, names: list[str], labels: Mapping[str, int], delimiter: str
) -> int:
    """Return how many lines of a record are rows by themselves, where a text that opens with a
    quote has taken in what follows, up to the next quote at a text's end; 0 where only one is.

    A line is one by its label, and by the name of an image: a file of a usual kind, or of the same
    as the record's.
    """
    if "image_path" not in names:
        return 0
    image = names.index("image_path")
    label = names.index("label") if "label" in names else None
    endings = {*IMAGE_ENDINGS, _ending(record.fields[image])}
    count = 0
    for line in record.lines:
        values = line.rstrip("\r\n").split(delimiter)
        count += (
            len(values) == len(names)
            and _ending(values[image]) in endings
            and (label is None or values[label].strip().lower() in labels)
        )
    # without a label, names without an ending are no sign of a row
    is_sign = label is not None or _ending(record.fields[image])
    return count if count > 1 and is_sign else 0


def _ending(name: str) -> str:
    """Return the ending of a file's name in lower case; nothing where it has none."""
    return PurePath(name.strip().strip('"')).suffix.casefold()


def _damage(record: list[str], width: int, delimiter: str) -> str | None:
    """Return why a record can't be taken apart into `width` fields; None where it can."""
    if len(record) != width:
        mark = "tab" if delimiter == "\t" else "comma"
        cure = (
            f"put a text that holds {mark}s in double quotes"
            if len(record) > width
            else f"a {mark} or a closing quote is missing"
        )
        return f"{len(record)} field{'s' * (len(record) != 1)} where the header has {width}; {cure}"
    return (
        "a NUL byte stands in this row; save the file as plain UTF-8 text"
        if any("\0" in value for value in record)
        else None
    )


def _records(lines: _Lines, reading: Reading) -> Iterator[_Record]:
    """Yield each record that isn't a blank line, with the line on which it starts; after a fault,
    reading goes on with the next line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    delimiter = lines.delimiter
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        start = lines.count + 1
        lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (UnicodeDecodeError, csv.Error) as error:
            reading.fault(*_fault_of(error, reading.path, start, delimiter))
        else:
            if fields:
                yield _Record(start, fields, lines.taken)


def _fault_of(
    error: UnicodeDecodeError | csv.Error, path: str | Path | Remote, line: int, delimiter: str
) -> tuple[int, str]:
    """Return the line and what is wrong there, of a record that starts at `line`."""
    if isinstance(error, UnicodeDecodeError):
        return next(((line, not_utf8(byte)) for line, byte in bad_bytes(path)), (line, "not UTF-8"))
    message = str(error)
    if isinstance(error, _TooLongError):
        return line, message
    if "unexpected end of data" in message:
        return (
            _open_quote(path, line, delimiter),
            (
                "a double quote opens here and never closes; close it, or write a quote inside a"
                " quoted text twice"
            ),
        )
    if "field larger" in message:
        return line, f"a field is longer than {MAX_FIELD:,} characters; is a double quote missing?"
    return line, f"{message}; write a quote inside a quoted text twice"


def _open_quote(path: str | Path | Remote, start: int, delimiter: str) -> int:
    """Return the line of the quote that never closes, in the record that starts at line `start`:
    behind all the whole fields.
    """
    with open_text(path, "replace") as file:
        text = "".join(islice(file, start - 1, None))  # which a record's bounds keep small
    whole_field = re.compile(
        rf'(?:"(?:[^"]++|"")*+"|(?!")[^{delimiter}\r\n]*+)(?:{delimiter}|\r\n|\r|\n)'
    )
    position = 0
    while field := whole_field.match(text, position):
        position = field.end()
    return start + len(re.findall(r"\r\n|\r|\n", text[:position]))


def _is_binary(start: str) -> bool:
    """Return whether a header holds NUL bytes, as one in UTF-16 does, and the beginning of nearly
    any spreadsheet, archive or image.
    """
    return "\0" in start.partition("\n")[0]


def _header(records: Iterator[_Record], reading: Reading) -> tuple[list[str], list[str] | None]:
    """Return the first record, and its names as rows have them, None where it can't be a header."""
    with open_located(reading.path) as file:
        if _is_binary(file.read(64).decode("latin-1")):
            reading.fault(
                1, "this is not plain text (UTF-16? a spreadsheet?); save it as CSV in UTF-8"
            )
            return [], None
    for record in records:
        header = [name.strip() for name in record.fields]
        return header, reading.names(header)
    reading.fault(1, f"the file is empty; a header {','.join(COLUMNS)} is needed")
    return [], None
