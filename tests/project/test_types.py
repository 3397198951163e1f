"""What the static tools say: mypy --strict, ruff, and ruff's formatting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mismatch.backbones.template import write_plugin
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


@pytest.mark.slow
def test_a_new_plugin_is_typed_as_strictly(tmp_path: Path) -> None:
    write_plugin("zed", tmp_path / "plugin")
    strict = ["mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", *strict, "--cache-dir", os.devnull, "mismatch_zed", "tests"],
        cwd=tmp_path / "plugin",
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_ships_its_types() -> None:
    assert (ROOT / "mismatch" / "py.typed").is_file()
