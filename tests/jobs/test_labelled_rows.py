"""Labelled rows and what a model says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.errors import InputError
from mismatch.jobs.labelled_rows import check_labels, refuse_to_store, score_labelled
from mismatch.jobs.options import RowSource
from mismatch.runtime.predictor import Predictor

LONG = "red shirt shoe bag green blue"


def test_rows_and_columns_stay_together(
    colour_engine: Any, colour_images: Path, write_rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = [("red.png", "red", 1, "x"), ("absent.png", "red", 0, "y"), ("blue.png", "red", 0, "z")]
    path = write_rows(colour_images / "rows.csv", [("image_path", "text", "label", "kind"), *rows])
    source = RowSource("rows", path, str(colour_images), Columns())
    found = score_labelled(Predictor(colour_engine()), source, wanted=["kind"])
    assert (found.labels, found.images, found.columns, found.unscorable) == (
        [1, 0],
        ["red.png", "blue.png"],
        {"kind": ["x", "z"]},
        1,
    )
    assert found.logits == pytest.approx([1, -3])
    assert found.scores[0] > 0.7 > 0.3 > found.scores[1]
    assert "1 row could not be scored and is left out:" in caplog.text
    with pytest.raises(
        InputError, match="2 labelled rows, 3 are needed; 1 other could not be scored"
    ):
        score_labelled(Predictor(colour_engine()), source, min_rows=3)


def test_wrong_files_are_refused_before_a_model_is_loaded(tmp_path: Path, write_rows: Any) -> None:
    good = write_rows(tmp_path / "good.csv", [("image_path", "text", "label"), ("a.png", "red", 1)])
    header = ("image_path", "text", "label")
    bad = write_rows(tmp_path / "bad.csv", [header, ("a.png", "red", "maybe")])
    empty = write_rows(tmp_path / "empty.csv", [header])
    check_labels(RowSource("rows", good, "", Columns()))
    with pytest.raises(
        InputError, match="there is no column 'kind'; found 'image_path', 'text', 'label'"
    ):
        check_labels(RowSource("rows", good, "", Columns()), ["kind"])
    with pytest.raises(InputError, match="label 'maybe'"):
        check_labels(RowSource("rows", bad, "", Columns()))
    with pytest.raises(InputError, match="no rows under the header"):
        check_labels(RowSource("rows", empty, "", Columns()))


def test_long_texts_of_other_calls_are_not_counted(
    colour_engine: Any, colour_images: Path, write_rows: Any
) -> None:
    path = write_rows(
        colour_images / "rows.csv",
        [("image_path", "text", "label"), ("red.png", LONG, 1), ("blue.png", LONG, 0)],
    )
    source = RowSource("rows", path, str(colour_images), Columns())
    predictor = Predictor(colour_engine())
    for _ in range(2):
        found = score_labelled(predictor, source)
        assert (found.long_texts, found.truncated) == (1, 1)
    found = score_labelled(Predictor(colour_engine(), long_text="chunk"), source)
    assert (found.long_texts, found.truncated) == (1, 0)


def test_what_makes_a_model_worse_is_refused_and_a_dry_run_says_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refuse_to_store("", dry_run=False)
    with pytest.raises(InputError, match="it decides nothing"):
        refuse_to_store("it decides nothing", dry_run=False)
    refuse_to_store("it decides nothing", dry_run=True)
    assert [record.message for record in caplog.records] == ["it decides nothing"]
