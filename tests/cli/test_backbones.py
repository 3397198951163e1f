"""`mismatch backbones list`, `show`, `check` and `new`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mismatch
from mismatch.backbones import registry
from mismatch.backbones.families import BackboneFamily, Problem
from mismatch.backbones.registry import Registry
from mismatch.testing.contract import check_names
from tests.support import commands

LOAD: Any = str
LIT = BackboneFamily(
    "lit",
    LOAD,
    ("base", "tiny"),
    "tiny",
    "a third party",
    1,
    "mismatch-lit",
    "2.5",
    "lit",
    "mismatch_lit",
)
ILL = Problem(
    "ill",
    "mismatch_ill",
    "mismatch-ill",
    "0.1",
    "plugin 'ill' is broken",
    "Traceback: here it broke\n",
)


run = partial(commands.run, "backbones")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """One third-party and one broken plugin in the place of what is installed."""
    monkeypatch.setattr(registry, "_installed", lambda: Registry({"lit": LIT}, (ILL,)))


def test_the_built_in_families_are_listed() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["family", "default", "model", "distribution", "description"]
    rows = [line.split()[:4] for line in lines]
    assert [
        "hf-clip",
        "openai/clip-vit-base-patch32",
        "mismatch-clip",
        mismatch.__version__,
    ] in rows
    assert ["openclip", "ViT-B-32/laion2b_s34b_b79k", "mismatch-clip", mismatch.__version__] in rows
    assert [
        line for line in lines if line.startswith("openclip models: ") and line.endswith("tiny")
    ]


@pytest.mark.usefixtures("fake")
def test_a_table() -> None:
    assert (
        run("list").stdout
        == "family  default model  distribution      description\nlit     tiny          "
        " mismatch-lit 2.5  a third party\n\nlit models: base, tiny\n"
    )


@pytest.mark.usefixtures("fake")
def test_json_has_every_fact() -> None:
    data = json.loads(run("list", "--json").stdout)
    lit = {
        "name": "lit",
        "models": ["base", "tiny"],
        "default_model": "tiny",
        "description": "a third party",
        "api_version": 1,
    }
    lit |= {
        "distribution": "mismatch-lit",
        "version": "2.5",
        "entry_point": "lit",
        "module": "mismatch_lit",
    }
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
    assert dict(
        line.split(maxsplit=1)
        for line in result.stdout.splitlines()
        if " model" not in line and " version" not in line and " point" not in line
    ) == {
        "name": "lit",
        "models": "base, tiny",
        "description": "a third party",
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
    assert "problem       plugin 'ill' is broken\n" in result.stdout
    assert "distribution  mismatch-ill\n" in result.stdout
    assert ("here it broke" in result.stdout) is traced


def test_an_unknown_name_gets_the_nearest() -> None:
    result = run("show", "opnclip")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "mismatch: error: backbone 'opnclip' is unknown; did you mean 'openclip'?; installed:"
        f" {', '.join(registry.families())}\n"
    )


@pytest.mark.parametrize("args", [[], ["shw"]])
def test_a_missing_or_wrong_subcommand_is_exit_2(args: list[str]) -> None:
    assert run(*args).exit_code == 2


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["ill", "mismatch-ill", "mismatch_ill", "Mismatch.ILL"])
def test_a_broken_plugin_is_found_by_any_of_its_names(name: str) -> None:
    result = run("show", name, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert (data["distribution"], data["version"], data["entry_point"], data["module"]) == (
        "mismatch-ill",
        "0.1",
        "ill",
        "mismatch_ill",
    )
    assert data["problems"][0]["trace"].startswith("Traceback")


def test_check_prints_what_came_of_each_check() -> None:
    result = run("check", "openclip:tiny", "--only", "widths", "--only", "levels")
    assert (
        result.stdout
        == "ok    widths\nskip  levels: levels_dim and text_levels_dim are 0: it offers no features"
        " of earlier layers\n1 passed, 1 skipped\n"
    )
    assert result.exit_code == 0


def test_check_as_json_with_a_model_name() -> None:
    data = json.loads(
        run("check", "hf-clip", "--model-name", "tiny", "--only", "widths", "--json").stdout
    )
    assert (data["ok"], data["reference"], data["model_name"]) == (True, "hf-clip", "tiny")
    [check] = data["checks"]
    assert (check["name"], check["outcome"], check["message"]) == ("widths", "passed", "")


def test_a_failed_check_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # refused at its first fault
    monkeypatch.setattr(registry, "load_backbone", lambda reference: SimpleNamespace(image_dim=3))
    result = run("check", "openclip:tiny", "--only", "declarations")
    assert result.exit_code == 1
    assert (
        result.stdout
        == "FAIL  declarations: backbone.text_dim is None; set it to an int in __init__\n1 failed\n"
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("check", "opnclip"), "did you mean 'openclip'?"),
        (("check", "openclip:tiny", "--model-name", "RN50/openai"), "name two models"),
        (
            ("check", "openclip:tiny", "--only", "width"),
            (
                "there is no check 'width'; did you mean 'widths'?; the checks:"
                f" {', '.join(check_names())}"
            ),
        ),
        (("new", "openclip"), "the family 'openclip' is there already, from mismatch-clip"),
        (("new", "My_Towers"), "'My_Towers' can't name a plugin"),
        (("new", "3d"), "beginning with a letter"),
        (
            ("new", "clip"),
            "mismatch-clip is mismatch itself or a part of it; choose another name than 'clip'",
        ),
    ],
)
def test_what_cannot_be_is_one_line(args: tuple[str, ...], words: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_new_writes_a_plugin_under_its_own_names(tmp_path: Path) -> None:
    result = run("new", "my-towers", "--dir", str(tmp_path / "here"))
    assert result.exit_code == 0
    names = {
        "pyproject.toml",
        "README.md",
        "mismatch_my_towers/__init__.py",
        "mismatch_my_towers/backbone.py",
        "tests/test_my_towers.py",
    }
    assert {
        path.relative_to(tmp_path / "here").as_posix()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    } == names
    texts = {name: (tmp_path / "here" / name).read_text() for name in names}
    assert 'my-towers = "mismatch_my_towers"' in texts["pyproject.toml"]
    assert 'name = "mismatch-my-towers"' in texts["pyproject.toml"]
    assert "class MyTowersBackbone(Backbone):" in texts["mismatch_my_towers/backbone.py"]
    assert "@" not in "".join(texts.values()).replace("@mismatch.hookimpl", "").replace(
        "@classmethod", ""
    ).replace("@pytest.fixture", "")
    assert "pip install -e " in result.stderr


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    result = run("new", "bag", "--dir", str(tmp_path))
    assert result.exit_code == 2
    assert "exists and is not an empty folder; choose another one" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
