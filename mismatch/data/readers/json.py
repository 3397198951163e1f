"""Rows of JSON: an object a line, an array of objects, or COCO's captions; each object has its own
faults.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

from mismatch.data.columns import COLUMNS
from mismatch.data.readers.coco import coco_records
from mismatch.data.readers.json_records import (
    BOM,
    MAX_LINE,
    MAX_VALUES,
    JsonError,
    Record,
    array_records,
    checked_object,
    unique_keys,
)
from mismatch.data.readers.text_files import (
    file_problem,
    look_at_bytes,
    mark_remark,
    open_rows,
    wrong_byte,
)
from mismatch.data.rows import (
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
# kind of a file, as `kind_of` has it → what it is called, for people
CALLED = {"array": "it is a JSON array", "coco": "it holds captions in COCO's form"}
FORMS = {"jsonl": "one object a line", "array": "an object", "coco": "an annotation"}


def json_header(reading: Reading, kind: str) -> list[str]:
    """Return the columns as rows have them: the keys of the first hundred objects. `kind`: jsonl,
    array or coco.
    """
    reading.remarks.extend([CALLED[kind]] if kind in CALLED else [])
    reading.remarks.extend(mark_remark(reading.path, reading.columns.encoding))
    with open_rows(reading.path, reading.columns.encoding) as file:
        header = _keys(file, reading, kind)
    names = reading.names(header) or [] if header else []
    if header:
        reading.present(header, names)
    return names


def json_rows(reading: Reading, kind: str) -> Iterator[Row]:
    """Stream the objects; a key that an object lacks is an empty column."""
    with open_rows(reading.path, reading.columns.encoding) as file:
        header = _keys(file, reading, kind)
        names = reading.names(header) if header else None
        if names is None:
            return
        present = reading.present(header, names)
        renamed = {name: new for name, new in zip(header, names, strict=True) if name != new}
        for new in list(renamed.values()):
            # a key that only a later object has doesn't stand for the column that was asked for
            renamed.setdefault(new, f"input_{new}")
        file.seek(0)
        for record in _records(file, reading, kind):
            row = _row(record, renamed, present, reading)
            yield row if row.problem is None else row._replace(raw=_as_written(record.data))


def _records(file: IO[bytes], reading: Reading, kind: str) -> Iterator[Record]:
    """Yield the objects; behind a place that is not JSON there is nothing, which is a fault."""
    encoding = reading.columns.encoding
    read = {"array": array_records, "coco": coco_records}.get(kind, _lines)
    try:
        yield from read(file, encoding)
    except JsonError as error:
        reading.fault(error.number, str(error))


def _as_written(data: bytes) -> str:
    r"""Decode a line, without its end; a byte that is not UTF-8 becomes `\xff`."""
    return data.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _row(line: Record, renamed: dict[str, str], present: tuple[str, ...], reading: Reading) -> Row:
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
    problem = "; ".join(filter(None, (line.problem, _problem(values, reading))))
    return reading.row(line.number, columns, present, problem or None)


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


def _keys(file: IO[bytes], reading: Reading, kind: str) -> list[str]:
    """Return the keys in the order in which they come; a fault where there are none."""
    if problem := file_problem(reading.path, reading.columns.encoding):
        reading.fault(1, problem)
        return []
    header: dict[str, None] = {}
    damaged: list[Record] = []
    for record in islice(_records(file, reading, kind), HEADER_LINES):
        if record.record is not None:
            header |= dict.fromkeys(record.record)
        else:
            damaged.append(record)
    if any(_is_wrong(line.data) for line in damaged):
        wrong = look_at_bytes(reading.path, reading.columns.encoding)
        if wrong is not None and wrong.whole:
            reading.fault(wrong.line, wrong.message())
            return []
    if not header:
        line = (
            damaged[0]
            if damaged
            else Record(1, b"", None, "there is no object with keys in this file")
        )
        reading.fault(
            line.number,
            f"{line.damage}; {FORMS[kind]} with the keys"
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


def _lines(file: IO[bytes], encoding: str | None) -> Iterator[Record]:
    """Yield each line that isn't blank, with its number."""
    number = 0
    while data := file.readline(MAX_LINE):
        number += 1
        if number == 1:
            data = data.removeprefix(BOM)
        if len(data) == MAX_LINE and not data.endswith(b"\n"):
            while (more := file.readline(MAX_LINE)) and not more.endswith(b"\n"):
                pass
            yield Record(number, data, None, f"this line is longer than {MAX_LINE:,} bytes")
        elif data.strip():
            record, damage = parsed_object(data, encoding)
            yield Record(number, data, record, damage)


def parsed_object(data: bytes, encoding: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return the object of a line, or why there is none."""
    if len(data) > MAX_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return None, f"this line holds more than {MAX_VALUES:,} values"
    try:
        text = data.decode()
        return checked_object(json.loads(text, object_pairs_hook=unique_keys), text)
    except UnicodeDecodeError as error:
        return None, wrong_byte(error.object[error.start], encoding)
    except json.JSONDecodeError as error:
        return None, f"this line is not JSON: {error.msg} at column {error.colno}"
    except (RecursionError, ValueError) as error:
        return None, f"this line can't be read as JSON: {error}"
