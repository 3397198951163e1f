"""What the pages of a Parquet file hold once they are unpacked, read from their heads before a page
is: 900 MB of one letter take 30 kB in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, NamedTuple

__all__ = [
    "Chunk",
    "CompactReader",
    "Leaf",
    "PageError",
    "PageHead",
    "page_heads",
    "placed_pages",
    "rows_at_a_time",
]

FIRST_READ = 2**8  # bytes; most heads have fewer than a hundred
MAX_HEAD = 2**24  # bytes, as pyarrow has it
MAX_PAGE = 2**28  # bytes, unpacked; writers aim at 1 to 100 MB
MAX_DICTIONARY = 2**27  # bytes, unpacked; writers stop at 1 or 2 MB, or behind a thousand values
MAX_PAGE_VALUES = 2**24
# values of a column of lists, from which on the file must have a byte for eight of them
MAX_LISTED = 2**22
# bytes that the rows of a batch may take, before the two pages in which they begin and end
HELD = 2**26
MAX_DEPTH = 32  # structs in structs, of which a head has two
DICTIONARY_PAGE = 2  # type of a page
# fields of a head, one of which says more of its kind of page
DICTIONARY = 7
DATA = 5
DATA_2 = 8
DELTA_STRINGS = 7  # encoding: each value as what it shares with the one before it, and the rest
# types of Thrift's compact protocol
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


class PageError(ValueError):
    """A page is damaged, or over a bound; the message is a clause."""


class PageHead(NamedTuple):
    """A page, as its head has it."""

    is_dictionary: bool
    unpacked: int  # bytes
    packed: int  # bytes
    values: int
    encoding: int


class Leaf(NamedTuple):
    """A column of plain values, as Parquet stores all others in such."""

    number: int  # from 0
    is_list: bool
    # whether each value is a string of its own, even where the file has it as an index into a
    # dictionary
    is_expanded: bool


class Chunk(NamedTuple):
    """A column's piece of a row group."""

    start: int  # byte of the file
    size: int  # bytes, packed
    is_packed: bool
    encodings: frozenset[int]  # as Parquet numbers them


