"""Backbone families and their plugins, as lines for people on a terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mismatch.backbones.families import BackboneFamily, Problem

if TYPE_CHECKING:
    from mismatch.testing.contract import Check

__all__ = ["check_lines", "count_line", "family_lines", "family_table", "next_line"]

OUTCOMES = {"passed": "ok", "failed": "FAIL", "skipped": "skip"}  # of checks

COLUMNS = ("family", "default model", "distribution", "description")


def check_lines(check: Check, *, with_trace: bool) -> Iterator[str]:
    """Yield what became of a check of the contract, and why."""
    why = f": {check.message}" if check.message else ""
    yield f"{OUTCOMES[check.outcome]:<5} {check.name}{why}"
    if check.trace and with_trace:
        yield check.trace.rstrip()


def count_line(checks: Iterable[Mapping[str, Any]]) -> str:
    """Return `41 passed, 1 failed, 2 skipped` of checks as objects."""
    counts = Counter(check["outcome"] for check in checks)
    return ", ".join(f"{counts[word]} {word}" for word in OUTCOMES if counts[word])


def next_line(name: str, folder: Path) -> str:
    """Return what to do with a plugin that was begun in a folder."""
    editable = shlex.quote(f"{folder}[test]")
    return (
        f"next: pip install -e {editable}, mismatch backbones check {name}, and pytest"
        f" {shlex.quote(str(folder))}"
    )


def family_table(families: Sequence[BackboneFamily]) -> Iterator[str]:
    """Yield a row for each family, then each one's models."""
    rows = [COLUMNS]
    for item in families:
        where = f"{item.distribution} {item.version}"
        rows.append((item.name, item.default_model, where, item.description))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()
    for item in families:
        yield f"\n{item.name} models: {', '.join(item.models)}"


def family_lines(
    facts: Mapping[str, Any], problems: Sequence[Problem], *, with_trace: bool
) -> Iterator[str]:
    """Yield a line for each fact of a family or its plugin, then its problems."""
    width = max(len(key) for key in [*facts, "problem"])
    for key, value in facts.items():
        words = ", ".join(value) if isinstance(value, list) else value
        yield f"{key.replace('_', ' ').ljust(width)}  {words}"
    for problem in problems:
        yield f"{'problem'.ljust(width)}  {problem.message}"
        if with_trace:
            yield problem.trace.rstrip()
