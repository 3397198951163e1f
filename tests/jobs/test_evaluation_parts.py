"""The parts of an evaluation beyond its figures: blind baselines, worst errors, rows that only one
model scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.data.pairs import resolve_image
from mismatch.data.rows import Row
from mismatch.errors import InputError, MissingExtraError
from mismatch.jobs.evaluation_parts import (
    compare_models,
    log_unscorable,
    measure,
    measure_baselines,
    worst_errors,
)
from mismatch.jobs.labelled_rows import Labelled
from mismatch.runtime.pipeline import EmbeddingMemo
from mismatch.runtime.predictor import Prediction


def tally(labels: list[int], scores: list[float], **more: Any) -> Labelled:
    count = len(labels)
    images = [f"{i}.png" for i in range(count)]
    values: dict[str, Any] = {
        "thresholds": [0.5] * count,
        "images": images,
        "texts": ["red shirt"] * count,
        "lines": list(range(2, count + 2)),
    }
    return Labelled(labels, scores, **(values | more))


def test_rows_and_what_is_asked_of_their_columns() -> None:
    found = Labelled(columns={"shop": []})
    found.add(
        Row(2, "a.png", "red", 1, {"shop": "x"}),
        Prediction("a.png", "red", 0.7, 0.4, True, "match", "ok", 0.8),
    )
    found.add(
        Row(3, "b.png", "red", 0, {"shop": "y"}),
        Prediction("b.png", "red", None, 0.4, None, "error", "gone"),
    )
    assert (found.labels, found.scores, found.thresholds, found.columns) == (
        [1],
        [0.7],
        [0.4],
        {"shop": ["x"]},
    )
    assert (found.unscorable, found.first) == (1, [{"line": 3, "status": "gone"}])


def test_how_intervals_were_drawn_is_said() -> None:
    assert measure(tally([1, 0], [0.9, 0.1]))["bootstrap"] == {
        "level": 0.95,
        "resampled_by": "row",
        "images": 2,
    }
    assert measure(tally([1, 0], [0.9, 0.1], images=["a", "a"]))["bootstrap"] == {
        "level": 0.95,
        "resampled_by": "image",
        "images": 1,
    }


def test_the_worst_errors_keep_the_picture_of_an_image_that_goes(colour_images: Path) -> None:
    rows = tally([0, 1, 1], [0.9, 0.1, 0.8], images=["red.png", "blue.png", "red.png"])
    found = worst_errors(rows, str(colour_images), None)
    assert [(row.line, row.image_path, row.picture) for row in found["missed"]] == [
        (2, "red.png", None)
    ]
    [alarm] = worst_errors(rows, str(colour_images), colour_images)["alarms"]
    assert (alarm.line, alarm.image_path) == (3, "blue.png")
    assert str(alarm.picture).startswith("data:image/jpeg;base64,")
    [alarm] = worst_errors(rows, str(colour_images), colour_images / "elsewhere")["alarms"]
    assert alarm.picture is None


def test_texts_and_images_that_give_the_label_away_are_found() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    labels = [int(label) for label in rng.integers(0, 2, 200)]
    told = [f"{'genuine' if label else 'fake'} item {i}" for i, label in enumerate(labels)]
    plain = [f"item {i}" for i in range(200)]
    known = EmbeddingMemo.empty()
    for i, label in enumerate(labels):
        known.images.add(
            resolve_image("", f"{i}.png"), np.array([label, *rng.random(3)], np.float32)
        )
    found = measure_baselines(tally(labels, [0.5] * 200, texts=told), known, "")
    assert found["text_auroc"] is not None
    assert found["text_auroc"] > 0.95
    assert found["image_auroc"] is not None
    assert found["image_auroc"] > 0.95
    found = measure_baselines(tally(labels, [0.5] * 200, texts=plain), EmbeddingMemo.empty(), "")
    assert found["text_auroc"] == pytest.approx(0.5, abs=0.15)
    assert found["image_auroc"] is None


def test_without_the_extra_there_is_a_line_and_no_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> float:
        raise MissingExtraError("a blind baseline", "audit")

    monkeypatch.setattr("mismatch.jobs.evaluation_parts.blind_text_auroc", missing)
    found = measure_baselines(tally([0, 1] * 60, [0.5] * 120), EmbeddingMemo.empty(), "")
    assert (found["text_auroc"], found["image_auroc"]) == (None, None)
    assert 'pip install "mismatch-clip[audit]"' in found["why"]


def test_models_are_compared_on_the_rows_of_both(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mismatch")
    first = tally([1, 0, 1, 0], [0.9, 0.1, 0.8, 0.2])
    second = tally([1, 0, 0], [0.2, 0.1, 0.9], lines=[2, 3, 5])
    second.unscorable = 1
    log_unscorable(first, second, "n")
    assert "`against` n could score 1 rows fewer" in caplog.text
    found = compare_models(first, second, "n")
    assert found["rows"] == 3
    assert found["mcnemar"] == {"only_first": 2, "only_second": 0, "p_value": 0.5}
    assert found["auroc"] == [1.0, 0.5]
    with pytest.raises(InputError, match="no row could be scored by both"):
        compare_models(first, tally([1], [0.5], lines=[77]), "n")
