"""Predictions: neither true nor false, counted by their call, and as a table of the caller's."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.data.columns import Columns
from mismatch.data.readers.memory import value_text
from mismatch.data.rows import Row
from mismatch.errors import InputError, MisuseError
from mismatch.runtime.predictions import Prediction, decisive, table_like
from mismatch.runtime.predictor import Predictor, load
from mismatch.runtime.score_file import write_score
from mismatch.specs import Calibration, SliceThresholds

GOOD = Prediction("a.png", "red", 0.7, 0.5, True, "match", "ok", 1.0)
WORSE = Prediction("b.png", "red", 0.2, 0.5, False, "mismatch", "ok", -1.0)
BAD = Prediction("c.png", "red", None, 0.5, None, "error", "image 'c.png' not found")
DAY = datetime(2024, 1, 2)
NOON = datetime(2024, 1, 2, 12, 30)
LONG = "red shirt bag shoe\nblue shirt"


@pytest.mark.parametrize("prediction", [GOOD, WORSE, BAD])
def test_a_prediction_has_no_truth(prediction: Prediction) -> None:
    with pytest.raises(MisuseError, match="is_match"):
        bool(prediction)
    with pytest.raises(TypeError):
        list(filter(None, [prediction]))


def test_one_of_several_decides() -> None:
    assert decisive([WORSE, GOOD], best=True, image_path="b;a").similarity_score == 0.7
    assert decisive([GOOD, WORSE], best=False, image_path="a;b").similarity_score == 0.2
    found = decisive([GOOD, BAD, WORSE], best=True, image_path="a;c;b")
    assert (found.status, found.image_path) == ("image 'c.png' not found", "a;c;b")


def test_each_call_counts_its_own_texts(colour_engine: Any, colour_images: Path) -> None:
    predictor = Predictor(colour_engine())
    rows = [{"image_path": "red.png", "text": text} for text in (LONG, "red", LONG)]
    first = predictor.predict_pairs(rows, image_base_path=colour_images)
    second = predictor.predict_pairs(rows[1:2], image_base_path=colour_images)
    assert next(first).status == next(second).status == "ok"
    predictor_counts = predictor.pipeline.totals.long_texts
    assert (first.counts.long_texts, second.counts.long_texts, predictor_counts) == (1, 0, 1)
    first.close()
    assert list(first) == []


def test_a_frame_of_pandas_keeps_its_index(colour_engine: Any, colour_images: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"image": [7, 8], "photo": ["red.png", "gone.png"], "title": ["red bag", "red"]},
        index=["x", "y"],
    )
    found = Predictor(colour_engine()).predict_frame(
        frame, image_base_path=colour_images, image_column="photo", text_column="title"
    )
    assert list(found.index) == ["x", "y"]
    assert found.prediction.tolist() == ["match", "error"]
    assert found.similarity_score.dtype == "float64"
    assert found.is_match.isna().tolist() == [False, True]
    assert frame.join(found).shape == (2, 9)


def test_a_table_of_pyarrow_gives_a_table(colour_engine: Any, colour_images: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    data = (colour_images / "red.png").read_bytes()
    table = pyarrow.table({"image": [data, data], "text": ["red", "blue"]})
    found = Predictor(colour_engine()).predict_frame(table)
    assert found.column("prediction").to_pylist() == ["match", "mismatch"]


def test_any_other_table_is_refused(colour_engine: Any) -> None:
    for frame in ([{"image_path": "a", "text": "b"}], SimpleNamespace(), "a.csv"):
        with pytest.raises(InputError, match=type(frame).__name__):
            Predictor(colour_engine()).predict_frame(frame)
        with pytest.raises(InputError, match=type(frame).__name__):
            table_like(frame, [])


SEVERAL = [
    ("red.png; blue.png", "red"),
    ("red.png", "red"),
    ("blue.png;green.png", "red"),
    ("blue.png;blue.png;red.png", "blue"),
]


@pytest.fixture
def of_several(colour_engine: Any, colour_images: Path) -> Any:
    """Score rows of SEVERAL' shape in one mode."""

    def score(rows: Any, mode: Any) -> Any:
        given = [
            Row(i, images, text, None, {}, None if text else "the text is empty")
            for i, (images, text) in enumerate(rows)
        ]
        predictor = Predictor(colour_engine(), workers=1)
        columns = Columns(multi_image=mode)
        return list(
            predictor.predict_rows(iter(given), image_base_path=colour_images, columns=columns)
        )

    return score


@pytest.mark.parametrize(
    ("mode", "matches"), [("best", [True, True, False, True]), ("all", [False, True, False, False])]
)
def test_the_best_or_the_worst_decides(of_several: Any, mode: str, matches: list[bool]) -> None:
    results = of_several(SEVERAL, mode)
    assert [row.line for row, _ in results] == [0, 1, 2, 3]
    assert [said.is_match for _, said in results] == matches
    assert [said.image_path for _, said in results[2:]] == [image for image, _ in SEVERAL[2:]]
    alone = {
        image: of_several([(image, "red")], None)[0][1].similarity_score
        for image in ("red.png", "blue.png")
    }
    assert results[0][1].similarity_score == alone["red.png" if mode == "best" else "blue.png"]


@pytest.mark.parametrize("mode", ["best", "all"])
def test_one_image_that_can_not_be_read_is_named(of_several: Any, mode: str) -> None:
    (_, bad), (_, good), (_, empty) = of_several(
        [("red.png;gone.png;cut.jpg", "red"), ("red.png", "red"), ("red.png;blue.png", "")], mode
    )
    assert (bad.image_path, bad.prediction, bad.similarity_score) == (
        "red.png;gone.png;cut.jpg",
        "error",
        None,
    )
    assert "/gone.png' not found" in bad.status
    assert good.status == "ok"
    assert (empty.image_path, empty.status) == ("red.png;blue.png", "the text is empty")


