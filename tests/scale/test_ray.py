"""mismatch.scale.ray: blocks on actors, each once, however many of them die."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mismatch.errors import MissingExtraError
from mismatch.scale.ray import actors

TOOL = """
import os
from pathlib import Path

from mismatch.errors import InputError


class Tool:
    def __init__(self):
        self.pid = os.getpid()
    def square(self, number):
        if number == 3 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), 9)
        return number, number * number, self.pid
    def fatal(self, number):
        os.kill(os.getpid(), 9)
    def refuse(self, number):
        raise InputError(f"row {number} is wrong")
"""
SCRIPT = """
import json
from pathlib import Path

from tool import Tool

from mismatch.errors import MismatchError
from mismatch.scale.ray import actors

taken = []
def blocks():
    for number in range(20):
        taken.append(number)
        yield (number,)

with actors(Tool, count=2) as pool:
    first, ahead, found = True, None, []
    for result in pool.each("square", blocks()):
        ahead = len(taken) if first else ahead
        first = False
        found.append(result)
    said = {}
    for method in ("refuse", "fatal"):
        try:
            list(pool.each(method, [(7,)]))
        except MismatchError as error:
            said[method] = f"{type(error).__name__}: {error}"
try:
    with actors(Tool, count=2, gpu=True):
        pass
except MismatchError as error:
    said["room"] = str(error)
print(json.dumps({"found": sorted(found), "ahead": ahead, "said": said, "died": Path("died").exists()}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the script prints; a process of its own, since Ray leaves threads
    and handlers behind.
    """
    pytest.importorskip("ray", reason='ray is not installed; pip install "mismatch-clip[ray]"')
    folder = tmp_path_factory.mktemp("ray")
    (folder / "tool.py").write_text(TOOL)
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_each_block_comes_back_once_though_an_actor_died(said: dict[str, object]) -> None:
    assert said["died"]
    found = said["found"]
    assert isinstance(found, list)
    assert [(number, square) for number, square, _ in found] == [
        (number, number * number) for number in range(20)
    ]
    # two, and the one that took the place of the dead, if blocks were left for it
    assert len({pid for *_, pid in found}) >= 2


def test_few_blocks_are_taken_ahead(said: dict[str, object]) -> None:
    assert said["ahead"] == 5  # two for each actor, and the one that waits for a place


def test_an_error_of_the_tool_comes_back_as_it_is_and_a_block_that_kills_is_given_up(
    said: dict[str, object],
) -> None:
    errors = said["said"]
    assert isinstance(errors, dict)
    assert errors["refuse"] == "InputError: row 7 is wrong"
    assert errors["fatal"].startswith("MachineError: a worker died 4 times at the same block")
    assert errors["room"].startswith(
        "the Ray cluster has no room for 2 actors of 1 CPUs and a GPU each, it has for 0"
    )


def test_without_ray_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "mismatch-clip\[ray\]"'), actors(int):
        pass
