"""Images in a column of a Parquet file, read a page at a time: each is had in any order, and no row
group of pictures is ever in memory.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mismatch.data.embedded.columns import ImageColumn, image_columns
from mismatch.data.embedded.damage import explained_damage
from mismatch.data.embedded.page_file import CODECS, MARK, PagePlan, footer_of
from mismatch.data.embedded.shared_file import SharedFile
from mismatch.data.readers.parquet_footer import read_chunks
from mismatch.data.readers.parquet_pages import (
    DELTA_STRINGS,
    MAX_DICTIONARY,
    MAX_PAGE_VALUES,
    Chunk,
    PageError,
    PageHead,
    placed_pages,
)

__all__ = ["ParquetImages"]

KEPT = 2**24  # bytes of unpacked pages that are remembered, in each process
MAX_PAGE = 2**29  # bytes, unpacked; pyarrow puts a thousand images on a page
MAX_PAGES = 2**20  # of a column's piece of a row group
MAX_GROUPS = 1_024  # whose pages are remembered
INDICES = {2, 8}  # encodings: each value by its place in the dictionary
SMALLER = "write the file again with row groups of a hundred rows, as `datasets` does"


class _Page(NamedTuple):
    """A page of images."""

    start: int  # byte of the file
    size: int  # bytes there, its head included
    unpacked: int  # bytes
    rows: int
    is_indexed: bool = False  # whether it needs the dictionary


@dataclass
class _Group:
    """A column's piece of a row group."""

    plan: PagePlan
    dictionary: _Page | None
    pages: list[_Page]
    starts: list[int]  # row of the group, of each page


