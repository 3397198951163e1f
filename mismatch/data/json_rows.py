"""Rows of JSON lines: an object a line, each with its own faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

from mismatch.data.columns import COLUMNS
from mismatch.data.csv_rows import open_rows
from mismatch.data.rows import Reading, Row, Span, as_text
from mismatch.remote import open_located

__all__ = ["json_header", "json_rows"]

HEADER_LINES = 100  # whose keys are the columns
MAX_LINE = 2**26  # bytes; a file without line ends would else be read whole
BOM = b"\xef\xbb\xbf"
Record = tuple[int, dict[str, Any] | None, str]  # line, what it says, and, where that is not an object, why


def json_header(reading: Reading) -> list[str]:
    """The columns as rows have them: the keys of the first hundred objects."""
    with open_rows(reading.path) as file:
        header = _keys(file, reading)
    names = reading.names(header) or [] if header else []
    if header:
        reading.present(header, names)
    return names


def json_rows(reading: Reading) -> Iterator[Row]:
    """Stream the objects; a key that an object lacks is an empty column."""
    with open_rows(reading.path) as file:
        header = _keys(file, reading)
        names = reading.names(header) if header else None
        if names is None:
            return
        present = reading.present(header, names)
        renamed = {name: new for name, new in zip(header, names, strict=True) if name != new}
        file.seek(0)
        for line, found, damage in _records(file) if reading.span is None else _span_records(reading, reading.span):
            yield Row(line, "", "", None, {}, damage, intact=False) if found is None else _row(line, found, renamed, present, reading)


def _row(line: int, found: dict[str, Any], renamed: dict[str, str], present: tuple[str, ...], reading: Reading) -> Row:
    columns = {name: value if type(value) is str else as_text(value) for name, value in found.items()}
    if renamed:
        columns = {renamed.get(name, name): value for name, value in columns.items()}
    images = found.get(reading.columns.image)
    problem = None
    if isinstance(images, list) and len(images) > 1 and reading.columns.multi_image is None:
        problem = f"this row has {len(images)} images; pass --multi-image best or all"
    return reading.row(line, columns, present, problem)


def _keys(file: IO[bytes], reading: Reading) -> list[str]:
    """In the order in which they come; a fault where there are none."""
    if file.read(64).removeprefix(BOM).lstrip()[:1] == b"[":
        reading.fault(1, "this is a JSON array; JSON lines are needed, one object a line, as jq -c '.[]' writes them")
        return []
    file.seek(0)
    records = list(islice(_records(file), HEADER_LINES))
    header = list(dict.fromkeys(name for _, found, _ in records for name in found or ()))
    if not header:
        line, why = next(((line, why) for line, found, why in records if found is None), (1, "there is no object with keys in this file"))
        reading.fault(line, f"{why}; one object a line with the keys {', '.join(map(reading.columns.asked, COLUMNS))} is needed")
    return header


def _span_records(reading: Reading, span: Span) -> Iterator[Record]:
    with open_located(reading.path, span.start, span.end) as file:
        yield from _records(file, span.line)


def _records(file: IO[bytes], before: int = 0) -> Iterator[Record]:
    """Each line that isn't blank, with its number; `before` stand before these."""
    number = before
    while data := file.readline(MAX_LINE):
        number += 1
        if number == 1:
            data = data.removeprefix(BOM)
        if len(data) == MAX_LINE and not data.endswith(b"\n"):
            while (more := file.readline(MAX_LINE)) and not more.endswith(b"\n"):
                pass
            yield number, None, f"this line is longer than {MAX_LINE:,} bytes"
        elif data.strip():
            yield number, *_parsed(data)


def _parsed(data: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        text = data.decode()
        found = json.loads(text)
        if "\\u" in text:  # which may make what no file can hold: half a character, or a NUL
            json.dumps(found, ensure_ascii=False).encode()
            if "\\u0000" in json.dumps(found):
                return None, "a NUL character stands in this row; take it out"
    except UnicodeDecodeError as error:
        return None, f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8"
    except UnicodeEncodeError:
        return None, "half of a character (\\ud800 to \\udfff) stands in this row; write both halves, or the character itself"
    except json.JSONDecodeError as error:
        return None, f"this line is not JSON: {error.msg} at column {error.colno}"
    except (RecursionError, ValueError) as error:
        return None, f"this line can't be read as JSON: {error}"
    return (found, "") if isinstance(found, dict) else (None, f"an object {{…}} is needed, and this is {type(found).__name__}")
