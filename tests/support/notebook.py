"""Runs a notebook's code cells in this process, without Jupyter; `python -m tests.support.notebook
FILE` stores what they print in the notebook.
"""

from __future__ import annotations

import ast
import json
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["code_cells", "read_notebook", "run_cells", "store_outputs"]


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook of nbformat 4 as JSON has it."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells to run, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(notebook: Mapping[str, Any], folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Run the code cells in `folder`, one after the other, and give the outputs of each."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(notebook):
        printed = StringIO()
        with chdir(folder), redirect_stdout(printed):
            value = _run("".join(cell["source"]), namespace)
        outputs = [_stream(printed.getvalue())] if printed.getvalue() else []
        if value is not None:
            outputs.append(_result(value))
        yield outputs


def _run(source: str, namespace: dict[str, Any]) -> Any:
    """Run one cell and return the value of its last expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "cell", "exec"), namespace)  # noqa: S102 (the project's own)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


def _stream(text: str) -> dict[str, Any]:
    return {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}


def _result(value: Any) -> dict[str, Any]:
    """Return a value as a notebook keeps it: its text, of a PIL image the picture too."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if isinstance(value, Image.Image):
        data["text/plain"] = [f"<picture of {value.width} x {value.height} pixels>"]
        data["image/png"] = b64encode(value._repr_png_() or b"").decode()
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def store_outputs(path: Path) -> None:
    """Run a notebook in a temporary folder and write the outputs of its cells into it."""
    notebook = read_notebook(path)
    with tempfile.TemporaryDirectory() as folder:
        results = run_cells(notebook, Path(folder))
        for number, (cell, outputs) in enumerate(zip(code_cells(notebook), results, strict=True)):
            cell["outputs"] = outputs
            cell["execution_count"] = number + 1
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    store_outputs(Path(sys.argv[1]))
