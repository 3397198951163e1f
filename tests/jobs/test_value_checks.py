"""Numbers that a caller gives a job: what is none, or out of bounds, is an InputError that names it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.jobs.value_checks import (
    check_level,
    check_number,
    check_numbers,
    check_whole_number,
)

INFINITE = float("inf")


@pytest.mark.parametrize("value", [0, 5, np.int64(3), 2**63 - 1])
def test_whole_numbers_pass(value: object) -> None:
    check_whole_number("seed", value, 0)


@pytest.mark.parametrize("value", [-1, 2**63, "3", 1.5, None, True, [1], float("nan"), np.ones(2)])
def test_what_is_no_whole_number_is_named(value: object) -> None:
    with pytest.raises(InputError, match=r"`seed` is .*; a whole number from 0 to ") as refusal:
        check_whole_number("seed", value, 0)
    assert refusal.value.option == "seed"


def test_numbers_lie_within_their_bounds() -> None:
    check_number("shrinkage", np.float32(2), 0, 9)
    check_numbers("thresholds", np.linspace(-1, 1, 3), -1, 1)
    for value in (-1, INFINITE, float("nan"), "2", None, True, 10, np.ones(2)):
        with pytest.raises(InputError, match=r"`shrinkage` is .*; a number from 0 to 9 is"):
            check_number("shrinkage", value, 0, 9)
    for values in ("0.5", 3, ["a"], [0.5, 2]):
        with pytest.raises(InputError, match="`thresholds` is "):
            check_numbers("thresholds", values, -1, 1)
    for level in (0, 0.4, 1, 2, "0.9"):
        with pytest.raises(InputError, match="`level` is "):
            check_level(level)


tune = partial(mismatch.tune_threshold, "m", "rows.csv")
calibrate = partial(mismatch.calibrate, "m", "rows.csv")
predict = partial(mismatch.predict_file, "m", "rows.csv", "out.csv")


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (tune, {"slice_column": "lang", "shrinkage": INFINITE}),
        (tune, {"slice_column": "lang", "shrinkage": -29}),
        (tune, {"thresholds": ["a"]}),
        (tune, {"level": 2}),
        (tune, {"seed": "x"}),
        (tune, {"min_rows": None}),
        (calibrate, {"level": 0}),
        (calibrate, {"seed": -1}),
        (partial(mismatch.evaluate, "m", "rows.csv"), {"stress": True, "seed": -1}),
        (predict, {"top": 0}),
        (predict, {"top": "3"}),
        (predict, {"sort": "text"}),
    ],
)
def test_jobs_check_them_before_anything_is_read(
    job: Any, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the model nor the rows are there."""
    monkeypatch.chdir(tmp_path)
    name = list(options)[-1]
    with pytest.raises(InputError, match=rf"`{name}` is "):
        job(**options)


def test_a_models_name_is_no_model_that_explains() -> None:
    name: Any = "bundle"
    with pytest.raises(InputError, match=r"a loaded model is needed, not a str"):
        mismatch.explain(name, "a.png", "red")
