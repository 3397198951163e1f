"""Files of text that rows are read from: opened in their encoding, and named for what they are
where they hold no text.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mismatch.data.encoding import Utf8Bytes, guess_encoding, is_utf8
from mismatch.errors import InputError, MachineError
from mismatch.io.remote import Remote, open_located
from mismatch.io.retries import is_transient, reason
from mismatch.io.text import printable

__all__ = [
    "ESCAPED",
    "LINE_ENDS",
    "MAX_RECORD",
    "NEEDED",
    "START",
    "NotUtf8",
    "content_problem",
    "decoded",
    "encoding_problem",
    "file_problem",
    "look_at_bytes",
    "mark_remark",
    "marked_encoding",
    "open_rows",
    "open_text",
    "wrong_byte",
]

MAX_RECORD = 2**26  # characters; a file without line ends would else be read whole
ESCAPED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of a byte that is not UTF-8
LINE_ENDS = ("\n", "\r")
NEEDED = (
    "a CSV, TSV, JSON, Parquet, Arrow or webdataset file, a folder of images with metadata.csv, or"
    " a folder that save_to_disk of Hugging Face datasets wrote, is needed"
)
START = 512  # bytes by which a file is known
HEADER = 64  # bytes in which a header has no NUL
MARK = 4  # bytes at the beginning that may tell the encoding
SAMPLE = 2**15  # bytes of lines by which an encoding is guessed
# how many more lines must be UTF-8, beyond ASCII, than are not, for a file to be called that
MANY = 1_000
PLAIN = 10  # bytes beyond ASCII that are not UTF-8 by chance in any other encoding
SHOWN = 24  # characters that an error quotes
PACKED = {
    "gzip": ((b"\x1f\x8b",), "gunzip"),
    "bzip2": (tuple(b"BZh%d1AY" % level for level in range(1, 10)), "bunzip2"),
    "xz": ((b"\xfd7zXZ\0",), "unxz"),
    "zstd": ((b"\x28\xb5\x2f\xfd",), "unzstd"),
}
BINARY = {  # first bytes → what a file is, and what to do
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls); save its sheet as CSV in UTF-8",
    b"PAR1": "a Parquet file; name it .parquet",
    b"ARROW1": "an Arrow or Feather file; name it .arrow, or write it as Parquet",
    b"SQLite format 3": "an SQLite database; export its table as CSV",
    b"%PDF": "a PDF document; save its table as CSV in UTF-8",
    b"\x89PNG": "a PNG image; name a file of rows",
    b"\xff\xd8\xff": "a JPEG image; name a file of rows",
}
WORKBOOK = re.compile(rb"\[Content_Types\]|_rels/|xl/|opendocument\.spreadsheet")


def open_text(path: str | Path | Remote, errors: str, encoding: str | None = None) -> TextIO:
    """Open a file of text, line ends kept; InputError where there is none.

    `errors`: what is done with bytes that are not in the encoding; `encoding`: UTF-8.
    """
    return decoded(open_rows(path, "utf-8"), encoding, path, errors)


def open_rows(path: str | Path | Remote, encoding: str | None = None) -> io.BufferedReader:
    """Open a file or an object of rows, as the bytes of UTF-8; InputError where there is none."""
    try:
        # a pipe would be empty when it is opened again
        if not isinstance(path, Remote) and Path(path).exists() and not Path(path).is_file():
            raise InputError(f"{path} is a folder, a pipe or a device; {NEEDED}")
        file = open_located(path)
    except OSError as error:
        if is_transient(error):
            raise MachineError(f"{path} can't be read: {reason(error)}") from error
        raise InputError(f"{path}: {error.strerror}") from error
    return _converted(file, encoding, path)


def decoded(
    file: io.BufferedReader, encoding: str | None, name: object, errors: str = "strict"
) -> TextIO:
    """Return an open file of bytes as one of text, line ends kept; `name`: what errors call it."""
    data = _converted(file, encoding, name)
    return io.TextIOWrapper(data, encoding="utf-8-sig", errors=errors, newline="")


def _converted(file: io.BufferedReader, encoding: str | None, name: object) -> io.BufferedReader:
    if encoding is None:
        try:
            encoding = marked_encoding(file.peek(MARK)[:MARK])
        except OSError:
            file.close()
            raise
    if encoding is None or is_utf8(encoding):
        return file
    return io.BufferedReader(Utf8Bytes(file, encoding, name))


def file_problem(path: str | Path | Remote, encoding: str | None = None) -> str | None:
    """Return why a file is none of text, or not in its encoding, as its beginning says."""
    with open_rows(path, "utf-8") as file:
        start = file.read(START if is_utf8(encoding) else SAMPLE)
    if problem := content_problem(start):
        return f"this is not plain text but {problem}"
    if not is_utf8(encoding):
        is_plainly_utf8 = sum(byte > 0x7F for byte in start) >= PLAIN and _decodes(start)
        what = f"this file is UTF-8, and not {encoding}; leave `encoding` out"
        return what if is_plainly_utf8 else None
    if encoding is None and marked_encoding(start):
        return None
    if wide := _wide_encoding(start):
        return (
            "this is not plain text (UTF-16?); save it as UTF-8, or pass"
            f" `encoding={wide!r}`, which it looks like"
        )
    if _has_nul(start):
        return "this is not plain text (UTF-16? a spreadsheet?); save it as CSV in UTF-8"
    return None


def _decodes(start: bytes) -> bool:
    """Return whether the beginning of a file is UTF-8; a character may be cut at its end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def content_problem(start: bytes) -> str | None:
    """Return what a file is that begins so, and what to do; None where it may be text."""
    for name, (marks, program) in PACKED.items():
        if start.startswith(marks):
            return f"a file that {name} compressed; unpack it, as {program} does"
    if start.startswith(b"PK\x03\x04"):
        if WORKBOOK.search(start):
            return "a workbook of Excel or another office; save its sheet as CSV in UTF-8"
        return "a zip archive, or a workbook; unpack it, or save its sheet as CSV in UTF-8"
    if start[257:262] == b"ustar":
        return "a tar archive; name it .tar if it holds samples of webdataset, else unpack it"
    return next((what for mark, what in BINARY.items() if start.startswith(mark)), None)


