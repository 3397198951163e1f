"""Objects of JSON: what is wrong with one, and those of a long array, streamed."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from mismatch.data.readers.text_files import ESCAPED, wrong_byte
from mismatch.data.rows import MAX_COLUMNS

__all__ = [
    "BOM",
    "MAX_LINE",
    "MAX_VALUES",
    "JsonError",
    "JsonText",
    "Record",
    "array_records",
    "checked_item",
    "checked_object",
    "unique_keys",
]

MAX_LINE = 2**26  # bytes, or characters; a file without line ends would else be read whole
# of an object, counted by the marks between them: an empty list takes two bytes there and 64 in
# memory
MAX_VALUES = 2**21
SHOWN = 60  # characters of a key that an error quotes
BOM = b"\xef\xbb\xbf"
BLOCK = 2**18  # bytes that are read at a time
LOOKED_AT = 2**16  # characters in which a value is first sought
# characters at the end of what has been read in which half a number, word or escape may stand
HALF = 16
BLANKS = " \t\r\n"


class Record(NamedTuple):
    """An object, or what stands in its place."""

    number: int  # of its line, or in its array; from 1
    data: bytes  # as it is written; of a line over `MAX_LINE` its beginning
    record: dict[str, Any] | None  # the object that it says
    damage: str  # why there is none
    problem: str = ""  # why the object can't be used


class JsonError(ValueError):
    """A file is no JSON behind a place."""

    number = 1  # of the object, in its array


class _Repeating(dict[str, Any]):
    """An object that has a key twice: one of the two values would be lost."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.name = next(name for name in names if names.count(name) > 1)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, for `json.loads`, that `checked_object` refuses if it has a key twice."""
    record = dict(pairs)
    return record if len(record) == len(pairs) else _Repeating(pairs)


def checked_object(record: Any, text: str) -> tuple[dict[str, Any] | None, str]:
    """Return an object as it may be used, or why it can't be; `text` says it as JSON."""
    if "\\u" in text:  # which may make what no file can hold: half a character, or a NUL
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return None, (
                "half of a character (\\ud800 to \\udfff) stands in this row; write both halves,"
                " or the character itself"
            )
        if "\\u0000" in json.dumps(record):
            return None, "a NUL character stands in this row; take it out"
    if not isinstance(record, dict):
        return None, f"an object {{…}} is needed, and this is {type(record).__name__}"
    if isinstance(record, _Repeating):
        return None, f"the key {record.name[:SHOWN]!r} stands twice in this row; take one out"
    if len(record) > MAX_COLUMNS:
        return None, f"this object has {len(record):,} keys; at most {MAX_COLUMNS:,} are read"
    return record, ""


def checked_item(value: Any, text: str, encoding: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return what `checked_object` does of a value that `JsonText` has read."""
    wrong = None if text.isascii() else ESCAPED.search(text)
    if wrong is not None:
        return None, wrong_byte(ord(wrong[0]) - 0xDC00, encoding)
    try:
        return checked_object(value, text)
    except RecursionError:
        return None, "this row can't be read as JSON: it is nested too deeply"


def array_records(file: IO[bytes], encoding: str | None) -> Iterator[Record]:
    """Yield the objects of a file that is one array, numbered from 1; JsonError, with the number of
    the object, where it is none.
    """
    text = JsonText(file)
    number = 0
    try:
        for number, (value, written) in enumerate(text.items(), start=1):
            record, damage = checked_item(value, written, encoding)
            yield Record(number, written.encode("utf-8", "surrogateescape"), record, damage)
        text.end()
    except JsonError as error:
        error.number = number + 1
        raise


class JsonText:
    """One value of JSON, whose arrays and objects are read an item at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read a file of UTF-8 from where it stands; a wrong byte becomes half of a character."""
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._json = json.JSONDecoder(object_pairs_hook=unique_keys)
        self._text = ""
        self._position = 0
        self._ended = False
        if self.peek() == "\ufeff":
            self._position += 1

    def peek(self) -> str:
        """Return the next character that is no blank; nothing at the end."""
        while True:
            while self._position < len(self._text):
                sign = self._text[self._position]
                if sign not in BLANKS:
                    return sign
                self._position += 1
            if not self._read(1):
                return ""

    def take(self, sign: str) -> None:
        """Pass over a character; JsonError where another one stands."""
        following = self.peek()
        if following != sign:
            shown = repr(following) if following else "the end"
            raise JsonError(f"this is not JSON: {sign!r} is needed, and {shown} is there")
        self._position += 1

    def items(self) -> Iterator[tuple[Any, str]]:
        """Yield each value of the array that begins here, and how it is written."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.peek() != ",":
                break
            self.take(",")
        self.take("]")

    def members(self) -> Iterator[str]:
        """Yield each key of the object that begins here; the caller then reads its value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                self.take('"')
            yield self.value()[0]
            if self.peek() != ",":
                break
            self.take(",")
        self.take("}")

    def begin_value(self) -> str:
        """Pass over the colon behind a key, and return what its value begins with."""
        self.take(":")
        return self.peek()

    def skip(self) -> None:
        """Pass over a value; of an array, item by item."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def end(self) -> None:
        """JsonError where anything follows."""
        if self.peek():
            raise JsonError("this is not JSON: something follows behind its end")

    def value(self) -> tuple[Any, str]:
        """Return the next value, and how it is written."""
        self.peek()
        size = LOOKED_AT
        while True:
            has_more = self._read(size)
            self._check_size(size)
            try:
                value, end = self._json.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not has_more or not self._is_cut(error):
                    raise JsonError(f"this is not JSON: {error.msg}") from error
            except (RecursionError, ValueError) as error:
                raise JsonError(f"this can't be read as JSON: {error}") from error
            else:
                if end < len(self._text) or not has_more:
                    written = self._text[self._position : end]
                    self._position = end
                    return value, written
            size *= 2

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value may go on behind what has been read."""
        is_open = error.msg.startswith("Unterminated string")
        return is_open or error.pos >= len(self._text) - HALF

    def _check_size(self, size: int) -> None:
        """Refuse a value that has not ended within half of so many characters, and is too much."""
        if size > 2 * MAX_LINE:
            raise JsonError(f"a value is longer than {MAX_LINE:,} characters")
        if size > MAX_VALUES:
            marks = sum(self._text.count(mark, self._position) for mark in ",[{")
            if marks > MAX_VALUES:
                raise JsonError(f"a value holds more than {MAX_VALUES:,} values")

    def _read(self, size: int) -> bool:
        """Have so many characters ready, if there are; return whether more may follow."""
        if len(self._text) - self._position < size and not self._ended:
            parts = [self._text[self._position :]]
            count = len(parts[0])
            while count < size and not self._ended:
                data = self._file.read(BLOCK)
                self._ended = not data
                parts.append(self._decoder.decode(data, final=self._ended))
                count += len(parts[-1])
            self._text = "".join(parts)
            self._position = 0
        return not self._ended
