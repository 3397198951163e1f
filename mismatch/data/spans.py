"""A file of rows in spans, one for each of several processes that read it together: in order they
give what a reading from end to end gives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol, TypeVar

from mismatch.data.columns import COLUMNS, Columns
from mismatch.data.pairs import DELIMITERS, kind_of, no_fault
from mismatch.data.readers.arrow import count_rows
from mismatch.data.readers.csv import csv_begin
from mismatch.data.rows import Reading, Span, SpanError
from mismatch.errors import InputError
from mismatch.io.remote import Remote, located
from mismatch.io.retries import open_patiently

__all__ = ["Team", "find_spans"]

LEAST_BYTES = 2**16  # of a text file, for each process; fewer are not worth the trouble
LEAST_ROWS = 1_000  # of a Parquet file or a dataset
PIECE = 2**20  # bytes that are looked through at a time
T = TypeVar("T")


class Team(Protocol):
    """The processes that read a file together."""

    index: int  # of this one, 0..count
    count: int

    def each(self, work: Callable[[], T]) -> list[T]:
        """Return what `work` returns in each process, in order; called by all of them."""


def find_spans(path: str | Path, columns: Columns, team: Team) -> list[Span] | None:
    """Return a span for each process, in order, together all rows; None for one that one process
    reads alone, as it is small, an object of a store, or its header is at fault.

    That a quote never stands within a text that is not in quotes is taken for granted. Where it
    does, one of the spans begins or ends within a record, and reading the one before or that one
    raises SpanError. InputError where processes see different files; called by all of them.
    """
    if isinstance(located(path), Remote):
        return None
    reading = Reading(path, columns, COLUMNS, no_fault)
    kind = kind_of(path)
    extents = team.each(lambda: _extent(path, reading, kind))
    if other := next((index for index, extent in enumerate(extents) if extent != extents[0]), 0):
        raise InputError(
            f"{path}: process {other} of {team.count} finds another file there than process 0, or"
            " none; give all of them the same one"
        )
    if extents[0] is None:
        return None
    start, end, line = extents[0]
    is_text = kind in (*DELIMITERS, "jsonl")
    if end - start < (LEAST_BYTES if is_text else LEAST_ROWS) * team.count:
        return None
    bounds = [start + (end - start) * i // team.count for i in range(team.count + 1)]
    return (
        _text_spans(path, bounds, line, team, quotes=kind in DELIMITERS)
        if is_text
        else [Span(first, last, first) for first, last in pairwise(bounds)]
    )


def _extent(path: str | Path, reading: Reading, kind: str) -> list[int] | None:
    """Return where the rows begin and end, as `Span` has it, and how many lines stand before them;
    None where only a reading of the whole can say what is wrong.
    """
    try:
        if kind in DELIMITERS:
            start, line = csv_begin(reading, DELIMITERS[kind])
            return [start, os.path.getsize(path), line]
        return [0, os.path.getsize(path) if kind == "jsonl" else count_rows(reading), 0]
    except (InputError, OSError, SpanError):
        return None


def _text_spans(
    path: str | Path, bounds: list[int], line: int, team: Team, *, quotes: bool
) -> list[Span]:
    """Return spans that begin at the first line end outside quotes behind each of `bounds`, the
    first at once; `line` lines stand before them all.
    """
    first, last = bounds[team.index : team.index + 2]
    before = sum(team.each(lambda: _count(path, first, last, b'"') if quotes else 0)[: team.index])
    starts = team.each(
        lambda: (
            first
            if team.index == 0
            else _next_line(path, first, bounds[-1], quotes=quotes, quoted=before % 2 == 1)
        )
    )
    spans = list(pairwise([*starts, bounds[-1]]))
    lines = team.each(lambda: _count_lines(path, *spans[team.index], returns=quotes))
    return [
        Span(start, end, above)
        for (start, end), above in zip(spans, accumulate([line, *lines]), strict=False)
    ]


def _pieces(path: str | Path, start: int, end: int) -> Iterator[bytes]:
    with open_patiently(path, start, end) as file:
        while piece := file.read(PIECE):
            yield piece


def _count(path: str | Path, start: int, end: int, what: bytes) -> int:
    return sum(piece.count(what) for piece in _pieces(path, start, end))


def _count_lines(path: str | Path, start: int, end: int, *, returns: bool) -> int:
    """Count how many lines end: at a line feed and, with `returns`, at a carriage return or both,
    as csv counts.
    """
    found = 0
    after_return = False
    for piece in _pieces(path, start, end):
        found += piece.count(b"\n")
        if returns:
            found += (
                piece.count(b"\r")
                - piece.count(b"\r\n")
                - (after_return and piece.startswith(b"\n"))
            )
            after_return = piece.endswith(b"\r")
    return found


def _next_line(path: str | Path, start: int, end: int, *, quotes: bool, quoted: bool) -> int:
    """Return the place behind the first line feed from `start` on, or `end`; where there are
    `quotes`, the first outside them. `quoted`: whether `start` stands within.
    """
    marks = {False: re.compile(b'["\n]' if quotes else b"\n"), True: re.compile(b'"')}
    for piece in _pieces(path, start, end):
        at = 0
        while found := marks[quoted].search(piece, at):
            at = found.end()
            if found[0] == b"\n":
                return start + at
            quoted = not quoted
        start += len(piece)
    return end