def test_without_a_mode_a_row_has_one_image(of_several: Any) -> None:
    [(_, said)] = of_several([("red.png;blue.png", "red")], None)
    assert "/red.png;blue.png' not found" in said.status


def test_a_slice_of_a_table_has_the_threshold_of_its_value(colour_engine: Any) -> None:
    values = {"true": 0.9, "": 0.1, "2": 0.8, "3.0": 0.7}
    predictor = Predictor(colour_engine())
    predictor.slices = SliceThresholds("premium", values, dict.fromkeys(values, 50))
    found = [predictor.threshold_for(value) for value in (True, "true", None, float("nan"), "x")]
    assert found == [0.9, 0.9, 0.1, 0.1, predictor.threshold]
    # integers are floating-point where one of the column is missing
    assert [predictor.threshold_for(value) for value in (2, 2.0, "2.0", 3, "3")] == [0.8] * 3 + [
        0.7
    ] * 2


@pytest.mark.parametrize(
    "spellings",
    [
        (True, "True", "true", "TRUE", np.True_),
        (2, 2.0, "2", "2.0", np.int64(2), np.float32(2)),
        (DAY, DAY.date(), "2024-01-02", "2024-01-02 00:00:00", "2024-01-02T00:00:00.000"),
        (NOON, np.datetime64(NOON, "ns"), "2024-01-02 12:30:00.000000", "2024-01-02T12:30"),
        (NOON.replace(tzinfo=UTC), "2024-01-02T12:30:00Z", "2024-01-02 12:30:00+0000"),
    ],
)
def test_a_value_is_one_slice_however_it_is_written(colour_engine: Any, spellings: Any) -> None:
    predictor = Predictor(colour_engine())
    for key in (value_text(value) for value in spellings):
        predictor.slices = SliceThresholds("column", {key: 0.9, "x": 0.1}, {key: 50, "x": 50})
        assert [predictor.threshold_for(value) for value in spellings] == [0.9] * len(spellings)


def test_texts_that_are_no_dates_or_numbers_are_slices_of_their_own(colour_engine: Any) -> None:
    predictor = Predictor(colour_engine())
    values = {"True": 0.1, "true": 0.2, "007": 0.3, "De": 0.4}  # the first two of an older model
    predictor.slices = SliceThresholds("column", values, dict.fromkeys(values, 50))
    assert [predictor.threshold_for(value) for value in values] == list(values.values())
    others = ["7", "de", "2024-01-02 x"]
    assert [predictor.threshold_for(value) for value in others] == [predictor.threshold] * 3


def test_a_copy_keeps_the_calibration_that_its_threshold_belongs_to(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundles["openclip"], tmp_path / "bundle")
    predictor = load(tmp_path / "bundle", "cpu", 1)
    changed = replace(predictor.score, calibration=Calibration(0.5, 1.0, 10))
    write_score(tmp_path / "bundle", changed)
    assert copy.copy(predictor).score == predictor.score
    assert load(tmp_path / "bundle", "cpu", 1).score == changed


@pytest.mark.parametrize("image", ["../secret.png", {"bytes": None, "path": "../secret.png"}])
def test_a_path_in_the_column_image_stays_below_the_base(
    colour_engine: Any, colour_images: Path, image: Any
) -> None:
    predictor = Predictor(colour_engine())
    base = colour_images / "deep"
    rows = [{"image": image, "text": "red"}, {"image": "../red.png", "text": "red"}]
    found = list(predictor.predict_pairs(rows, image_base_path=base))
    assert [one.prediction for one in found] == ["error", "error"]
    assert all("leaves" in one.status for one in found)
    [inside] = predictor.predict_pairs(
        [{"image": "red.png", "text": "red"}], image_base_path=colour_images
    )
    assert inside.status == "ok"


def of_mode(mode: str) -> Image.Image:
    """A picture in one of Pillow's modes, half of it clear where the mode can say so."""
    picture = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    picture.paste((0, 0, 255, 0), (0, 8, 16, 16))
    if mode == "PA":
        paletted = picture.convert("P").convert("PA")
        paletted.putalpha(picture.getchannel("A"))
        return paletted
    if mode == "I":
        return Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16) * 257)
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (16, 16), bytes(range(128)) * 4)
    return picture.convert({"La": "LA", "HSV": "RGB"}.get(mode, mode)).convert(mode)


MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


@pytest.mark.parametrize("mode", [*MODES, "I", "I;16", "I;16B"])
def test_a_picture_has_one_score_in_all_functions(
    mode: str, colour_engine: Any, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    predictor = Predictor(colour_engine())
    row = {"image": of_mode(mode), "text": "red"}
    score = predictor.predict(of_mode(mode), "red").similarity_score
    mismatch.predict_file(predictor, [row], tmp_path / "scores.jsonl")
    scores = {
        "predict_pairs": next(predictor.predict_pairs([row])).similarity_score,
        "iterator": next(predictor.predict_pairs(iter([row]))).similarity_score,
        "predict_rows": next(predictor.predict_rows([row]))[1].similarity_score,
        "predict_frame": predictor.predict_frame(pandas.DataFrame([row])).similarity_score[0],
        "predict_file": json.loads((tmp_path / "scores.jsonl").read_text())["similarity_score"],
        "scores": predictor.scores([row["image"]], ["red"])[0],
    }
    assert scores == pytest.approx(dict.fromkeys(scores, score))
