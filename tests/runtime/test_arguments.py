"""Arguments of load and Predictor: what is wrong is refused at once, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mismatch
from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.arguments import (
    check_batch_size,
    check_several,
    check_threshold,
    review_band,
)
from mismatch.runtime.predictor import Predictor
from mismatch.specs import ReviewBand, ScoreSpec


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "2"),
        ("threads", 1.5),
        ("threads", True),
        ("threads", 0),
        ("batch_size", "x"),
        ("batch_size", None),
        ("batch_size", 1.5),
        ("batch_size", 0),
        ("threshold", "0.5"),
        ("threshold", True),
        ("threshold", [0.5]),
        ("workers", -1),
        ("workers", 1.5),
        ("workers", 10**6),
        ("cache", 3),
        ("review", "a"),
        ("review", 3),
        ("review", (0.2,)),
        ("review", (0.2, None)),
        ("review", (0.9, 0.2)),
        ("long_text", 3),
        ("long_text", ["chunk"]),
        ("decoder", 3),
        ("provider", 3),
        ("provider", ["cpu"]),
    ],
)
def test_a_wrong_value_is_refused_by_load(
    tiny_bundles: dict[str, Path], name: str, value: Any
) -> None:
    options = {"threads": 1} | {name: value}
    with pytest.raises(InputError) as caught:
        mismatch.load(tiny_bundles["openclip"], **options)
    assert caught.value.option in (name, None)


@pytest.mark.parametrize(
    "options",
    [{"workers": 10**6}, {"cache": 3}, {"review": 3}, {"batch_size": "x"}, {"threshold": True}],
)
def test_a_wrong_value_is_refused_by_a_predictor(colour_engine: Any, options: Any) -> None:
    with pytest.raises(InputError):
        Predictor(colour_engine(), **options)


@pytest.mark.parametrize("path", [3, None, b"model", ["a"]])
def test_a_model_that_is_no_path(path: Any) -> None:
    with pytest.raises(InputError, match="`model`"):
        mismatch.load(path)


@pytest.mark.parametrize("path", ["a" * 5000, "a/" + "b" * 300])
def test_a_model_with_too_long_a_path(path: str) -> None:
    with pytest.raises(CheckpointError):
        mismatch.load(path)


def test_numbers_of_numpy_are_numbers() -> None:
    assert check_batch_size(np.int64(4)) == 4
    assert check_threshold(ScoreSpec("probability", 0.5), np.float32(0.25)) == 0.25


def test_a_review_band_may_be_its_ends() -> None:
    assert review_band((0.3, 0.7)) == ReviewBand(0.3, 0.7)
    assert review_band([0, np.float64(1)]) == ReviewBand(0.0, 1.0)
    assert review_band(None) is None


@pytest.mark.parametrize(
    "value", ["shirt", b"png", None, 3, {"a": 1}, Path("a.png"), np.zeros((8, 8, 3), np.uint8)]
)
def test_one_thing_is_not_several(value: Any) -> None:
    with pytest.raises(InputError, match="several are needed"):
        check_several(value, "texts")
