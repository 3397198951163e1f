"""mismatch.jobs.output.explanation_files: what is written of explanations, and what is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError
from mismatch.jobs.output.explanation_files import (
    check_explanation_output,
    names_file,
    write_explanation,
    write_row_explanations,
)
from mismatch.runtime.explain import explain
from mismatch.runtime.explanation import Explanation
from mismatch.runtime.predictor import Predictor
from tests.support.files import names


@pytest.fixture
def found(colour_engine: Any, colour_images: Path) -> Explanation:
    return explain(Predictor(colour_engine()), colour_images / "red.png", "blue shirt")


def test_a_pair_is_a_picture_figures_or_a_folder_of_both(
    found: Explanation, tmp_path: Path
) -> None:
    for name in ("one.png", "one.json", "folder"):
        write_explanation(tmp_path / name, found)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "one.json").read_text()) == found.to_dict()
    assert names(tmp_path / "folder") == ["explanation.json", "explanation.png"]
    assert [names_file(Path(name)) for name in ("a.PNG", "a.json", "a")] == [True, True, False]
    for name in ("one.png", "one.json", "folder"):
        check_explanation_output(tmp_path / name, [])


def test_pictures_of_earlier_rows_go_and_other_files_stay(
    found: Explanation, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    write_row_explanations(folder, [(4, found), (2, found), (9, found)], [found.to_dict()] * 3)
    (folder / "notes.png").write_text("mine")
    check_explanation_output(folder, [])
    write_row_explanations(folder, [(2, found)], [found.to_dict()])
    assert names(folder) == ["001-line-2.png", "explanations.json", "notes.png"]


def test_what_is_there_and_not_ours_is_refused(found: Explanation, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "001-line-2.png").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is not a picture of mismatch"):
        check_explanation_output(tmp_path / "out", [])
    with pytest.raises(CheckpointError, match=r"`output` .* can't be created"):
        write_explanation(tmp_path / "file", found)
