"""How dense the package is: what a reader meets on a line, in a function and in a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mismatch.cli import VERBS

PACKAGE = Path(__file__).resolve().parents[2] / "mismatch"
FILES = sorted(PACKAGE.rglob("*.py"))
# contexts and operators are no thoughts of their own
NOT_COUNTED = (ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop)
MAX_NODES = 4.8  # syntax nodes a code line, on average over the package
MAX_LINES_OF_FILE = 400
MAX_LINES_OF_FUNCTION = 50
MAX_LINES_OF_MOST = 30  # of nine functions in ten
MAX_LINES_OF_CLI = 2_200  # a thin layer over the jobs
MAX_LINES_OF_VERB = 150
# packages, or "" for the files above them, whose variables are called what they hold
PACKAGES_WITH_PLAIN_NAMES = (
    "",
    "backbones",
    "cli",
    "data",
    "evaluation",
    "export",
    "io",
    "reports",
    "runtime",
    "scale",
    "serving",
    "testing",
    "training",
)
NAMES_OF_NOTHING = {"known", "found", "said", "given", "own", "one", "at", "most", "least"}
# a file, and a keyword argument of the API there that keeps its name
PUBLIC_NAMES = {("runtime/predictor.py", "known")}


def code_lines(text: str) -> int:
    """Lines that are neither blank nor a comment."""
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_a_line_holds_one_thought() -> None:
    nodes = 0
    lines = 0
    for path in FILES:
        text = path.read_text()
        nodes += sum(not isinstance(node, NOT_COUNTED) for node in ast.walk(ast.parse(text)))
        lines += code_lines(text)
    assert nodes / lines <= MAX_NODES, f"{nodes / lines:.3f} syntax nodes a line"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_fits_in_a_head(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_LINES_OF_FILE, "split it by what its parts are about"
    long = {
        node.name: length(node)
        for node in functions(ast.parse(text))
        if length(node) > MAX_LINES_OF_FUNCTION and not is_public_job(path, node)
    }
    assert long == {}


def is_public_job(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it is a task's function, whose signature and docstring list all of its options."""
    return path.parent.name == "jobs" and path.stem == node.name


def test_most_functions_are_short() -> None:
    lengths = sorted(
        length(node) for path in FILES for node in functions(ast.parse(path.read_text()))
    )
    assert lengths[int(0.9 * len(lengths))] <= MAX_LINES_OF_MOST


def test_the_command_line_is_thin() -> None:
    lines = {path.stem: path.read_text().count("\n") for path in (PACKAGE / "cli").glob("*.py")}
    assert sum(lines.values()) <= MAX_LINES_OF_CLI
    verbs = [verb.replace("-", "_") for verb in VERBS]
    assert {verb: lines[verb] for verb in verbs if lines[verb] > MAX_LINES_OF_VERB} == {}


@pytest.mark.parametrize("package", PACKAGES_WITH_PLAIN_NAMES)
def test_a_name_says_what_it_holds(package: str) -> None:
    folder = PACKAGE / package
    vague = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in (folder.rglob("*.py") if package else folder.glob("*.py"))
        for line, name in names_given(ast.parse(path.read_text()))
        if name in NAMES_OF_NOTHING
        and (path.relative_to(PACKAGE).as_posix(), name) not in PUBLIC_NAMES
    ]
    assert vague == [], "call it what it holds: a row, findings, options, a position"


def names_given(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each variable, parameter, field and attribute that is set."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
