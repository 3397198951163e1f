"""Who may import whom: the import-linter contracts of pyproject.toml hold, and each of them notices
a breach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(root), str(root / "plugins")])
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=root,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
    )


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kept, 0 broken" in done.stdout


BREACHES = [
    (
        "mismatch/data/pairs.py",
        "import mismatch.runtime.scoring",
        "a file imports only from lower floors",
    ),
    (
        "mismatch/data/readers/csv.py",
        "import mismatch.data.audit.findings",
        "an audit reads rows; no reader audits",
    ),
    (
        "mismatch/runtime/scoring.py",
        "def f():\n    import torch",
        "no torch is reachable from what predicts in production",
    ),
    (
        "mismatch/runtime/scoring.py",
        "import onnxruntime",
        "only runtime/onnx_graph.py runs onnxruntime",
    ),
    (
        "mismatch/backbones/registry.py",
        "import mismatch_openclip",
        "mismatch knows none of its plugins",
    ),
    (
        "plugins/mismatch_openclip/backbone.py",
        "import mismatch_hf_clip",
        "plugins don't know each other",
    ),
    ("mismatch/novelty.py", "", "a file imports only from lower floors"),
]


@pytest.mark.parametrize(
    ("file", "line", "contract"), BREACHES, ids=[f"{file}: {line}" for file, line, _ in BREACHES]
)
def test_a_breach_is_noticed(tmp_path: Path, file: str, line: str, contract: str) -> None:
    for part in ("mismatch", "plugins"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as target:
        target.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
