"""A model's thresholds of slices that no row has used are not silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.jobs.explain_rows import explain_pair
from mismatch.jobs.predict_pair import predict_pair
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.slice_use import SliceUse
from mismatch.specs import ScoreSpec, SliceThresholds, Threshold

Rows = list[dict[str, Any]]
VALUES = {"strict": 0.9, "true": 0.8, "c": 0.7, "d": 0.6}
SLICES = SliceThresholds("shop", VALUES, dict.fromkeys(VALUES, 40))
SCORE = ScoreSpec("probability", 0.5, threshold=Threshold(0.5, "f1", 9, "2026"), slices=SLICES)
PAIRS = [("red.png", "red", 1), ("blue.png", "red", 0)]


@pytest.fixture
def predictor(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> Predictor:
    monkeypatch.chdir(colour_images)
    return Predictor(colour_engine(score=SCORE))


def rows(**others: str) -> Rows:
    return [
        {"image_path": image, "text": text, "label": label, **others}
        for image, text, label in PAIRS
    ]


def frame(predictor: Predictor, some: Rows) -> None:
    pandas = pytest.importorskip("pandas")
    predictor.predict_frame(pandas.DataFrame(some))


FUNCTIONS: dict[str, Callable[[Predictor, Rows], Any]] = {
    "predict_frame": frame,
    "predict_file": lambda predictor, some: mismatch.predict_file(predictor, some, "out.csv"),
    "predict_file, sorted": lambda predictor, some: mismatch.predict_file(
        predictor, some, "out.csv", sort="score"
    ),
    "evaluate": mismatch.evaluate,
    "explain_rows": mismatch.explain_rows,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_without_such_a_value_are_counted_in_one_warning(
    name: str, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    for some in (rows(), rows(shop="other")):
        caplog.clear()
        FUNCTIONS[name](predictor, some)
        [warning] = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert all(fact in warning for fact in ("'shop'", "'strict'", "2 rows", "0.5000"))
    caplog.clear()
    FUNCTIONS[name](predictor, [*rows(), *rows(shop="strict")])
    assert "WARNING" not in [one.levelname for one in caplog.records]


def test_a_threshold_that_is_given_has_no_slices(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    mismatch.predict_file(Predictor(predictor.engine, threshold=0.4), rows(), "out.csv")
    assert caplog.messages[0] == (
        "`threshold` is given: the stored thresholds by 'shop' are left out"
    )
    assert [one.levelname for one in caplog.records].count("WARNING") == 1


def test_an_evaluation_says_how_many_rows_their_slices_decided(predictor: Predictor) -> None:
    result = mismatch.evaluate(predictor, [*rows(), *rows(shop="strict")])
    assert (result.threshold["slices"], result.threshold["sliced_rows"]) == ("shop", 2)
    assert "thresholds by shop of their own for 2 rows" in result.summary()[1]
    none = mismatch.evaluate(predictor, rows())
    assert "thresholds by shop of their own for 0 rows" in none.summary()[1]


PAIR_FUNCTIONS: dict[str, Callable[[Predictor, Any], Any]] = {
    "predict": lambda predictor, value: predictor.predict("red.png", "red", slice_value=value),
    "explain": lambda predictor, value: mismatch.explain(
        predictor, "red.png", "red", slice_value=value
    ),
    "predict_pair": lambda predictor, value: predict_pair(
        predictor, "red.png", "red", slice_value=value
    ),
    "explain_pair": lambda predictor, value: explain_pair(
        predictor, "red.png", "red", slice_value=value
    ),
}


@pytest.mark.parametrize("name", PAIR_FUNCTIONS)
def test_a_value_of_a_pair_that_has_no_threshold_is_said_once(
    name: str, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    for value in (f"other {name}", f"strikt {name}", f"other {name}"):
        PAIR_FUNCTIONS[name](predictor, value)
    said = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert [f"other {name}" in said[0], f"strikt {name}" in said[1], len(said)] == [True, True, 2]
    assert all(fact in said[0] for fact in ("'shop'", "'strict'", "0.5000", "`slice_value`"))
    caplog.clear()
    known: list[object] = ["strict", None, *([True] if name in ("predict", "explain") else [])]
    for known_value in known:
        PAIR_FUNCTIONS[name](predictor, known_value)
    assert "WARNING" not in [one.levelname for one in caplog.records]


@pytest.mark.parametrize("name", ["predict_pair", "explain_pair"])
def test_a_value_is_refused_where_the_model_has_no_slices(name: str, predictor: Predictor) -> None:
    plain = Predictor(predictor.engine, threshold=0.4)
    with pytest.raises(InputError, match="`slice_value` has no effect"):
        PAIR_FUNCTIONS[name](plain, "strict")


def test_nothing_is_said_of_no_rows() -> None:
    assert SliceUse(SLICES, 0.5).warning() is None
