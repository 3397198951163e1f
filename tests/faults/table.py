"""Prints the tables of docs/explanation/reliability.md: a row a fault, from the tests' marks."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PARTS = {
    "test_fault_signals": "Killed, interrupted, stopped",
    "test_fault_disk": "Disks and targets",
    "test_fault_reads": "Images, rows and models that can't be read, or change",
    "test_fault_damage": "Damaged files, other versions",
    "test_fault_two": "Two at once",
    "test_fault_environment": "Clocks, memory, handles, surroundings",
}


class Marks:
    """Collects what the marks say, by file."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[str, str, str]]] = {name: [] for name in PARTS}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Is given all tests."""
        for item in session.items:
            mark = item.get_closest_marker("fault")
            if mark is not None and mark.args not in (rows := self.rows[item.path.stem]):
                rows.append(mark.args)


def found() -> dict[str, list[tuple[str, str, str]]]:
    """The faults, by the file of their tests."""
    marks = Marks()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(
            ["--collect-only", "-q", "-m", "fault", "-p", "no:cacheprovider", str(HERE)],
            plugins=[marks],
        )
    if code:
        raise SystemExit(said.getvalue())
    return marks.rows


def table() -> str:
    """Markdown."""
    lines, number = [], 0
    for name, rows in found().items():
        lines += [
            f"## {PARTS[name]}",
            "",
            "| | what is injected | where | what is promised, and held |",
            "|---|---|---|---|",
        ]
        for what, where, promise in rows:
            number += 1
            lines.append(f"| {number} | {what} | `{where.replace(', ', '`, `')}` | {promise} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
