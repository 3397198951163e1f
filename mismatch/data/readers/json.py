"""Rows of JSON lines: an object a line, each with its own faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, NamedTuple

from mismatch.data.columns import COLUMNS
from mismatch.data.readers.text_files import file_problem, look_at_bytes, open_rows, wrong_byte
from mismatch.data.rows import (
    MAX_COLUMNS,
    MAX_FIELD,
    Reading,
    Row,
    as_text,
    is_too_long,
    not_text,
    several_images,
)

__all__ = ["json_header", "json_rows", "parsed_object"]

HEADER_LINES = 100  # whose keys are the columns
MAX_LINE = 2**26  # bytes; a file without line ends would else be read whole
# of a line, counted by the marks between them: an empty list takes two bytes there and 64 in memory
MAX_VALUES = 2**21
SHOWN = 60  # characters of a key that an error quotes
BOM = b"\xef\xbb\xbf"


class _Line(NamedTuple):
    """A line that isn't blank."""

    number: int  # from 1
    data: bytes  # of a line over `MAX_LINE` its beginning
    record: dict[str, Any] | None  # the object that it says
    damage: str  # why there is none


class _Repeating(dict[str, Any]):
    """An object that has a key twice: one of the two values would be lost."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.name = next(name for name in names if names.count(name) > 1)


def json_header(reading: Reading) -> list[str]:
    """Return the columns as rows have them: the keys of the first hundred objects."""
    with open_rows(reading.path, reading.columns.encoding) as file:
        header = _keys(file, reading)
    names = reading.names(header) or [] if header else []
    if header:
        reading.present(header, names)
    return names


def json_rows(reading: Reading) -> Iterator[Row]:
    """Stream the objects; a key that an object lacks is an empty column."""
    with open_rows(reading.path, reading.columns.encoding) as file:
        header = _keys(file, reading)
        names = reading.names(header) if header else None
        if names is None:
            return
        present = reading.present(header, names)
        renamed = {name: new for name, new in zip(header, names, strict=True) if name != new}
        for new in list(renamed.values()):
            # a key that only a later object has doesn't stand for the column that was asked for
            renamed.setdefault(new, f"input_{new}")
        file.seek(0)
        for line in _lines(file, reading.columns.encoding):
            row = _row(line, renamed, present, reading)
            yield row if row.problem is None else row._replace(raw=_as_written(line.data))


def _as_written(data: bytes) -> str:
    r"""Decode a line, without its end; a byte that is not UTF-8 becomes `\xff`."""
    return data.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _row(line: _Line, renamed: dict[str, str], present: tuple[str, ...], reading: Reading) -> Row:
    if line.record is None:
        return Row(line.number, "", "", None, {}, line.damage, intact=False)
    values = (
        {renamed.get(name, name): value for name, value in line.record.items()}
        if renamed
        else line.record
    )
    try:
        columns = {
            name: value if type(value) is str else as_text(value) for name, value in values.items()
        }
    except RecursionError:
        return Row(
            line.number,
            "",
            "",
            None,
            {},
            "this line can't be read as JSON: it is nested too deeply",
            intact=False,
        )
    if len(line.data) > MAX_FIELD and is_too_long(columns.values()):
        return Row(
            line.number,
            "",
            "",
            None,
            {},
            f"a value is longer than {MAX_FIELD:,} characters",
            intact=False,
        )
    return reading.row(line.number, columns, present, _problem(values, reading))


def _problem(values: dict[str, Any], reading: Reading) -> str | None:
    """Return why an image or a text is none: a number, a list of texts, an object."""
    image = values.get("image_path")
    text = values.get("text")
    problems = []
    if isinstance(image, list) and image and all(isinstance(name, str) for name in image):
        if len(image) > 1 and reading.columns.multi_image is None:
            problems.append(several_images(len(image)))
    elif not (image is None or isinstance(image, str)):
        problems.append(not_text("image_path", image))
    if not (text is None or isinstance(text, str)):
        problems.append(not_text("text", text))
    return "; ".join(problems) or None


def _keys(file: IO[bytes], reading: Reading) -> list[str]:
    """Return the keys in the order in which they come; a fault where there are none."""
    if problem := file_problem(reading.path, reading.columns.encoding):
        reading.fault(1, problem)
        return []
    if file.read(64).removeprefix(BOM).lstrip()[:1] == b"[":
        reading.fault(
            1,
            "this is a JSON array; JSON lines are needed, one object a line, as jq -c '.[]' writes"
            " them",
        )
        return []
    file.seek(0)
    header: dict[str, None] = {}
    damaged: list[_Line] = []
    for line in islice(_lines(file, reading.columns.encoding), HEADER_LINES):
        if line.record is not None:
            header |= dict.fromkeys(line.record)
        else:
            damaged.append(line)
    if any(_is_wrong(line.data) for line in damaged):
        wrong = look_at_bytes(reading.path, reading.columns.encoding)
        if wrong is not None and wrong.whole:
            reading.fault(wrong.line, wrong.message())
            return []
    if not header:
        line = (
            damaged[0]
            if damaged
            else _Line(1, b"", None, "there is no object with keys in this file")
        )
        reading.fault(
            line.number,
            f"{line.damage}; one object a line with the keys"
            f" {', '.join(map(reading.columns.asked, COLUMNS))} is needed",
        )
    return list(header)


def _is_wrong(data: bytes) -> bool:
    """Return whether a line is not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _lines(file: IO[bytes], encoding: str | None) -> Iterator[_Line]:
    """Yield each line that isn't blank, with its number."""
    number = 0
    while data := file.readline(MAX_LINE):
        number += 1
        if number == 1:
            data = data.removeprefix(BOM)
        if len(data) == MAX_LINE and not data.endswith(b"\n"):
            while (more := file.readline(MAX_LINE)) and not more.endswith(b"\n"):
                pass
            yield _Line(number, data, None, f"this line is longer than {MAX_LINE:,} bytes")
        elif data.strip():
            record, damage = parsed_object(data, encoding)
            yield _Line(number, data, record, damage)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    return record if len(record) == len(pairs) else _Repeating(pairs)


def parsed_object(data: bytes, encoding: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return the object of a line, or why there is none."""
    if len(data) > MAX_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return None, f"this line holds more than {MAX_VALUES:,} values"
    try:
        text = data.decode()
        record = json.loads(text, object_pairs_hook=_object)
        if "\\u" in text:  # which may make what no file can hold: half a character, or a NUL
            json.dumps(record, ensure_ascii=False).encode()
            if "\\u0000" in json.dumps(record):
                return None, "a NUL character stands in this row; take it out"
    except UnicodeDecodeError as error:
        return None, wrong_byte(error.object[error.start], encoding)
    except UnicodeEncodeError:
        return (
            None,
            (
                "half of a character (\\ud800 to \\udfff) stands in this row; write both halves, or"
                " the character itself"
            ),
        )
    except json.JSONDecodeError as error:
        return None, f"this line is not JSON: {error.msg} at column {error.colno}"
    except (RecursionError, ValueError) as error:
        return None, f"this line can't be read as JSON: {error}"
    if not isinstance(record, dict):
        return None, f"an object {{…}} is needed, and this is {type(record).__name__}"
    if isinstance(record, _Repeating):
        return None, f"the key {record.name[:SHOWN]!r} stands twice in this row; take one out"
    if len(record) > MAX_COLUMNS:
        return None, f"this object has {len(record):,} keys; at most {MAX_COLUMNS:,} are read"
    return record, ""
