"""Forms with one file, as browsers and curl send them: the first thing that is wrong ends it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from mismatch.serving.bodies import SHOWN

__all__ = ["Form", "parse_form"]

LONGEST_TYPE = 1000  # characters of a Content-Type
LONGEST_HEAD = 8192  # bytes of a part's head
MAX_BOUNDARIES = 64  # a form has up to five
MAX_PART_HEADERS = 16  # lines of a part's head
UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")
# encodings whose ASCII bytes are ASCII letters; clients name them without a need, as Java's do
LIKE_ASCII = re.compile(r"iso-8859-\d{1,2}|iso_8859-1|latin-?1|windows-125\d|cp125\d")
AS_IT_IS = (b"", b"7bit", b"8bit", b"binary")  # transfer encodings
BOUNDARY = re.compile(rb"[\x20-\x7e]{0,255}[\x21-\x7e]")
NEEDED = "a form of image, a file, and text is needed"


@dataclass(frozen=True)
class Form:
    """A form's file and fields."""

    file: bytes
    fields: dict[str, str]


@dataclass
class _Part:
    """The part of a form that is being read."""

    head_size: int = 0  # bytes
    header: bytes = b""  # its name
    value: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


def parse_form(body: bytes, content_type: str, names: Collection[str], largest: int) -> Form:
    """Parse a form of these fields, of which `image` is a file; HTTPException for another one.

    `largest`: bytes of a field that is no file.
    """
    parts = _Parts(names, largest)
    boundary = _boundary(content_type)
    # what begins as a boundary and goes on otherwise costs the parser 2 µs each time
    if body.count(b"--" + boundary) > MAX_BOUNDARIES:
        raise HTTPException(400, f"the form has its boundary more than {MAX_BOUNDARIES} times")
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise HTTPException(400, "the form is malformed; send multipart/form-data whole") from None
    return parts.form()


def _boundary(content_type: str) -> bytes:
    """Return a form's boundary; HTTPException where it has none, or another encoding than UTF-8."""
    if len(content_type) > LONGEST_TYPE:
        raise HTTPException(400, "the content type is too long")
    _, options = parse_options_header(content_type)
    if not _is_utf8(options):
        raise HTTPException(415, "the form is not in UTF-8; send it in that encoding")
    boundary = options.get(b"boundary", b"")
    if not BOUNDARY.fullmatch(boundary):
        raise HTTPException(400, "the form has no boundary of 1 to 256 characters")
    return boundary


def _is_utf8(options: dict[bytes, bytes]) -> bool:
    return options.get(b"charset", b"utf-8").decode("latin-1").lower() in UTF8


def _is_like_ascii(options: dict[bytes, bytes]) -> bool:
    charset = options.get(b"charset", b"").decode("latin-1").lower()
    return LIKE_ASCII.fullmatch(charset) is not None


class _Parts:
    """The parts of one form, as the parser reports them."""

    def __init__(self, names: Collection[str], largest: int) -> None:
        self._names = names
        self._largest = largest
        self._part = _Part()
        self._file: bytes | None = None
        self._fields: dict[str, str] = {}
        self._is_whole = False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def form(self) -> Form:
        """Return what was found; HTTPException where something is missing."""
        if not self._is_whole:
            raise HTTPException(400, "the form ends before its last boundary; send it whole")
        if self._file is None or "text" not in self._fields:
            raise HTTPException(422, NEEDED)
        return Form(self._file, self._fields)

    def _begin(self) -> None:
        self._part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._grow_head(end - start)
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow_head(end - start)
        self._part.value += data[start:end]

    def _header_end(self) -> None:
        part = self._part
        name = part.header.lower()
        if name in part.headers:
            raise HTTPException(400, "a part of the form has a header twice")
        part.headers[name] = part.value
        part.header = b""
        part.value = b""
        if len(part.headers) > MAX_PART_HEADERS:
            raise HTTPException(400, f"a part of the form has more than {MAX_PART_HEADERS} headers")

    def _grow_head(self, size: int) -> None:
        self._part.head_size += size
        if self._part.head_size > LONGEST_HEAD:
            raise HTTPException(400, f"a part's head has more than {LONGEST_HEAD:,} bytes")

    def _headers_end(self) -> None:
        part = self._part
        kind, options = _options(part, b"content-disposition")
        if kind != b"form-data" or b"name" not in options:
            raise HTTPException(400, "a part of the form has no name")
        part.name = _text(options[b"name"], "a name of a field")
        part.is_file = b"filename" in options
        if part.is_file and self._file is not None:
            raise HTTPException(422, "Too many files are in the form; one image is needed")
        if part.name not in self._names:
            shown = part.name[:SHOWN]
            raise HTTPException(422, f"the form has a field {shown!r}, which is unknown")
        if part.name in self._fields:
            raise HTTPException(422, f"the form's field {part.name!r} is there twice")
        if part.is_file != (part.name == "image"):
            raise HTTPException(422, NEEDED)
        encoding = part.headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding not in AS_IT_IS:
            words = f"the form's field {part.name!r} has a Content-Transfer-Encoding"
            raise HTTPException(415, f"{words}; send it as it is")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        part.data += memoryview(data)[start:end]
        if not part.is_file and len(part.data) > self._largest:
            words = f"the form's field {part.name!r} exceeded maximum size"
            raise HTTPException(400, f"{words}, {self._largest:,} bytes; shorten it")

    def _part_end(self) -> None:
        part = self._part
        if part.is_file:
            self._file = bytes(part.data)
            return
        _, options = _options(part, b"content-type")
        if not (_is_utf8(options) or (part.data.isascii() and _is_like_ascii(options))):
            words = f"the form's field {part.name!r} is not in UTF-8"
            raise HTTPException(415, f"{words}; send it in that encoding")
        self._fields[part.name] = _text(bytes(part.data), f"the form's field {part.name!r}")

    def _end(self) -> None:
        self._is_whole = True


def _options(part: _Part, header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    return parse_options_header(part.headers.get(header, b"").decode("latin-1"))


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(422, f"{what} is not UTF-8; send it in that encoding") from None
