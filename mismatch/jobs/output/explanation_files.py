"""Explanations as files: a picture, figures as JSON, or a folder of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError
from mismatch.io.atomic import write_bytes, write_json
from mismatch.io.outputs import OutputKind, check_outputs, json_report, picture
from mismatch.io.replacing import remove_earlier
from mismatch.reports.explained_picture import explanation_png
from mismatch.reports.explanation_lines import raising_swaps
from mismatch.runtime.explanation import Explanation

__all__ = [
    "check_explanation_output",
    "names_file",
    "write_explanation",
    "write_row_explanations",
]

FILES = (".png", ".json")  # endings of an output that is a file; anything else is a folder
PAIR = re.compile(r"explanation\.(?:json|png)")  # what is written to a folder of one pair
ROW_PICTURE = re.compile(r"\d{3,}-line-\d+\.png")  # such a folder of rows has one each
ROWS = "explanations.json"
KINDS = {
    ".png": picture("a picture"),
    ".json": json_report(
        "an explanation",
        ("similarity_score", "words"),
        ("line", *(field.name for field in fields(Explanation))),
    ),
}


def names_file(output: Path) -> bool:
    """Return whether this is written as one file; else it is a folder."""
    return output.suffix.lower() in FILES


def check_explanation_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output before any work is done: InputError and CheckpointError as
    `check_outputs`.
    """
    written: list[tuple[str, Path, OutputKind | None]]
    if names_file(output):
        written = [("`output`", output, KINDS[output.suffix.lower()])]
    else:
        written = [("`output`", output, None)]
        written += [("`output`", path, KINDS[path.suffix]) for path in _own_files(output)]
    check_outputs(written, inputs)


def write_explanation(output: Path, explanation: Explanation) -> None:
    """Write one pair: NAME.png, NAME.json, or a folder of both."""
    if output.suffix.lower() == ".png":
        _write_picture(output, explanation)
    elif output.suffix.lower() == ".json":
        write_json(output, explanation.to_dict())
    else:
        _make_folder(output)
        _write_picture(output / "explanation.png", explanation)
        write_json(output / "explanation.json", explanation.to_dict())


def write_row_explanations(
    output: Path, explanations: Sequence[tuple[int, Explanation]], data: Sequence[Mapping[str, Any]]
) -> None:
    """Write rows, the worst first, each with its line: NAME.json, or a folder of it and a picture
    each. Pictures of earlier rows go. `data`: the figures.
    """
    if names_file(output):
        write_json(output, data)
        return
    _make_folder(output)
    names = set()
    for rank, (line, explanation) in enumerate(explanations, start=1):
        name = f"{rank:03}-line-{line}.png"
        _write_picture(output / name, explanation)
        names.add(name)
    for path in _own_files(output):
        if ROW_PICTURE.fullmatch(path.name) and path.name not in names:
            remove_earlier(path)
    write_json(output / ROWS, data)


def _own_files(folder: Path) -> list[Path]:
    """Return what is in a folder under the names that explanations have."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name == ROWS or PAIR.fullmatch(path.name) or ROW_PICTURE.fullmatch(path.name)
    ]


def _write_picture(path: Path, explanation: Explanation) -> None:
    write_bytes(path, explanation_png(explanation, raising_swaps(explanation)))


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"`output` {output} can't be created: {error.strerror}; choose another"
        ) from error
