"""mismatch.runtime.predictor: one pair, many pairs, embeddings, thresholds, threads; and load, which finds the engine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import CheckpointError, ImageError, ImageNotFoundError, InputError, MissingExtraError
from mismatch.runtime.predictor import Predictor
from mismatch.specs import Calibration, ScoreSpec, Threshold


@pytest.fixture
def predictor(colour_engine: Any) -> Predictor:
    return Predictor(colour_engine(), batch_size=2)


def test_an_image_may_be_a_path_bytes_a_picture_or_an_array(predictor: Predictor, colour_images: Path) -> None:
    path = colour_images / "red.png"
    encoded = io.BytesIO()
    Image.open(path).save(encoded, "PNG")
    kinds = [path, str(path), encoded.getvalue(), Image.open(path), np.full((5, 9, 3), (255, 0, 0), np.uint8)]
    results = [predictor.predict(image, "red shirt") for image in kinds]
    assert [round(result.similarity_score or 0, 6) for result in results] == [0.731059] * 5  # sigmoid(1)
    assert [result.prediction for result in results] == ["match"] * 5
    assert [result.image_path for result in results] == [str(path)] * 2 + [""] * 3


def test_predict_raises_where_predict_pairs_gives_a_status(predictor: Predictor, colour_images: Path) -> None:
    rows = [{"image_path": name, "text": text} for name, text in [("absent.png", "red"), ("lie.jpg", "red"), ("red.png", ""), ("red.png", "red")]]
    results = list(predictor.predict_pairs(rows, image_base_path=colour_images))
    assert [(result.prediction, result.similarity_score is None, result.is_match) for result in results] == [("error", True, None)] * 3 + [
        ("match", False, True)
    ]
    assert [result.image_path for result in results] == ["absent.png", "lie.jpg", "red.png", "red.png"]
    with pytest.raises(ImageNotFoundError, match=r"absent\.png"):
        predictor.predict(colour_images / "absent.png", "red")
    with pytest.raises(ImageError, match=r"lie\.jpg"):
        predictor.predict(colour_images / "lie.jpg", "red")
    with pytest.raises(InputError, match="empty"):
        predictor.predict(colour_images / "red.png", "")


def test_rows_may_carry_images_and_other_keys(predictor: Predictor, colour_images: Path) -> None:
    rows = [{"image": Image.open(colour_images / "blue.png"), "text": "blue", "price": 3}, {"image_path": "blue.png", "text": None}]
    first, second = predictor.predict_pairs(rows, image_base_path=colour_images)
    assert first.is_match is True
    assert second.status == "the text is None, not a string"


def test_a_row_without_the_needed_keys_is_an_error(predictor: Predictor) -> None:
    with pytest.raises(InputError, match=r"row 2 has the keys picture, text; image_path and text are needed"):
        list(predictor.predict_pairs([{"image_path": "a", "text": "b"}, {"picture": "a", "text": "b"}]))


def test_predict_pairs_is_lazy(predictor: Predictor, colour_images: Path) -> None:
    def rows() -> Iterator[dict[str, str]]:
        for _ in range(4096):
            yield {"image_path": str(colour_images / "red.png"), "text": "red"}
        raise AssertionError("a second window was read before the first was used up")

    assert next(predictor.predict_pairs(rows())).is_match is True


@pytest.mark.parametrize(
    ("score", "given", "expected"),
    [
        (ScoreSpec("probability", 0.5), None, 0.5),
        (ScoreSpec("cosine", 0.25), None, 0.25),
        (ScoreSpec("probability", 0.5, threshold=Threshold(0.61, "accuracy", 900, "2026-01-01T00:00:00Z")), None, 0.61),
        (ScoreSpec("probability", 0.5, threshold=Threshold(0.61, "accuracy", 900, "2026-01-01T00:00:00Z")), 0.0, 0.0),
    ],
)
def test_the_flag_wins_over_the_stored_threshold_over_the_default(colour_engine: Any, score: ScoreSpec, given: float | None, expected: float) -> None:
    assert Predictor(colour_engine(score=score), threshold=given).threshold == expected


@pytest.mark.parametrize(("kind", "threshold"), [("probability", -0.1), ("probability", 1.5), ("cosine", -1.1), ("probability", float("nan"))])
def test_an_impossible_threshold_is_refused(colour_engine: Any, kind: Any, threshold: float) -> None:
    with pytest.raises(InputError, match="scores lie between"):
        Predictor(colour_engine(score=ScoreSpec(kind, 0.5)), threshold=threshold)


def test_a_score_equal_to_the_threshold_is_a_match(colour_engine: Any, colour_images: Path) -> None:
    engine = colour_engine(score=ScoreSpec("cosine", 1.0))
    assert Predictor(engine).predict(colour_images / "red.png", "red").is_match is True


def test_the_calibration_is_applied(colour_engine: Any, colour_images: Path) -> None:
    engine = colour_engine(score=ScoreSpec("probability", 0.5, Calibration(2.0, -2.0, 100)))
    result = Predictor(engine).predict(colour_images / "red.png", "red")
    assert result.similarity_score == pytest.approx(0.5, abs=1e-6)
    assert result.logit == pytest.approx(1.0, abs=1e-6)


def test_embeddings_of_many_and_of_none(predictor: Predictor, colour_images: Path) -> None:
    np.testing.assert_allclose(predictor.encode_images([colour_images / "red.png", colour_images / "blue.png"]), [[1, 0, 0], [0, 0, 1]], atol=1e-6)
    np.testing.assert_array_equal(predictor.encode_texts(["green", "red blue"]), [[0, 1, 0], [1, 0, 1]])
    assert predictor.encode_images([]).shape == predictor.encode_texts([]).shape == (0, 3)
    with pytest.raises(ImageError, match=r"lie\.jpg"):
        predictor.encode_images([colour_images / "red.png", colour_images / "lie.jpg"])


def test_many_threads_share_one_predictor(predictor: Predictor, colour_images: Path) -> None:
    def run(i: int) -> list[bool | None]:
        name = ["red", "green", "blue"][i % 3]
        rows = [{"image_path": f"{name}.png", "text": text} for text in ("red", "green bag", "blue shoe shirt")] * 10
        return [result.is_match for result in predictor.predict_pairs(rows, image_base_path=colour_images)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(24)))
    assert results == [[i % 3 == k for k in range(3)] * 10 for i in range(24)]


@pytest.mark.parametrize("path", ["nowhere", "./nowhere/at/all"])
def test_loading_what_is_not_there(path: str) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        mismatch.load(path)


@pytest.mark.parametrize("text", [None, 3, float("nan")])
def test_a_text_that_is_none_is_refused(predictor: Predictor, colour_images: Path, text: Any) -> None:
    with pytest.raises(InputError, match=f"the text is {text}, not a string"):
        predictor.predict(colour_images / "red.png", text)


@pytest.mark.parametrize(
    ("path", "status"),
    [(None, "the image_path is missing"), (float("nan"), "the image_path is missing"), (7, "the image_path is 7, not a path")],
)
def test_a_row_without_an_image_path_says_so(predictor: Predictor, colour_images: Path, path: Any, status: str) -> None:
    bad, good = predictor.predict_pairs([{"image_path": path, "text": "red"}, {"image_path": Path("red.png"), "text": "red"}], image_base_path=colour_images)
    assert (bad.image_path, bad.prediction, bad.status, bad.similarity_score) == ("", "error", status, None)
    assert (good.image_path, good.status, good.is_match) == ("red.png", "ok", True)


def test_a_logit_that_is_no_number_is_an_error(colour_engine: Any, colour_images: Path) -> None:
    engine = colour_engine()
    engine.logits = lambda images, texts: np.full(len(images), np.nan, np.float32)
    predictor = Predictor(engine)
    one = predictor.predict(colour_images / "red.png", "red")
    [same] = predictor.predict_pairs([{"image_path": str(colour_images / "red.png"), "text": "red"}])
    assert one == same
    assert (one.similarity_score, one.is_match, one.prediction, one.status) == (None, None, "error", "the model gave no number")


@pytest.mark.parametrize(("bundle", "words"), [(True, "onnxruntime can't be imported: pip install onnxruntime"), (False, r"\[train\]")])
def test_a_missing_module_is_named_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: bool, words: str) -> None:
    class Opener:
        def load(self) -> Any:
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime" if bundle else "torch")

    if bundle:
        (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr("mismatch.runtime.predictor.entry_points", lambda **wanted: [Opener()])
    with pytest.raises(CheckpointError if bundle else MissingExtraError, match=words):
        mismatch.load(tmp_path)
