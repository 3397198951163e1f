"""mismatch.data.audit.problems: each kind is counted, and none hides another."""

from __future__ import annotations

import pytest

from mismatch.data.audit.problems import ProblemLog, image_kind, row_kind
from mismatch.data.pairs import Row
from mismatch.errors import ImageError, ImageNotFoundError


def log_of(max_problems: int, **counts: int) -> ProblemLog:
    log = ProblemLog(max_problems)
    start = 1
    for kind, count in counts.items():
        name = kind.replace("_", "-")
        log.add(name, [(line, f"{name} {line}") for line in range(start, start + count)])
        start += count
    return log


@pytest.mark.parametrize(
    ("max_problems", "counts", "shown"),
    [
        (50, {"line": 60, "not_found": 200}, [25, 25]),
        (50, {"line": 3, "not_found": 200}, [3, 47]),
        (50, {"line": 3, "label": 4, "empty": 5}, [3, 4, 5]),
        (50, {"line": 100, "label": 100, "empty": 10, "not_found": 100}, [13, 13, 10, 14]),
        (1, {"line": 9, "label": 9, "not_found": 9}, [1, 1, 1]),
    ],
)
def test_the_first_of_each_kind_are_shown(
    max_problems: int, counts: dict[str, int], shown: list[int]
) -> None:
    groups = log_of(max_problems, **counts).groups()
    assert [group.count for group in groups] == list(counts.values())
    assert sorted(len(group.problems) for group in groups) == sorted(shown)
    for group in groups:
        assert [line for line, _ in group.problems] == sorted(line for line, _ in group.problems)
        more = group.count - len(group.problems)
        assert group.rest().startswith(f"{more} more ") if more else group.rest() == ""


def test_problems_come_by_line_however_they_are_found() -> None:
    log = ProblemLog(2)
    log.add_row("label", 7, "b")
    log.add("not-found", [(9, "z"), (3, "y"), (5, "x")])
    log.add("not-found", [(4, "w")])
    log.add_row("label", 8, "c")
    log.add_row("label", 9, "d")
    found, label = log.groups()
    assert (found.kind, found.count, found.problems) == ("not-found", 4, [(3, "y")])
    assert (label.kind, label.count, label.problems) == ("label", 3, [(7, "b")])
    assert label.words() == "3 wrong labels"
    assert label.to_dict() == {"kind": "label", "count": 3, "lines": [7]}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (Row(2, "", "", None, {}, "bad JSON", intact=False), "line"),
        (Row(2, "a", "b", None, {"image_path": "a", "text": "b"}, "x", only_label=True), "label"),
        (Row(2, "a", " ", 1, {"image_path": "a", "text": " "}, "x"), "empty"),
        (Row(2, "", "b", 1, {"image_path": "", "text": "b"}, "x"), "empty"),
        (Row(2, "../a", "b", 1, {"image_path": "../a", "text": "b"}, "x"), "row"),
    ],
)
def test_kinds_of_rows(row: Row, kind: str) -> None:
    assert row_kind(row) == kind


def test_kinds_of_images() -> None:
    assert image_kind("a.jpg", ImageNotFoundError("x")) == "not-found"
    assert image_kind("a.jpg", ImageError("x")) == "undecodable"
    assert image_kind("https://x.org/a.jpg", ImageError("x")) == "address"
