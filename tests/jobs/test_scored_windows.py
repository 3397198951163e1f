"""mismatch.jobs.scored_windows: rows a window at a time, and what is counted of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.jobs.options import RowSettings
from mismatch.jobs.output.tables import COLUMNS
from mismatch.jobs.prediction_rows import open_prediction_rows
from mismatch.jobs.scored_windows import RunCounts, kept_columns, scored_windows
from mismatch.runtime import pipeline
from mismatch.runtime.predictor import Predictor

LONG = "red shirt shoe bag green blue"


def test_windows_are_counted_each_on_its_own(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 2)
    predictor = Predictor(colour_engine())
    rows = [
        {"image_path": name, "text": text, "sku": sku}
        for name, text, sku in (
            ("red.png", "red", "1"),
            ("gone.png", "red", "2"),
            ("red.png", LONG, "3"),
        )
    ]
    counts = RunCounts()
    with open_prediction_rows(
        rows, None, None, RowSettings(image_base_path=colour_images), whole_header=False
    ) as source:
        windows = list(scored_windows(predictor, source.read(), source, ["sku"]))
    for window in windows:
        counts.add(window)
    assert [(len(one.entries), one.failed, one.long_texts) for one in windows] == [
        (2, 1, 0),
        (1, 0, 1),
    ]
    assert counts == RunCounts(rows=3, failed=1, long_texts=1)
    assert [entry.kept for one in windows for entry in one.entries] == [["1"], ["2"], ["3"]]


def test_columns_that_clash_with_scores_get_another_name() -> None:
    assert kept_columns(["image_path", "text", "sku", "status", "input_status"]) == {
        "sku": "sku",
        "status": "input_input_status",
        "input_status": "input_status",
    }
    assert not set(kept_columns(COLUMNS).values()) & set(COLUMNS)