def marked_encoding(start: bytes) -> str | None:
    """Return UTF-16 or UTF-32 by the mark at the beginning of a file; None without one."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else None


def mark_remark(path: str | Path | Remote, encoding: str | None) -> list[str]:
    """Return what to say of a file whose first bytes tell its encoding, where none is named."""
    if encoding is not None:
        return []
    with open_rows(path, "utf-8") as file:
        marked = marked_encoding(file.read(MARK))
    return [] if marked is None else [f"it is {marked.upper()}, as its first bytes say"]


def _wide_encoding(start: bytes) -> str | None:
    """Return UTF-16 or UTF-32 by a mark at the beginning, or by NULs in every other byte."""
    if marked := marked_encoding(start):
        return marked
    header = start[:HEADER]
    even = header[::2].count(0)
    odd = header[1::2].count(0)
    if not even and odd > 1:
        return "utf-16-le"
    return "utf-16-be" if even > 1 and not odd else None


def _has_nul(start: bytes) -> bool:
    """Return whether a header holds NUL bytes, as the beginning of nearly any spreadsheet, archive
    or image does.
    """
    return b"\0" in start[:HEADER].partition(b"\n")[0]


@dataclass(frozen=True)
class NotUtf8:
    """What is known of a file with bytes that are not in its encoding."""

    line: int  # the first such, from 1
    byte: int  # there
    encoding: str | None  # that was asked for; None: UTF-8
    whole: bool  # whether the file is in another encoding, and not some lines damaged
    guess: str | None = None  # encoding that the lines are probably in
    quote: str = ""  # what the line says in that

    def message(self) -> str:
        """Return what is wrong, and what to do."""
        return self.message_of(self.byte)

    def message_of(self, byte: int) -> str:
        """Return the same of another line, with its first wrong byte."""
        if self.guess is None:
            return wrong_byte(byte, self.encoding)
        return (
            f"byte {byte:#04x} is not UTF-8; save the file as UTF-8, or pass"
            f" `encoding={self.guess!r}`, in which it says {self.quote!r}"
        )


def wrong_byte(byte: int, encoding: str | None) -> str:
    """Return what to say of a line with bytes that are not in its encoding."""
    if is_utf8(encoding):
        return f"byte {byte:#04x} is not UTF-8; save the file as UTF-8, or pass its `encoding`"
    return (
        f"this line has bytes that say nothing in {encoding}; pass another `encoding`, or save"
        " the file as UTF-8"
    )


def look_at_bytes(path: str | Path | Remote, encoding: str | None = None) -> NotUtf8 | None:
    """Return what is known of the lines that are not in the file's encoding; None where all are."""
    first: tuple[int, int] | None = None  # the first bad line, and its byte
    lead = 0  # bad lines less good ones, of those beyond ASCII
    sample = b""
    for number, line in _lines_beyond_ascii(path, encoding):
        wrong = ESCAPED.search(line)
        lead += 1 if wrong else -1
        if wrong and first is None:
            first = (number, ord(wrong[0]) - 0xDC00)
        if wrong and len(sample) < SAMPLE:
            sample += line.encode("utf-8", "surrogateescape")[:SAMPLE]
        if first and (abs(lead) > MANY or not is_utf8(encoding)):
            break
    if first is None:
        return None
    if not is_utf8(encoding):
        return NotUtf8(*first, encoding, whole=False)
    guess = guess_encoding(sample)
    quote = "" if guess is None else _quote(sample.decode(guess, "replace"))
    # a single line may just be damaged
    return NotUtf8(*first, encoding, lead > 1 and guess is not None, guess, quote)


def encoding_problem(path: str | Path | Remote, encoding: str | None) -> tuple[int, str]:
    """Return where and why a file is not in its encoding."""
    if problem := file_problem(path, encoding):
        return 1, problem
    wrong = look_at_bytes(path, encoding)
    return (1, "it is not UTF-8") if wrong is None else (wrong.line, wrong.message())


def _lines_beyond_ascii(
    path: str | Path | Remote, encoding: str | None
) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not plain ASCII, with their numbers."""
    with open_text(path, "surrogateescape", encoding) as file:
        number = 1
        while line := file.readline(MAX_RECORD):
            if not line.isascii():
                yield number, line
            number += line.endswith(LINE_ENDS)


def _quote(text: str) -> str:
    """Return the first value of a text that is not plain ASCII, or as much of it as is shown."""
    value = re.search(r"[^,;\t\"\r\n]*[^\x00-\x7f][^,;\t\"\r\n]*", text)
    words = "" if value is None else printable(value[0].strip())
    return words if len(words) <= SHOWN else words[:SHOWN] + "…"
