"""Rows of a file with the texts of the rows around them, by a second reading: an audit keeps no
texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import chain
from typing import NamedTuple

from mismatch.data.audit.row_check import RowFile
from mismatch.data.pairs import Row

__all__ = ["REACH", "Place", "read_places"]

REACH = 3  # rows above and below whose texts are kept


class Place(NamedTuple):
    """A row, and what stands around it."""

    line: int
    image: str  # as written
    label: int | None
    texts: tuple[str, ...]  # from `REACH` rows above to `REACH` below; empty beyond the ends

    @property
    def text(self) -> str:
        """Return the row's own text."""
        return self.texts[REACH]

    def text_at(self, offset: int) -> str:
        """Return the text of the row so many below, above where it is negative."""
        return self.texts[REACH + offset]


def read_places(source: RowFile, lines: Collection[int]) -> dict[int, Place]:
    """Return the rows that start at these lines, by line."""
    if not lines:
        return {}
    wanted = frozenset(lines)
    return {place.line: place for place in _places(source.rows(_ignore)) if place.line in wanted}


def _places(rows: Iterator[Row]) -> Iterator[Place]:
    around: deque[Row | None] = deque([None] * (2 * REACH + 1), maxlen=2 * REACH + 1)
    for row in chain(rows, [None] * REACH):
        around.append(row)
        middle = around[REACH]
        if middle is not None:
            texts = tuple("" if near is None else near.text.strip() for near in around)
            yield Place(middle.line, middle.image_path, middle.label, texts)


def _ignore(line: int, message: str) -> None:
    """Pass over a fault, which the first reading has reported."""
