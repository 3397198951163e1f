"""The faults that are injected by tests/faults, run by `pytest -m fault`: how many there are, and
that each has its own row in the docs.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT


def test_each_fault_has_a_row_of_its_own_and_the_page_is_up_to_date() -> None:
    table = subprocess.run(
        [sys.executable, "tests/faults/table.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout
    rows = [
        line.split(" | ")
        for line in table.splitlines()
        if line.startswith("| ") and line[2].isdigit()
    ]
    assert len(rows) >= 100
    assert [row[0] for row in rows] == [f"| {i}" for i in range(1, len(rows) + 1)]
    assert len({(row[1], row[2]) for row in rows}) == len(rows)
    for command in ("validate", "train", "export-onnx", "predict"):
        assert sum(command in row[2] for row in rows) >= 3, command
    assert table.strip() in (ROOT / "docs" / "explanation" / "reliability.md").read_text()


def test_they_are_left_out_unless_they_are_asked_for() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/faults"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    assert "deselected" in said
    assert "::" not in said
