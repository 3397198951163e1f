"""mismatch.runtime.batch_size: the smallest batch that is about as fast as any."""

from __future__ import annotations

from typing import Any

import pytest

from mismatch.runtime import batch_size as pacing
from mismatch.runtime.batch_size import SIZES, choose_batch_size, pick
from mismatch.runtime.predictor import Predictor
from tests.support.commands import run


def test_the_smallest_that_is_fast_enough() -> None:
    assert pick({1: 10.0, 2: 19.0, 4: 29.5, 8: 30.0, 16: 28.0}) == 4
    assert pick({1: 10.0}) == 1


def test_sizes_are_tried_until_the_time_is_up(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = colour_engine()
    seen: list[int] = []

    def seconds(engine: Any, pixels: Any) -> float:
        seen.append(len(pixels))
        return 1.0 if len(pixels) < 8 else len(pixels) / 4

    monkeypatch.setattr(pacing, "_seconds", seconds)
    assert choose_batch_size(engine) == 4
    assert seen == [size for size in SIZES for _ in range(2)]
    monkeypatch.setattr(pacing, "SECONDS", -1.0)
    assert choose_batch_size(engine) == 1


def test_a_predictor_takes_it(colour_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mismatch.runtime.model_handle.choose_batch_size", lambda engine: 8)
    assert Predictor(colour_engine(), batch_size="auto").pipeline.batch_size == 8
    assert Predictor(colour_engine()).pipeline.batch_size == 16


@pytest.mark.parametrize("value", ["0", "many"])
def test_what_is_no_batch_size_is_refused(value: str) -> None:
    result = run("predict", "--model", "m", "--csv", "a.csv", "--batch-size", value)
    assert result.exit_code == 2
    assert "--batch-size" in result.stderr
