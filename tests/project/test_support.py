"""tests/support/README.md: its examples are tests of this file, and what it names is there."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest

from tests.support.paths import ROOT

README = (ROOT / "tests" / "support" / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MODULES = sorted(path.stem for path in (ROOT / "tests" / "support").glob("*.py"))
IMPORTS = """
from __future__ import annotations
from pathlib import Path
from typing import Any
import pytest, torch
from torch import nn
from mismatch.data.pairs import read_rows as read_pairs
from mismatch.errors import InputError
from mismatch.runtime.predictor import Predictor
from tests.support.backbones import MeanColour, ToyBackbone
from tests.support.commands import run
from tests.support.processes import command_line, finished
from tests.support.rows import write_rows
from tests.support.serving import image, serving, text64
"""


def examples() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec("\n\n".join([IMPORTS, *EXAMPLES]), found)  # noqa: S102 (the project's own)
    return {name: value for name, value in found.items() if name.startswith("test_")}


globals().update(examples())


def test_every_example_is_a_test() -> None:
    assert len(examples()) == len(EXAMPLES) == 6


def test_what_it_recommends_is_there() -> None:
    offered = set(MODULES)
    for name in MODULES:
        offered |= set(import_module(f"tests.support.{name}").__all__)
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    offered |= set(re.findall(r"^(?:def |)(\w+)(?:\(| = )", conftest, re.MULTILINE))
    table = "\n".join(re.findall(r"^[|].*$", README, re.MULTILINE))
    assert sorted(set(re.findall(r"`(\w+)`", table)) - offered - {"tmp_path"}) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_helper_says_what_it_offers(name: str) -> None:
    module = import_module(f"tests.support.{name}")
    assert module.__doc__
    assert [public for public in module.__all__ if not hasattr(module, public)] == []
