"""Labelled rows and what a model says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.cli.labelled import bounds, check_labels, figure_lines, score_labelled
from mismatch.data.columns import Columns
from mismatch.errors import InputError
from mismatch.evaluation.bootstrap import Interval
from mismatch.evaluation.threshold import FIGURES
from mismatch.runtime.predictor import Predictor


def test_rows_and_columns_stay_together(
    colour_engine: Any, colour_images: Path, write_rows: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("red.png", "red", 1, "x"), ("absent.png", "red", 0, "y"), ("blue.png", "red", 0, "z")]
    path = write_rows(colour_images / "rows.csv", [("image_path", "text", "label", "kind"), *rows])
    found = score_labelled(
        Predictor(colour_engine()), path, str(colour_images), Columns(), wanted=["kind"]
    )
    assert (found.labels, found.images, found.columns, found.unscorable) == (
        [1, 0],
        ["red.png", "blue.png"],
        {"kind": ["x", "z"]},
        1,
    )
    assert found.logits == pytest.approx([1, -3])
    assert found.scores[0] > 0.7 > 0.3 > found.scores[1]
    assert "1 row could not be scored and is left out:" in capsys.readouterr().err
    with pytest.raises(
        InputError, match="2 labelled rows, 3 are needed; 1 other could not be scored"
    ):
        score_labelled(Predictor(colour_engine()), path, str(colour_images), Columns(), least=3)


def test_wrong_files_are_refused_before_a_model_is_loaded(tmp_path: Path, write_rows: Any) -> None:
    good = write_rows(tmp_path / "good.csv", [("image_path", "text", "label"), ("a.png", "red", 1)])
    check_labels(good, Columns())
    with pytest.raises(
        InputError, match="there is no column 'kind'; found 'image_path', 'text', 'label'"
    ):
        check_labels(good, Columns(), ["kind"])
    with pytest.raises(InputError, match="label 'maybe'"):
        check_labels(
            write_rows(
                tmp_path / "bad.csv", [("image_path", "text", "label"), ("a.png", "red", "maybe")]
            ),
            Columns(),
        )
    with pytest.raises(InputError, match="no rows under the header"):
        check_labels(
            write_rows(tmp_path / "empty.csv", [("image_path", "text", "label")]), Columns()
        )


def test_figures_have_a_line_each() -> None:
    lines = figure_lines(dict.fromkeys(FIGURES, 0.5), dict.fromkeys(FIGURES, Interval(0.4, 0.6)))
    assert len(lines) == len(FIGURES)
    assert lines[1] == "mismatches: precision  0.5000  0.4000..0.6000"
    assert bounds(Interval(float("nan"), float("nan"))) == "–"
