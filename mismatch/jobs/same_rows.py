"""Rows of a file that is read a second time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from mismatch.data.pairs import Row
from mismatch.errors import InputError

__all__ = ["same_rows"]


def same_rows(rows: Iterable[Row], lines: Sequence[Collection[int]], name: str) -> Iterator[Row]:
    """Yield rows; InputError where they do not stand in the lines of the first time, which are in
    several parts. `name`: the file's, for people.
    """
    left = sum(map(len, lines))
    for row in rows:
        if not any(row.line in part for part in lines):
            break
        left -= 1
        yield row
    else:
        if not left:
            return
    raise InputError(
        f"{name} has other rows than when it was read first, a moment ago; run this again once"
        " nobody writes it"
    )
