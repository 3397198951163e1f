"""What gets installed: the wheel's names, its completeness, its entry points, and that the declared
dependencies are the imported ones.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email import message_from_string
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mismatch
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLUGINS = ["mismatch_hf_clip", "mismatch_openclip"]
TOP_LEVEL = ["mismatch", *PLUGINS]

# Import names whose distribution is called otherwise.
DISTRIBUTIONS = {
    "PIL": "Pillow",
    "yaml": "PyYAML",
    "open_clip": "open_clip_torch",
    "sklearn": "scikit-learn",
}
LIGHT_PARTS = [
    "mismatch/data",
    "mismatch/runtime",
    "mismatch/evaluation",
    "mismatch/errors.py",
    "mismatch/specs.py",
    "mismatch/io/atomic.py",
    "mismatch/words.py",
]
LIGHT_PARTS += [
    "mismatch/__init__.py",
    "mismatch/__main__.py",
    "mismatch/cli/__init__.py",
    "mismatch/cli/predict.py",
    "mismatch/cli/validate.py",
]
LIGHT_PARTS += [
    "mismatch/backbones/__init__.py",
    "mismatch/backbones/hookspecs.py",
    "mismatch/backbones/registry.py",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--sdist",
        "--no-isolation",
        "--outdir",
        str(out),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("mismatch_clip-*.whl")))


def source_files() -> set[str]:
    """Every file of the packages in this checkout, under the name that it has in the wheel."""
    found = set()
    for folder in (ROOT / "mismatch", *(ROOT / "plugins" / name for name in PLUGINS)):
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        found |= {path.relative_to(folder.parent).as_posix() for path in files}
    return found


def test_the_wheel_installs_three_names_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name.split("/")[0] for name in wheel.namelist()}
    assert sorted(names) == [
        *TOP_LEVEL[:1],
        f"mismatch_clip-{mismatch.__version__}.dist-info",
        *TOP_LEVEL[1:],
    ]


def test_no_module_is_missing(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == source_files()
    assert {
        "mismatch/py.typed",
        "mismatch/data/pairs.py",
        "mismatch_openclip/backbone.py",
        "mismatch_hf_clip/__init__.py",
    } <= packed


def test_the_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"mismatch_clip-{mismatch.__version__}.dist-info"
    metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == (
        "mismatch-clip",
        mismatch.__version__,
        ">=3.11",
    )
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "audit",
        "datasets",
        "dev",
        "docs",
        "heif",
        "hub",
        "parquet",
        "ray",
        "remote",
        "report",
        "serve",
        "train",
    }
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_entry_points(wheel: zipfile.ZipFile) -> None:
    text = wheel.read(f"mismatch_clip-{mismatch.__version__}.dist-info/entry_points.txt").decode()
    assert "[console_scripts]\nmismatch = mismatch.cli:main" in text
    for group, points in {
        "mismatch": ["hf-clip", "openclip"],
        "mismatch.engines": ["onnx", "torch"],
    }.items():
        section = text.split(f"[{group}]\n")[1].split("\n\n")[0]
        assert [line.split(" = ")[0] for line in section.splitlines()] == points


@pytest.mark.parametrize(
    "value",
    [
        *PROJECT["scripts"].values(),
        *(value for group in PROJECT["entry-points"].values() for value in group.values()),
    ],
)
def test_an_entry_point_names_something(value: str) -> None:
    module, _, attribute = value.partition(":")
    loaded = import_module(module)
    assert callable(getattr(loaded, attribute or "register_backbones"))


def test_the_sdist_has_what_a_packager_needs_and_no_more(built: Path) -> None:
    with tarfile.open(next(built.glob("mismatch_clip-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "cli.py",
        "tests/project/test_packaging.py",
        "plugins/mismatch_openclip/backbone.py",
    } <= names
    allowed = {
        ".ci",
        ".github",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "SECURITY.md",
        "cli.py",
        "mkdocs.yml",
        "pyproject.toml",
    }
    allowed |= {"benchmarks", "docs", "examples", "mismatch", "plugins", "tests"}
    assert {name.split("/")[0] for name in names} <= allowed


def test_gitignore_can_not_drop_a_part_of_the_package() -> None:
    lines = [
        line
        for line in (ROOT / ".gitignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines
    assert [
        line
        for line in lines
        if not line.startswith("/") and line not in {"__pycache__/", "*.py[co]"}
    ] == []


def third_party(paths: Iterable[Path]) -> set[str]:
    """Distributions that the files import, wherever in the file, imports for the type checker
    aside; normalised names.
    """
    names: set[str] = set()
    for path in paths:
        for node in _without_type_checking(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return {
        _normal(DISTRIBUTIONS.get(name, name))
        for name in names - set(sys.stdlib_module_names) - set(TOP_LEVEL)
    }


def _without_type_checking(tree: ast.AST) -> Iterable[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            yield node
            yield from _without_type_checking(node)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: Iterable[str]) -> set[str]:
    return {_normal(Requirement(line).name) for line in requirements}


def modules(parts: Iterable[str]) -> list[Path]:
    return [
        path
        for part in parts
        for path in ([ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py")))
    ]


def test_the_light_parts_import_only_base_dependencies() -> None:
    imported = third_party(modules(LIGHT_PARTS))
    lazily = {
        name
        for extra in ("audit", "heif", "hub", "parquet", "remote")
        for name in declared(PROJECT["optional-dependencies"][extra])
    }  # with the pip line where they are missing
    assert imported <= declared(PROJECT["dependencies"]) | lazily
    assert {"numpy", "onnxruntime", "tokenizers", "pillow", "click", "pluggy", "regex"} <= imported


def test_every_dependency_is_declared_and_used() -> None:
    base, extras = declared(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    train, parquet, remote, audit, report, serve, ray, heif = (
        declared(extras[name])
        for name in ("train", "parquet", "remote", "audit", "report", "serve", "ray", "heif")
    )
    # pydantic's other half, of which it asks for exactly one version
    imported = third_party(modules(["mismatch", "plugins"])) - {"pydantic-core"}
    used_by_another = {"onnxscript"}  # by torch.onnx.export(dynamo=True)
    by_name = {"cleanlab"}  # importlib.import_module
    assert (
        imported - base - train
        == (parquet | remote | audit | serve | heif | (ray - {"mismatch-clip"}))
        - base
        - train
        - by_name
    )
    assert base - imported == set()
    # by open_clip: it has to fit torch, and to unpickle nothing
    assert train - imported - used_by_another <= {"timm", "torchvision"}
    assert base & train == set()
    assert report == {"matplotlib"}
    assert report <= imported


def test_no_extra_is_empty() -> None:
    extras = PROJECT["optional-dependencies"]
    assert [name for name in sorted(extras) if not extras[name]] == []
