"""What the how-to pages tell readers to type exists: verbs, flags, names and options in Python."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mismatch
from mismatch.cli import command_paths, help_text
from mismatch.jobs.options import ModelRowOptions
from mismatch.jobs.train import TrainOptions

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z_-]+")
COMMAND = re.compile(r"(?:^|-m )mismatch ([a-z].*)$", re.MULTILINE)
SHARED = {*ModelRowOptions.__annotations__, *TrainOptions.__annotations__}
VERBS = {" ".join(path): help_text(*path) for path in command_paths() if path}


def _blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [code for name, code in BLOCK.findall(text) if name == language]


def _commands(page: Path) -> Iterator[str]:
    """Yield what stands behind `mismatch` in each line of the shell."""
    for code in _blocks(page, "bash"):
        yield from COMMAND.findall(code.replace("\\\n", " "))


def _unknown_flags(command: str) -> list[str]:
    verb = max((name for name in VERBS if command.startswith(name)), key=len, default=None)
    if verb is None:
        return [command]
    return [flag for flag in FLAG.findall(command) if flag.replace("_", "-") not in VERBS[verb]]


def _unknown_names(code: str) -> list[str]:
    """Return names of mismatch, and options of its functions, that are not there."""
    unknown = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "mismatch"):
            continue
        name = node.func.attr
        function = getattr(mismatch, name, None)
        if function is None:
            unknown.append(name)
            continue
        options = {*inspect.signature(function).parameters, *SHARED}
        unknown += [f"{name}: {item.arg}" for item in node.keywords if item.arg not in options]
    return unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_verbs_and_flags_exist(page: Path) -> None:
    assert [flag for command in _commands(page) for flag in _unknown_flags(command)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_parses_and_names_exist(page: Path) -> None:
    assert [name for code in _blocks(page, "python") for name in _unknown_names(code)] == []


def test_the_checks_notice_what_is_not_there() -> None:
    assert _unknown_flags("predict --csv a.csv --tresh 1") == ["--tresh"]
    assert _unknown_flags("train --train_csv a.csv") == []
    assert _unknown_flags("predct --csv a.csv") == ["predct --csv a.csv"]
    assert _unknown_names("mismatch.evaluat('m')\nmismatch.evaluate('m', 'r', slces=[])") == [
        "evaluat",
        "evaluate: slces",
    ]