class ParquetImages:
    """The images of one file. Thread-safe."""

    def __init__(self, path: str | Path, arrow: Any, parquet: Any) -> None:
        """Read the footer; InputError for one that is damaged."""
        self.path = path
        self._arrow = arrow
        self._parquet = parquet
        self._file = SharedFile(path)
        self._lock = threading.Lock()
        self._groups: dict[tuple[int, ImageColumn], _Group] = {}
        self._kept: OrderedDict[tuple[int, int, ImageColumn], Any] = OrderedDict()
        self._kept_bytes = 0
        self._scratch = bytearray()
        with self._reading():
            with parquet.ParquetFile(path) as opened:
                self._metadata = opened.metadata
                self._schema = opened.schema
                self.columns = image_columns(arrow, opened.schema_arrow)
            metadata = self._metadata
            with open(path, "rb", buffering=0) as file:
                self._chunks = read_chunks(
                    file, groups=metadata.num_row_groups, columns=metadata.num_columns
                )
        self._starts = [0]  # row of the file, of each row group; and behind the last
        for group in range(self._metadata.num_row_groups):
            self._starts.append(self._starts[-1] + self._metadata.row_group(group).num_rows)
        self.count = self._starts[-1]

    def value(self, column: ImageColumn, row: int) -> bytes | None:
        """Return the bytes of an image; None where the row has none. InputError for damage."""
        group = bisect.bisect_right(self._starts, row) - 1
        with self._reading():
            with self._lock:
                values, first = self._page(group, column, row - self._starts[group])
            value = values[row - self._starts[group] - first]
            return value.as_py() if value.is_valid else None

    def embedded(self, column: ImageColumn, group: int) -> list[bool] | None:
        """Return which rows of a row group hold an image themselves; None where all do."""
        nulls = self._null_count(column, group)
        rows = self._metadata.row_group(group).num_rows
        if nulls == 0:
            return None
        if nulls == rows:
            return [False] * rows
        there: list[bool] = []
        with self._reading(), self._lock:
            while len(there) < rows:
                values, _ = self._page(group, column, len(there))
                there += values.is_valid().to_pylist()
        return there

    def _null_count(self, column: ImageColumn, group: int) -> int | None:
        described = self._metadata.row_group(group).column(self._leaf(column))
        statistics = described.statistics
        if statistics is None or not statistics.has_null_count:
            return None
        return int(statistics.null_count)

    def _leaf(self, column: ImageColumn) -> int:
        for number in range(len(self._schema)):
            described = self._schema.column(number)
            if described.path == column.leaf and described.max_repetition_level == 0:
                return number
        raise PageError(f"column {column.name!r} holds several images a row")

    def _page(self, group: int, column: ImageColumn, row: int) -> tuple[Any, int]:
        """Return the images of the page that a row of a group is on, and the page's first row."""
        if (group, column) not in self._groups:
            if len(self._groups) >= MAX_GROUPS:
                self._groups.clear()
            self._groups[group, column] = self._group(group, column)
        layout = self._groups[group, column]
        number = bisect.bisect_right(layout.starts, row) - 1
        key = (group, number, column)
        values = self._kept.get(key)
        if values is None:
            values = self._decoded(layout, layout.pages[number])
            self._kept[key] = values
            self._kept_bytes += values.nbytes
            while self._kept_bytes > KEPT and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.nbytes
        else:
            self._kept.move_to_end(key)
        return values, layout.starts[number]

    def _group(self, group: int, column: ImageColumn) -> _Group:
        """Find the pages of a column's piece; PageError for one that would take too much."""
        leaf = self._leaf(column)
        chunk: Chunk = self._chunks[group][leaf]
        codec = self._metadata.row_group(group).column(leaf).compression
        if codec not in CODECS:
            raise PageError(f"its images are packed by {codec}; write the file again with zstd")
        if DELTA_STRINGS in chunk.encodings:
            raise PageError("its images are stored by what they share; write the file again")
        depth = self._schema.column(leaf).max_definition_level
        plan = PagePlan(CODECS[codec], tuple(sorted(chunk.encodings)), depth)
        layout = _Group(plan, None, [], [])
        rows = 0
        with open(self.path, "rb", buffering=0) as file:
            for start, size, head in placed_pages(file, chunk.start, chunk.size):
                if len(layout.pages) >= MAX_PAGES:
                    raise PageError(f"a row group has more than {MAX_PAGES:,} pages of images")
                page = _checked_page(start, size, head)
                if head.is_dictionary:
                    layout.dictionary = page
                elif head.values:
                    layout.pages.append(page)
                    layout.starts.append(rows)
                    rows += head.values
        if rows != self._metadata.row_group(group).num_rows:
            raise PageError("its pages have other rows than its footer says")
        return layout

    def _decoded(self, layout: _Group, page: _Page) -> Any:
        """Return an array of bytes, one for each row of a page."""
        pages = [page]
        indexed = None
        if page.is_indexed and layout.dictionary is not None:
            pages = [layout.dictionary, page]
            # three times as slow, but no value is copied for each row that names it
            if layout.dictionary.unpacked * page.rows > MAX_PAGE:
                indexed = [".".join(["0"] * max(1, layout.plan.depth))]
        source = self._arrow.BufferReader(self._page_file(layout.plan, pages))
        options = {"pre_buffer": False, "read_dictionary": indexed}
        with self._parquet.ParquetFile(source, **options) as opened:
            column = opened.read(use_threads=False).column(0)
        values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        while self._arrow.types.is_struct(values.type):
            values = values.flatten()[0]
        if len(values) != page.rows:
            raise PageError("a page has other rows than its head says")
        return values

    def _page_file(self, plan: PagePlan, pages: list[_Page]) -> memoryview:
        """Return a file of these pages, which the next one overwrites: fresh memory for each takes
        as long as decoding it.
        """
        footer = footer_of(
            plan,
            sum(page.size for page in pages[:-1]),
            pages[-1].size,
            rows=pages[-1].rows,
            unpacked=sum(page.unpacked for page in pages),
        )
        size = len(MARK) + sum(page.size for page in pages) + len(footer)
        if len(self._scratch) < size:
            self._scratch = bytearray(size)
            self._scratch[: len(MARK)] = MARK
        view = memoryview(self._scratch)[:size]
        position = len(MARK)
        for page in pages:
            self._file.read_into(page.start, view[position : position + page.size])
            position += page.size
        view[position:] = footer
        return view

    def _reading(self) -> AbstractContextManager[None]:
        """Turn damage into an InputError."""
        return explained_damage(self.path, "a Parquet file", self._arrow.ArrowException, PageError)


def _checked_page(start: int, size: int, head: PageHead) -> _Page:
    unpacked = max(head.unpacked, head.packed)
    limit = MAX_DICTIONARY if head.is_dictionary else MAX_PAGE
    if unpacked > limit:
        raise PageError(
            f"a page of images holds {unpacked:,} bytes; at most {limit:,} are read: {SMALLER}"
        )
    if head.values > MAX_PAGE_VALUES:
        raise PageError(f"a page holds {head.values:,} images; {SMALLER}")
    return _Page(start, size, unpacked, head.values, head.encoding in INDICES)
