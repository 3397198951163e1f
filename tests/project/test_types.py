"""What the static tools say: mypy --strict, ruff, and ruff's formatting."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

TOOLS = {
    # each time from the beginning, so nothing is stored for a next time
    "mypy --strict": ["mypy", "--no-error-summary", "--no-incremental", "--cache-dir", os.devnull],
    "ruff check": ["ruff", "check", "--no-cache", "."],
    "ruff format": ["ruff", "format", "--no-cache", "--check", "."],
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=name, marks=[pytest.mark.slow] if name.startswith("mypy") else [])
        for name, command in TOOLS.items()
    ],
)
def test_the_tool_has_nothing_to_say(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_ships_its_types() -> None:
    assert (ROOT / "mismatch" / "py.typed").is_file()
