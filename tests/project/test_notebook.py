"""docs/tutorials/from-python.ipynb does the whole job when its cells run one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.notebook import code_cells, read_notebook, run_cells
from tests.support.paths import ROOT

NOTEBOOK = read_notebook(ROOT / "docs" / "tutorials" / "from-python.ipynb")


def printed(outputs: list[dict[str, Any]]) -> str:
    """Return what a cell shows as text."""
    return "".join(
        "".join(output.get("text") or output["data"]["text/plain"]) for output in outputs
    )


@pytest.mark.slow
def test_the_notebook_ends_with_a_bundle_that_tells_pairs_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = [printed(outputs) for outputs in run_cells(NOTEBOOK, tmp_path)]
    text = "\n".join(results)
    auroc = re.search(r"AUROC (\d\.\d+)", text)
    assert auroc is not None, text
    assert float(auroc[1]) > 0.75
    assert (tmp_path / "tour" / "bundle" / "manifest.json").is_file()
    stored = [printed(cell["outputs"]) for cell in code_cells(NOTEBOOK)]
    assert [bool(shown) for shown in results] == [bool(shown) for shown in stored]
