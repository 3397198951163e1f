"""What makes rows unusable, by kind: all of it is counted, and the first of each kind are kept, so
that many problems of one kind hide no other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mismatch.data.pairs import Row
from mismatch.errors import ImageNotFoundError, InputError
from mismatch.io.remote import is_url
from mismatch.io.web_images import is_fetching, is_web_url

__all__ = ["ProblemGroup", "ProblemLog", "image_kind", "row_kind"]

Located = tuple[int, str]  # line, and what is wrong there
KINDS = {  # what one is called, and what several are
    "file": ("fault of the file", "faults of the file"),
    "line": ("line that can't be read", "lines that can't be read"),
    "label": ("wrong label", "wrong labels"),
    "empty": ("row with an empty field", "rows with an empty field"),
    "row": ("row that can't be used", "rows that can't be used"),
    "misspelt": ("image spelt otherwise than its file", "images spelt otherwise than their files"),
    "not-found": ("image not found", "images not found"),
    "address": ("image that is an address", "images that are addresses"),
    "web": ("image of the web that can't be used", "images of the web that can't be used"),
    "undecodable": ("image that can't be decoded", "images that can't be decoded"),
}


@dataclass
class ProblemGroup:
    """The problems of one kind."""

    kind: str  # one of KINDS
    count: int = 0
    problems: list[Located] = field(default_factory=list)  # the first, by line

    def words(self) -> str:
        """Return `3 wrong labels`."""
        return f"{self.count:,} {KINDS[self.kind][self.count != 1]}"

    def rest(self) -> str:
        """Return `12 more images not found`, of those that are not kept; nothing if all are."""
        more = self.count - len(self.problems)
        return f"{more:,} more {KINDS[self.kind][more != 1]}" if more else ""

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only."""
        return {
            "kind": self.kind,
            "count": self.count,
            "lines": [line for line, _ in self.problems],
        }


class ProblemLog:
    """The problems of one file, while it is looked at."""

    def __init__(self, max_problems: int) -> None:
        """Keep so many, shared among the kinds; at least one of each."""
        self._max = max_problems
        self._groups: dict[str, ProblemGroup] = {}

    def add(self, kind: str, problems: Iterable[Located]) -> None:
        """Count problems of a kind, and keep the first."""
        group = self._groups.setdefault(kind, ProblemGroup(kind))

        def counted() -> Iterable[Located]:
            for problem in problems:
                group.count += 1
                yield problem

        group.problems = heapq.nsmallest(self._max, [*group.problems, *counted()])

    def add_row(self, kind: str, line: int, message: str) -> None:
        """Count one problem of a row; rows come by line, so that the first ones are the first."""
        group = self._groups.setdefault(kind, ProblemGroup(kind))
        group.count += 1
        if len(group.problems) < self._max:
            group.problems.append((line, message))

    def groups(self) -> list[ProblemGroup]:
        """Return each kind with those that are shown of it, ordered by the first of them."""
        groups = [group for group in self._groups.values() if group.count]
        shares = _shares([group.count for group in groups], self._max)
        shown = [
            ProblemGroup(group.kind, group.count, group.problems[:share])
            for group, share in zip(groups, shares, strict=True)
        ]
        return sorted(shown, key=lambda group: group.problems[0])


def row_kind(row: Row) -> str:
    """Return the kind of a row's problem."""
    if not row.intact:
        return "line"
    if row.only_label:
        return "label"
    is_empty = any(
        name in row.columns and not value.strip()
        for name, value in (("image_path", row.image_path), ("text", row.text))
    )
    return "empty" if is_empty else "row"


def image_kind(path: str, error: InputError) -> str:
    """Return the kind of an image's problem."""
    if is_web_url(path) and is_fetching():
        return "web"
    if is_url(path):
        return "address"
    return "not-found" if isinstance(error, ImageNotFoundError) else "undecodable"


def _shares(counts: Sequence[int], total: int) -> list[int]:
    """Share `total` among kinds with so many problems: small ones are shown whole, the others
    alike, each by one at least.
    """
    shares = [0] * len(counts)
    left = max(total, len(counts))
    for rank, index in enumerate(sorted(range(len(counts)), key=lambda index: counts[index])):
        shares[index] = min(counts[index], -(-left // (len(counts) - rank)))
        left -= shares[index]
    return shares
