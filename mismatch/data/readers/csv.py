"""Rows of CSV and TSV, each fault with its line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple, TextIO

from mismatch.data.columns import COLUMNS, Columns
from mismatch.data.readers.csv_blanks import blanks_kept, unquoted
from mismatch.data.readers.delimiters import (
    SEPARATOR_LINE,
    Delimiter,
    choose_delimiter,
    described,
)
from mismatch.data.readers.text_files import (
    ESCAPED,
    LINE_ENDS,
    MAX_RECORD,
    NotUtf8,
    encoding_problem,
    file_problem,
    look_at_bytes,
    mark_remark,
    open_text,
)
from mismatch.data.rows import MAX_FIELD, Reading, Row

__all__ = ["csv_header", "csv_rows"]

# of a record: a thousand times more than any header has, as a comma takes one byte there and eight
# in memory
MAX_FIELDS = 2**20
HEADER = 2**20  # characters of a header by which the delimiter is recognised
IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
)


def csv_header(reading: Reading, delimiter: str) -> list[str]:
    """Return the columns as rows have them."""
    if _is_refused(reading):
        return []
    reading.remarks.extend(mark_remark(reading.path, reading.columns.encoding))
    errors = "strict" if reading.strict else "surrogateescape"
    with open_text(reading.path, errors, reading.columns.encoding) as file:
        header, names = _header(_records(_opened(file, delimiter, reading), reading), reading)
    reading.present(header, names or [])
    return names or []


def csv_rows(reading: Reading, delimiter: str) -> Iterator[Row]:
    """Stream the records. Raises csv.field_size_limit to 16 M characters, for the whole process:
    csv knows no other way.
    """
    if _is_refused(reading):
        return
    encoding = reading.columns.encoding
    wrong = None if reading.strict else look_at_bytes(reading.path, encoding)
    if wrong is not None and wrong.whole:
        reading.fault(wrong.line, wrong.message())
        return
    errors = "strict" if wrong is None else "surrogateescape"
    with open_text(reading.path, errors, encoding) as file:
        lines = _opened(file, delimiter, reading)
        records = _records(lines, reading)
        header, names = _header(records, reading)
        if names is None:
            return
        present = reading.present(header, names)
        checked = bool(reading.columns.label_map) or reading.columns.restrained
        for record in records:
            row = None if wrong is None else _wrong_row(record, wrong)
            if row is None:
                row = _row(record, names, present, reading, lines.delimiter)
            if checked:
                row = reading.checked(row)
            yield row if row.problem is None else row._replace(raw=_as_written(record.lines))


def _is_refused(reading: Reading) -> bool:
    """Return whether a file is none of text, which is a fault then."""
    problem = file_problem(reading.path, reading.columns.encoding)
    if problem:
        reading.fault(1, problem)
    return problem is not None


def _as_written(lines: Sequence[str]) -> str:
    r"""Return a record without its end; a byte that is not UTF-8 becomes `\xff`."""
    data = "".join(lines).rstrip("\r\n").encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "backslashreplace")


def _opened(file: TextIO, default: str, reading: Reading) -> _Lines:
    """Return the lines of a file; behind the first one, where that only names the delimiter."""
    mark = None
    delimiter = Delimiter(reading.columns.delimiter or default)
    try:
        line = file.readline(HEADER)
        mark = SEPARATOR_LINE.fullmatch(line)
        while line.endswith(LINE_ENDS) and not line.strip():
            line = file.readline(HEADER)
        if mark is None:
            delimiter = choose_delimiter(line, default, reading)
    except UnicodeDecodeError:  # which the first record says
        pass
    file.seek(0)
    if mark is None:
        return _Lines(file, delimiter)
    lines = _Lines(file, Delimiter(reading.columns.delimiter or mark[1]))
    next(lines)
    return lines


class _Record(NamedTuple):
    """A record as csv takes it apart, and as it stands in the file."""

    line: int  # where it starts, from 1
    fields: list[str]
    lines: list[str]  # with their ends


class _TooLongError(csv.Error):
    """A record is over the bounds; what is left of its line has been passed over."""


UNREADABLE = (UnicodeDecodeError, _TooLongError)


class _Lines:
    """The lines of a file, for csv, with those of the record that is being read."""

    def __init__(self, file: TextIO, delimiter: Delimiter) -> None:
        self.taken: list[str] = []  # since `begin`
        self.count = 0  # lines, of all
        self.delimiter, self.is_padded = delimiter
        self._read = file.readline
        self._size = 0  # characters since `begin`
        self._marks = 0  # delimiters since `begin`, in the first `_counted` lines
        self._counted = 0

    def begin(self) -> None:
        """Begin a record."""
        self.taken = []
        self._size = self._marks = self._counted = 0

    def is_empty_row(self) -> bool:
        """Return whether the record has nothing but delimiters and blanks, as a spreadsheet writes
        an empty row.
        """
        text = "".join(self.taken)
        return self.delimiter in text and not text.strip(f"{self.delimiter} \t\r\n")

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


def _wrong_row(record: _Record, wrong: NotUtf8) -> Row | None:
    """Return a row of which nothing is taken, where it has bytes that are not in the encoding."""
    text = "".join(record.lines)
    wrong_byte = None if text.isascii() else ESCAPED.search(text)
    if wrong_byte is None:
        return None
    problem = wrong.message_of(ord(wrong_byte[0]) - 0xDC00)
    return Row(record.line, "", "", None, {}, problem, intact=False)


def _row(
    record: _Record, names: list[str], present: Sequence[str], reading: Reading, delimiter: str
) -> Row:
    if len(record.fields) > len(names) and not any(map(str.strip, record.fields[len(names) :])):
        # empty cells of a spreadsheet
        record = record._replace(fields=record.fields[: len(names)])
    columns = dict(zip(names, record.fields, strict=False))
    image_path = columns.get("image_path", "")
    text = columns.get("text", "")
    label = reading.columns.labels.get(columns.get("label", "")) if "label" in present else None
    whole = len(record.fields) == len(names) and "\0" not in "".join(record.fields)
    if (
        whole
        and len(record.lines) > 1
        and (count := _rows_in_quotes(record, names, reading.columns, delimiter))
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


def _rows_in_quotes(record: _Record, names: list[str], columns: Columns, delimiter: str) -> int:
    """Return how many lines of a record are rows by themselves, where a text that opens with a
    quote has taken in what follows, up to the next quote at a text's end; 0 where only one is.

    A line is one by its label, and by the name of an image: a file of a usual kind, or of the same
    as the record's. Without labels, names without an ending are a sign where they are numbered
    alike.
    """
    if "image_path" not in names:
        return 0
    image = names.index("image_path")
    label = names.index("label") if "label" in names else None
    name = record.fields[image]
    endings = {*IMAGE_ENDINGS, _ending(name)}
    by_number = label is None and not _ending(name)
    count = 0
    for line in record.lines:
        values = line.rstrip("\r\n").split(delimiter)
        if len(values) != len(names):
            continue
        if by_number:
            count += any(map(str.isdigit, name)) and _numbering(values[image]) == _numbering(name)
        else:
            is_label = label is None or columns.label_of(values[label]) is not None
            count += is_label and _ending(values[image]) in endings
    return count if count > 1 else 0


def _numbering(name: str) -> str:
    """Return a name with each digit as 0: sku-0000 of sku-1234."""
    return "".join("0" if sign.isdigit() else sign for sign in name.strip().strip('"'))


def _ending(name: str) -> str:
    """Return the ending of a file's name in lower case; nothing where it has none."""
    return PurePath(name.strip().strip('"')).suffix.casefold()


