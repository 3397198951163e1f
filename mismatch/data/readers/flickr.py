"""Captions in the form of Flickr8k and Flickr30k as rows: a line has a file's name, # and the
caption's number, a tab, and the caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mismatch.data.readers.text_files import (
    ESCAPED,
    LINE_ENDS,
    encoding_problem,
    file_problem,
    look_at_bytes,
    mark_remark,
    open_text,
)
from mismatch.data.rows import MAX_FIELD, Reading, Row

__all__ = ["flickr_header", "flickr_rows", "is_flickr"]

HEADER = ["image_path", "text", "caption_number"]
CAPTION = re.compile(r"([^\t\r\n]+)#(\d{1,9})\t(.*)")
CALLED = "it holds captions in Flickr's form"
BROKEN = "this line is not NAME#NUMBER, a tab and a caption"


def is_flickr(line: str) -> bool:
    """Return whether a line is a caption."""
    return CAPTION.fullmatch(line.rstrip("\r\n")) is not None


def flickr_header(reading: Reading) -> list[str]:
    """Return the columns as rows have them."""
    if problem := file_problem(reading.path, reading.columns.encoding):
        reading.fault(1, problem)
        return []
    reading.remarks.append(CALLED)
    reading.remarks.extend(mark_remark(reading.path, reading.columns.encoding))
    names = reading.names(HEADER) or []
    reading.present(HEADER, names)
    return names


def flickr_rows(reading: Reading) -> Iterator[Row]:
    """Stream the captions; blank lines are skipped."""
    encoding = reading.columns.encoding
    names = reading.names(HEADER)
    if names is None:
        return
    present = reading.present(HEADER, names)
    wrong = look_at_bytes(reading.path, encoding)
    if wrong is not None and (wrong.whole or reading.strict):
        reading.fault(*encoding_problem(reading.path, encoding))
        return
    with open_text(reading.path, "surrogateescape", encoding) as file:
        number = 0
        while line := file.readline(MAX_FIELD):
            number += 1
            if len(line) == MAX_FIELD and not line.endswith(LINE_ENDS):
                reading.fault(number, f"this line is longer than {MAX_FIELD:,} characters")
                return
            if not line.strip():
                continue
            damaged = None if wrong is None else ESCAPED.search(line)
            problem = ""
            if damaged is not None and wrong is not None:
                problem = wrong.message_of(ord(damaged[0]) - 0xDC00)
            yield _row(number, line.rstrip("\r\n"), problem, names, present, reading)


def _row(
    number: int,
    line: str,
    problem: str,
    names: list[str],
    present: tuple[str, ...],
    reading: Reading,
) -> Row:
    caption = CAPTION.fullmatch(line)
    if caption is None:
        problem = problem or BROKEN
    elif "\0" in line:
        problem = "a NUL character stands in this row; take it out"
    if problem or caption is None:
        raw = line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return Row(number, "", "", None, {}, problem, intact=False, raw=raw)
    name, place, text = caption.groups()
    columns = dict(zip(names, (name, text, place), strict=True))
    row = reading.row(number, columns, present)
    return row if row.problem is None else row._replace(raw=line)
