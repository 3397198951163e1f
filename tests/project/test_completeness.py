"""Nothing is forgotten: every command, hook and public name has a docstring, a place on the site
and a test; every module a test file.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import click
import pytest

import mismatch
from generate import pages
from mismatch import cli
from mismatch.backbones import hookspecs
from mismatch.backbones.base import Backbone
from mismatch.specs import ImageSpec, TextSpec
from mismatch.testing import contract
from tests.support.paths import ROOT

PACKAGE = ROOT / "mismatch"
SITE = pages()
PYTHON = "reference/python/"
GUIDE = "\n".join(text for name, text in SITE.items() if "plugins" in name)

# Modules without a test file of their own, and where they are tested.
TESTED_ELSEWHERE = {
    "mismatch.reports.doctor_lines": "jobs/test_doctor",
    "mismatch.reports.start_lines": "cli/test_cli",
    "mismatch.training.option_groups": "cli/test_sections",
    "mismatch.io.endings": "cli/test_cli",
    "mismatch.io.explained_errors": "cli/test_cli",
    "mismatch.jobs.predict_pair": "cli/test_predict",
    "mismatch.jobs.threshold_choice": "jobs/test_tune_threshold",
    "mismatch.jobs.split_result": "jobs/test_split",
    "mismatch.reports.backbone_lines": "cli/test_backbones",
    "mismatch.reports.benchmark_lines": "jobs/test_benchmark",
    "mismatch.reports.calibration_lines": "jobs/test_calibrate",
    "mismatch.reports.export_lines": "jobs/test_export_onnx",
    "mismatch.reports.negatives_lines": "jobs/test_make_negatives",
    "mismatch.jobs.negative_rows": "jobs/test_make_negatives",
    "mismatch.jobs.negative_backbone": "jobs/test_make_negatives",
    "mismatch.data.similar_texts": "data/test_negatives",
    "mismatch.data.word_use": "data/test_text_fit",
    "mismatch.reports.prediction_lines": "cli/test_predict",
    "mismatch.reports.quickstart_lines": "jobs/test_quickstart",
    "mismatch.reports.split_lines": "jobs/test_split",
    "mismatch.testing.backbone_check": "cli/test_backbones",
    "mismatch.testing.devices": "testing/test_contract",
    "mismatch.testing.side_effects": "testing/test_contract",
    "mismatch.backbones.families": "backbones/test_registry",
    "mismatch.data.audit.between_files": "data/audit/test_files",
    "mismatch.data.audit.picture_check": "jobs/test_audit",
    "mismatch.data.audit.places": "data/audit/test_shift",
    "mismatch.data.audit.row_check": "jobs/test_audit",
    "mismatch.data.readers.dataset_folder": "data/readers/test_arrow",
    "mismatch.evaluation.machine": "evaluation/test_speed",
    "mismatch.evaluation.timing": "evaluation/test_speed",
    "mismatch.export.triton_check": "export/test_triton",
    "mismatch.export.triton_names": "export/test_triton",
    "mismatch.io.reading": "io/test_atomic",
    "mismatch.io.stores": "io/test_remote",
    "mismatch.runtime.explanation": "jobs/test_explain",
    "mismatch.runtime.onnx_graph": "runtime/test_onnx_engine",
    "mismatch.runtime.structure": "runtime/test_image_bounds",
    "mismatch.reference": "test_specs",
    "mismatch.spec_base": "test_specs",
    "mismatch.training.config_checks": "training/test_config",
    "mismatch.training.feeds.feeds": "training/feeds/test_batches",
    "mismatch.training.folder.earlier": "training/folder/test_output",
    "mismatch.training.head_file": "training/test_checkpoint",
    "mismatch.__main__": "cli/test_cli",
    "mismatch.backbones.base": "backbones/test_registry",
    "mismatch.backbones.hookspecs": "backbones/test_registry",
    "mismatch.export.triton_head": "export/test_triton",
    "mismatch.testing.checks": "testing/test_contract",
    "mismatch.testing.declarations": "testing/test_contract",
    "mismatch.testing.disk": "testing/test_contract",
    "mismatch.testing.onnx": "testing/test_contract",
    "mismatch.testing.outcomes": "testing/test_contract",
    "mismatch.testing.packaging": "testing/test_contract",
    "mismatch.testing.probes": "testing/test_contract",
    "mismatch.testing.samples": "testing/test_contract",
    "mismatch.testing.towers": "testing/test_contract",
    "mismatch.testing.training": "testing/test_contract",
    "mismatch.testing.upstream": "testing/test_contract",
    "mismatch.cli": "cli/test_cli",
    "mismatch.training.new_head": "training/test_run",
    "mismatch.training.run_lines": "training/test_run",
    "mismatch.training.saving": "training/folder/test_resume",
    "mismatch.training.trained_model": "training/test_run",
    "mismatch.training.validation": "training/test_run",
}
# Test files that stand for something other than one module, beside those in `project`.
ABOUT_THE_WHOLE = {
    "cli/test_cli",
    "export/test_triton_client",
    "jobs/test_jobs",
    "runtime/test_hostile_bundles",
    "serving/test_client",
    "serving/test_hostile_bodies",
    "serving/test_openapi",
    "serving/test_page_in_chromium",
    "serving/test_page_modules",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def path_of_test(module: str) -> str:
    """Return where the tests of a module lie: those of `mismatch.data.split` in `data/test_split`."""
    room, _, name = module.removeprefix("mismatch.").rpartition(".")
    return f"{room.replace('.', '/')}/test_{name}".lstrip("/")


def shares_a_test(module: str) -> bool:
    """Return whether a namesake's test file stands for this module: a verb's command, its job and
    its lines are tested together.
    """
    name = module.rpartition(".")[2]
    return any(path_of_test(other) in TEST_FILES for other in MODULES if other.endswith(f".{name}"))


# former homes, which warn; where they lead is tested with the new home
FORMER = {"mismatch.backbones.contract", "mismatch.files"}
MODULES = sorted({module_name(path) for path in PACKAGE.rglob("*.py")} - FORMER)
PACKAGES = {module_name(path) for path in PACKAGE.rglob("__init__.py")}
PLUGINS = sorted(
    path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").is_file()
)
TESTS = ROOT / "tests"
TEST_FILES = {
    path.relative_to(TESTS).with_suffix("").as_posix()
    for path in TESTS.rglob("test_*.py")
    if path.relative_to(TESTS).parts[0] not in ("plugins", "faults")
}


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None, f"mismatch {' '.join(path)} lists {name}, which is not there"
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = list(commands(cli.main))
HOOKS = [value for value in vars(hookspecs).values() if hasattr(value, "mismatch_spec")]


def test_the_loops_below_are_not_empty() -> None:
    assert {path[0] for path, _ in COMMANDS} == set(cli.VERBS)
    assert cli.command_paths() == [(), *(path for path, _ in COMMANDS)]
    assert [hook.__name__ for hook in HOOKS] == ["register_backbones"]
    assert len(MODULES) > 25
    assert PLUGINS == ["mismatch_hf_clip", "mismatch_openclip"]


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS]
)
def test_a_command_has_help_a_page_and_a_test(
    path: tuple[str, ...], command: click.Command
) -> None:
    assert command.help
    assert len(command.get_short_help_str(200).split()) >= 2
    name = f"`mismatch {' '.join(path)}`"
    assert f"# {name}\n" in SITE[f"reference/commands/{path[0]}.md"]
    assert f"| [{name}](" in SITE["reference/commands.md"]
    verb = path[0].replace("-", "_")
    assert {f"cli/test_{verb}", f"jobs/test_{verb}"} & TEST_FILES


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS]
)
def test_every_option_says_what_it_does(path: tuple[str, ...], command: click.Command) -> None:
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert options or isinstance(command, click.Group)
    assert [option.name for option in options if not option.help and not option.hidden] == []
    page = SITE[f"reference/commands/{path[0]}.md"]
    for option in options:
        assert option.hidden or all(f"`{name}`" in page for name in option.opts), option.opts
        assert all(
            re.fullmatch(r"-[a-z]|--[a-z0-9-]+", spelling)
            for spelling in [*option.opts, *option.secondary_opts]
        ), option.opts


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_a_hook_has_a_docstring_a_page_and_a_test(hook: object) -> None:
    name = getattr(hook, "__name__", "")
    assert inspect.getdoc(hook)
    assert name in SITE["reference/python.md"]
    assert name in (ROOT / "tests" / "backbones" / "test_registry.py").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *Backbone.__annotations__,
        *(name for name in vars(Backbone) if inspect.isfunction(vars(Backbone)[name])),
    ],
)
def test_a_member_of_a_backbone_stands_in_the_guide_and_is_checked(name: str) -> None:
    assert f"`{name}" in GUIDE
    sources = "".join(path.read_text() for path in (PACKAGE / "testing").glob("*.py"))
    assert name in sources


@pytest.mark.parametrize(
    "name", [field.name for spec in (ImageSpec, TextSpec) for field in fields(spec)]
)
def test_a_field_of_a_spec_stands_in_the_guide(name: str) -> None:
    assert re.search(rf"^\| [^|]*`{name}`", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("argument", inspect.signature(hookspecs.Register.__call__).parameters)
def test_an_argument_of_register_stands_in_the_guide(argument: str) -> None:
    assert argument == "self" or f"| `{argument}` |" in GUIDE


@pytest.mark.parametrize("name", contract.__all__)
def test_a_name_of_the_contract_stands_in_the_guide_and_has_a_test(name: str) -> None:
    assert name in GUIDE
    assert re.search(rf"\b{name}\b", (ROOT / "tests" / "testing" / "test_contract.py").read_text())


@pytest.mark.parametrize("name", [name for name in mismatch.__all__ if name != "__version__"])
def test_a_public_name_has_a_test(name: str) -> None:
    assert any(
        re.search(rf"\b{name}\b", path.read_text())
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != Path(__file__).name
    )


@pytest.mark.parametrize("name", [name for name in mismatch.__all__ if name != "__version__"])
def test_a_public_name_has_a_docstring_and_its_place_on_the_site(name: str) -> None:
    value = getattr(mismatch, name)
    assert inspect.getdoc(value)
    if name.endswith("Error"):
        assert f"| `{name}` |" in SITE["reference/errors.md"]
    else:
        pages_of_python = [text for page, text in SITE.items() if page.startswith(PYTHON)]
        assert sum(f"::: mismatch.{name}\n" in text for text in pages_of_python) == 1
    assert re.search(rf"\b{name}\b", SITE["reference/python.md"])


DATACLASSES = [
    value
    for name in mismatch.__all__
    if is_dataclass(value := getattr(mismatch, name)) and inspect.isclass(value)
]


@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
def test_the_help_of_a_public_dataclass_explains_every_field(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    explained = re.findall(r"^(?:`(\w+)`|(\w+) \(.+?\)): \S", text, re.MULTILINE)
    names = {name or other for name, other in explained}
    assert [field.name for field in fields(kind) if field.name not in names] == []


def test_dir_lists_the_public_names_and_an_unknown_one_is_an_attribute_error() -> None:
    assert set(mismatch.__all__) <= set(dir(mismatch))
    with pytest.raises(AttributeError, match="'mismatch' has no attribute 'nothing'"):
        _ = mismatch.nothing


def test_the_table_of_contents_is_lazy() -> None:
    code = (
        "import sys, mismatch; print(sorted({'click', 'mismatch.errors', 'numpy', 'onnxruntime',"
        " 'pluggy', 'torch'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_holds(name: str) -> None:
    module = import_module(name)
    assert len((inspect.getdoc(module) or "").partition("\n")[0].split()) >= 3
    for public in getattr(module, "__all__", []):
        value = getattr(module, public)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", sorted(set(MODULES) - PACKAGES - {"mismatch.__main__"}))
def test_a_module_lists_its_public_names(name: str) -> None:
    module = import_module(name)
    assert module.__all__
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


def test_every_module_has_a_test_file_and_every_test_file_a_module() -> None:
    plain = [name for name in MODULES if name not in TESTED_ELSEWHERE and name not in PACKAGES]
    assert [name for name in plain if not shares_a_test(name)] == []
    known = {path_of_test(name) for name in plain} | ABOUT_THE_WHOLE
    rest = TEST_FILES - known - set(TESTED_ELSEWHERE.values())
    assert sorted(path for path in rest if not path.startswith("project/")) == []
    assert sorted(set(TESTED_ELSEWHERE) - set(MODULES)) == []
    assert sorted(set(TESTED_ELSEWHERE.values()) - TEST_FILES) == []


def test_the_threat_model_names_tests_that_are_there() -> None:
    named = set(re.findall(r"`((?:\w+/)*test_\w+)\.py`", (ROOT / "SECURITY.md").read_text()))
    named = {name.removeprefix("tests/") for name in named}
    assert len(named) > 30
    assert sorted(named - TEST_FILES) == []


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_is_laid_out_like_the_others(name: str) -> None:
    files = {path.name for path in (ROOT / "plugins" / name).glob("*.py")}
    assert {"__init__.py", "backbone.py"} <= files
    assert (ROOT / "tests" / "plugins" / f"test_{name.removeprefix('mismatch_')}.py").is_file()


def test_the_generated_parts_of_documents_are_up_to_date() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    generated = [str(path) for path in documents if "[[[cog" in path.read_text()]
    assert generated
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", *generated]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


# of several benchmarks, or of a benchmark and tests
HELPERS = {"contenders.py", "hostile_pictures.py"}


@pytest.mark.parametrize(
    "path",
    sorted(path for path in (ROOT / "benchmarks").glob("*.py") if path.name not in HELPERS),
    ids=lambda path: path.stem,
)
def test_a_benchmark_is_called_one_and_described(path: Path) -> None:
    assert path.stem.startswith("bench_")
    assert path.name in (ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name
)
def test_an_example_knows_the_public_api_only(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    known = {
        name
        for name in modules
        if name.partition(".")[0] in {"mismatch", "mismatch_hf_clip", "mismatch_openclip"}
    }
    assert known <= {
        "mismatch",
        "mismatch.backbones.base",
        "mismatch.backbones.model_folders",
        "mismatch.testing.contract",
    }