def _damage(record: list[str], width: int, delimiter: str) -> str | None:
    """Return why a record can't be taken apart into `width` fields; None where it can."""
    if len(record) != width:
        mark = described(delimiter)
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
    # a quote behind a delimiter and blanks opens a text too; elsewhere such blanks are kept
    reader = csv.reader(lines, strict=True, delimiter=lines.delimiter, skipinitialspace=True)
    while True:
        start = lines.count + 1
        lines.begin()
        try:
            fields = next(reader)
            if not lines.is_padded:
                fields = blanks_kept(fields, lines.taken, lines.delimiter)
        except StopIteration:
            return
        except (UnicodeDecodeError, csv.Error) as error:
            fields = [] if isinstance(error, UNREADABLE) else unquoted(lines.taken, lines.delimiter)
            if lines.is_padded:
                fields = [value.removeprefix(" ") for value in fields]
            if not fields:
                reading.fault(*_fault_of(error, reading, start, lines))
        if fields and (fields[0].strip() or not lines.is_empty_row()):
            yield _Record(start, fields, lines.taken)


def _fault_of(
    error: UnicodeDecodeError | csv.Error, reading: Reading, line: int, lines: _Lines
) -> tuple[int, str]:
    """Return the line and what is wrong there, of a record that starts at `line`."""
    if isinstance(error, UnicodeDecodeError):
        return encoding_problem(reading.path, reading.columns.encoding)
    message = str(error)
    if isinstance(error, _TooLongError):
        return line, message
    if "unexpected end of data" in message:
        return (
            _open_quote(reading, line, lines.delimiter),
            (
                "a double quote opens here and never closes; close it, or write a quote inside a"
                " quoted text twice"
            ),
        )
    if "field larger" in message:
        return line, f"a field is longer than {MAX_FIELD:,} characters; is a double quote missing?"
    if any(f'" {lines.delimiter}' in taken for taken in lines.taken):
        return line, f"{message}; take out the blank behind a closing quote"
    return line, f"{message}; write a quote inside a quoted text twice"


def _open_quote(reading: Reading, start: int, delimiter: str) -> int:
    """Return the line of the quote that never closes, in the record that starts at line `start`:
    behind all the whole fields.
    """
    with open_text(reading.path, "replace", reading.columns.encoding) as file:
        text = "".join(islice(file, start - 1, None))  # which a record's bounds keep small
    sign = re.escape(delimiter)
    whole_field = re.compile(rf'(?:"(?:[^"]++|"")*+"|(?!")[^{sign}\r\n]*+)(?:{sign}|\r\n|\r|\n)')
    position = 0
    while field := whole_field.match(text, position):
        position = field.end()
    return start + len(re.findall(r"\r\n|\r|\n", text[:position]))


def _header(records: Iterator[_Record], reading: Reading) -> tuple[list[str], list[str] | None]:
    """Return the first record, and its names as rows have them, None where it can't be a header."""
    record = next(records, None)
    if record is None:
        reading.fault(1, f"the file is empty; a header {','.join(COLUMNS)} is needed")
        return [], None
    header = [name.strip() for name in record.fields]
    if header.count("") > 1:
        header = [name or f"unnamed_{place}" for place, name in enumerate(header, start=1)]
    if ESCAPED.search("".join(header)):
        reading.fault(record.line, "a column's name is not UTF-8; save the file as UTF-8")
        return [], None
    return header, reading.names(header)