def rows_at_a_time(
    file: IO[bytes], group: list[Chunk], leaves: list[Leaf], *, max_rows: int
) -> int:
    """Return how many rows of a row group, at most `max_rows`, can be read together. PageError for
    a page that would take too much.

    `group`: its columns' pieces; `leaves`: those that are read.
    """
    largest = max((_largest(file, group[leaf.number], leaf) for leaf in leaves), default=1.0)
    return int(max(1, min(max_rows, HELD // largest)))


def _largest(file: IO[bytes], chunk: Chunk, leaf: Leaf) -> float:
    """Return the bytes of a value, on average of the page where that is most; at least 1."""
    largest = 1.0
    dictionary = 0
    values = 0
    for head in page_heads(file, chunk.start, chunk.size):
        size = head.unpacked if chunk.is_packed else head.packed
        _check(head, size)
        if head.is_dictionary:
            dictionary = max(dictionary, size)
            continue
        values += head.values
        # bytes of a value that takes next to nothing in the page
        longest = dictionary if leaf.is_expanded else 0
        if head.encoding == DELTA_STRINGS:
            longest = max(longest, size)
        if leaf.is_list and longest * head.values > MAX_PAGE:
            raise PageError(
                f"a page's lists may unpack to {longest * head.values:,} bytes; at most"
                f" {MAX_PAGE:,} are read"
            )
        largest = max(largest, longest, size / max(1, head.values))
    if leaf.is_list and values > max(MAX_LISTED, 8 * chunk.size):
        raise PageError(f"{values:,} values of lists stand in {chunk.size:,} bytes")
    return largest


def _check(head: PageHead, size: int) -> None:
    limit = MAX_DICTIONARY if head.is_dictionary else MAX_PAGE
    if size > limit:
        raise PageError(f"a page unpacks to {size:,} bytes; at most {limit:,} are read")
    if head.values > MAX_PAGE_VALUES:
        raise PageError(
            f"a page holds {head.values:,} values; at most {MAX_PAGE_VALUES:,} are read"
        )


def page_heads(file: IO[bytes], start: int, size: int) -> Iterator[PageHead]:
    """Yield the heads of the pages in file[start : start + size], in order; PageError for one that
    can't be read.
    """
    for _, _, head in placed_pages(file, start, size):
        yield head


def placed_pages(file: IO[bytes], start: int, size: int) -> Iterator[tuple[int, int, PageHead]]:
    """Yield what `page_heads` does, each with the byte where it begins and the bytes of the head
    and its page.
    """
    end = start + size
    while start < end:
        head, length = _head_at(file, start, end)
        yield start, length + head.packed, head
        start += length + head.packed


def _head_at(file: IO[bytes], start: int, end: int) -> tuple[PageHead, int]:
    """Return a head, and how many bytes it has itself."""
    size = FIRST_READ
    while True:
        file.seek(start)
        data = file.read(min(size, end - start))
        reader = CompactReader(data)
        try:
            fields = reader.struct()
            return _head(fields), reader.position
        except IndexError:
            if size >= MAX_HEAD or start + size >= end:
                raise PageError("the head of a page is damaged") from None
            size *= 4


def _head(fields: dict[int, Any]) -> PageHead:
    unpacked = fields.get(2)
    packed = fields.get(3)
    kinds = [
        number for number in (DICTIONARY, DATA, DATA_2) if isinstance(fields.get(number), dict)
    ]
    details = fields[kinds[0]] if kinds else {}
    counts = (unpacked, packed, details.get(1, 0))
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise PageError("the head of a page is damaged")
    is_dictionary = fields.get(1) == DICTIONARY_PAGE
    encoding = details.get(4 if DATA_2 in kinds else 2, 0)
    return PageHead(is_dictionary, *counts, encoding)  # type: ignore[arg-type]


class CompactReader:
    """A reader of Thrift's compact protocol that takes numbers as Thrift does: of a longer one the
    lower 32 bits. IndexError behind the end of the data.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Map numbers of fields → values; i32 are int, structs dict, all others None. Of a field
        that stands twice the last.
        """
        if depth > MAX_DEPTH:
            raise PageError("the head of a page is damaged")
        fields: dict[int, Any] = {}
        number = 0
        while kind_byte := self._byte():
            kind = kind_byte & 15
            step = kind_byte >> 4
            number = number + step if step else self.zigzag()
            fields[number] = self.value(kind, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        """Return what a field of this type holds, where `struct` keeps it; else None."""
        if kind == I32:
            return self.zigzag()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in (I16, I64):
            self._varint()
        elif kind == BINARY:
            self._skip(self._varint())
        elif kind in (BYTE, DOUBLE):
            self._skip(1 if kind == BYTE else 8)
        elif kind in (LIST, SET, MAP):
            self.items(kind, depth)
        elif kind not in (TRUE, FALSE):
            raise PageError("the head of a page is damaged")
        return None

    def items(self, kind: int, depth: int) -> list[Any]:
        """Return what a list, a set or a map holds, in order."""
        if depth > MAX_DEPTH:
            raise PageError("the head of a page is damaged")
        if kind == MAP:
            count = self._varint()
            types = self._byte() if count else 0
            kinds = [types >> 4, types & 15]
        else:
            types = self._byte()
            count = types >> 4
            count = self._varint() if count == 15 else count
            kinds = [types & 15]
        items = []
        for _ in range(count):
            for item in kinds:
                if item in (TRUE, FALSE):  # a byte each, other than in a struct
                    self._skip(1)
                else:
                    items.append(self.value(item, depth + 1))
        return items

    def _byte(self) -> int:
        value = self.data[self.position]
        self.position += 1
        return value

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self.data):
            raise IndexError

    def _varint(self, *, bits: int = 32) -> int:
        """Read an unsigned number."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value & ((1 << bits) - 1)
        raise PageError("the head of a page is damaged")

    def zigzag(self, *, bits: int = 32) -> int:
        """Read a signed number."""
        value = self._varint(bits=bits)
        return (value >> 1) ^ -(value & 1)
