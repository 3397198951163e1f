"""`mismatch backbones list` and `show`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

import mismatch
from mismatch.backbones import registry
from mismatch.backbones.registry import BackboneFamily, Problem, Registry
from mismatch.cli import main

LIT = BackboneFamily("lit", str, ("base", "tiny"), "tiny", "a stranger", 1, "mismatch-lit", "2.5", "lit", "mismatch_lit")
ILL = Problem("ill", "mismatch_ill", "mismatch-ill", "0.1", "plugin 'ill' is broken", "Traceback: here it broke\n")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["backbones", *args])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One stranger and one broken plugin in the place of what is installed."""
    monkeypatch.setattr(registry, "_installed", lambda: Registry({"lit": LIT}, (ILL,)))
    return


def test_the_built_in_families_are_listed() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["family", "default", "model", "distribution", "description"]
    assert lines[1].split()[:4] == ["hf-clip", "openai/clip-vit-base-patch32", "mismatch-clip", mismatch.__version__]
    assert lines[2].split()[:4] == ["openclip", "ViT-B-32/laion2b_s34b_b79k", "mismatch-clip", mismatch.__version__]
    assert [line for line in lines if line.startswith("openclip models: ") and line.endswith("tiny")]


@pytest.mark.usefixtures("fake")
def test_a_table() -> None:
    assert run("list").stdout == (
        "family  default model  distribution      description\nlit     tiny           mismatch-lit 2.5  a stranger\n\nlit models: base, tiny\n"
    )


@pytest.mark.usefixtures("fake")
def test_json_has_every_fact() -> None:
    data = json.loads(run("list", "--json").stdout)
    lit = {"name": "lit", "models": ["base", "tiny"], "default_model": "tiny", "description": "a stranger", "api_version": 1}
    lit |= {"distribution": "mismatch-lit", "version": "2.5", "entry_point": "lit", "module": "mismatch_lit"}
    assert data["families"] == [lit]
    assert [problem["message"] for problem in data["problems"]] == ["plugin 'ill' is broken"]
    assert json.loads(run("show", "lit", "--json").stdout) == lit | {"problems": []}


def test_no_family_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_installed", lambda: Registry({}, ()))
    assert run("list").stdout == "No backbone family is installed.\n"


@pytest.mark.usefixtures("fake")
def test_show_says_where_a_family_comes_from() -> None:
    result = run("show", "lit")
    assert result.exit_code == 0
    assert dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if " model" not in line and " version" not in line and " point" not in line) == {
        "name": "lit",
        "models": "base, tiny",
        "description": "a stranger",
        "distribution": "mismatch-lit",
        "version": "2.5",
        "module": "mismatch_lit",
    }
    assert "default model  tiny" in result.stdout
    assert "api version    1" in result.stdout
    assert "entry point    lit" in result.stdout


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(("flags", "traced"), [([], False), (["--debug"], True)])
def test_show_says_what_became_of_a_broken_plugin(flags: list[str], traced: bool) -> None:
    result = run("show", "ill", *flags)
    assert result.exit_code == 1
    assert "problem  plugin 'ill' is broken\n" in result.stdout
    assert ("here it broke" in result.stdout) is traced


def test_an_unknown_name_gets_the_nearest() -> None:
    result = run("show", "opnclip")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "mismatch: error: backbone 'opnclip' is unknown; did you mean 'openclip'?; installed: hf-clip, openclip\n"


@pytest.mark.parametrize("args", [[], ["shw"]])
def test_a_missing_or_wrong_subcommand_is_exit_2(args: list[str]) -> None:
    assert run(*args).exit_code == 2
