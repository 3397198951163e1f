"""mismatch.cli.verb: a command of a function and its docstring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mismatch.cli.verb import (
    choice,
    described,
    echo_json,
    echo_lines,
    echo_result,
    flag,
    option,
    verb,
)


@dataclass
class Scores:
    """A result of a job."""

    value: float

    def to_dict(self) -> dict[str, Any]:
        return {"é": self.value}

    def summary(self) -> list[str]:
        return ["first", "see `top=3` and `absent`"]


@verb(
    "Show scores.",
    click.Argument(["rows"]),
    option("--top -t", int, 5),
    choice("--sort order", ("score", "none")),
    flag("--json as_json"),
)
def show(rows: str, as_json: bool, **options: Any) -> None:
    """Show scores of rows.

    A second paragraph.

    Options:
    --top: So many rows, counted from the first, as a help text that goes on behind the end of its
        line says.  [default: all]
    --sort: What is first: [a] or [b].
    --json: Print JSON.
    """
    echo_lines([f"{rows} {sorted(options.items())}"], err=True)
    echo_result(Scores(math.nan), as_json=as_json)


def test_options_have_their_names_defaults_and_help() -> None:
    helps = {param.name: getattr(param, "help", None) for param in show.params}
    assert helps == {
        "rows": None,
        "top": "So many rows, counted from the first, as a help text that goes on behind the end of"
        " its line says.  [default: all]",
        "order": "What is first: [a] or [b].",
        "as_json": "Print JSON.",
    }
    assert show.help == "Show scores of rows.\n\nA second paragraph."
    assert show.short_help == "Show scores."
    shown = CliRunner().invoke(show, ["--help"]).output
    assert "[default: 5]" in shown
    assert "Options:\n  -t, --top INTEGER" in shown


def test_results_are_lines_or_json() -> None:
    result = CliRunner().invoke(show, ["a.csv"])
    assert result.stderr == "a.csv [('order', None), ('top', 5)]\n"
    assert result.stdout == "first\nsee --top 3 and `absent`\n"
    assert CliRunner().invoke(show, ["a.csv", "--json"]).stdout == '{\n  "é": null\n}\n'


def test_an_option_is_described_once(capsys: pytest.CaptureFixture[str]) -> None:
    [top] = described("--top: How many.", option("--top"))
    with pytest.raises(TypeError, match="--top is described already"):
        described("--top: How many.", top)
    with pytest.raises(ValueError, match="not enough values"):
        described("--absent: How many.", top)
    echo_json([1.5])
    assert capsys.readouterr().out == "[\n  1.5\n]\n"
