"""mismatch.runtime.scoring: logits to scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.runtime.scoring import log_odds, pool_pieces, scores_from_logits, sigmoid
from mismatch.specs import Calibration, ScoreSpec


def test_probability_is_the_sigmoid_of_the_calibrated_logit() -> None:
    spec = ScoreSpec("probability", 0.5, Calibration(slope=2.0, intercept=-1.0, rows=10))
    np.testing.assert_allclose(
        scores_from_logits([0.5, 0.0, -3.0], spec),
        [0.5, 1 / (1 + math.e), 1 / (1 + math.exp(7))],
        rtol=1e-12,
    )


def test_without_calibration_the_logit_is_taken_as_it_is() -> None:
    assert scores_from_logits(0.0, ScoreSpec("probability", 0.5)) == 0.5


def test_zero_shot_scores_are_cosines() -> None:
    np.testing.assert_array_equal(
        scores_from_logits([0.31, -0.2], ScoreSpec("cosine", 0.25)), [0.31, -0.2]
    )


@pytest.mark.filterwarnings("error")
def test_sigmoid_has_no_overflow() -> None:
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 1e4])), [0.0, 1.0])


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("chunk", [2.0, -1.5, 0.25]),
        ("chunk-mean", [2.0, 0.5, 0.25]),
        ("truncate", [2.0, -1.5, 0.25]),
    ],
)
def test_pieces_are_pooled_pair_by_pair(long_text: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(
        pool_pieces([2.0, -1.5, 3.0, 0.0, 0.25], [1, 3, 1], long_text), expected
    )


@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_single_pieces_stay_to_the_bit_and_no_number_stays_none(long_text: Any) -> None:
    logits = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    np.testing.assert_array_equal(pool_pieces(logits, np.ones(1000), long_text), logits)
    pooled = pool_pieces([1.0, np.nan, 2.0], [2, 1], long_text)
    assert np.isnan(pooled).tolist() == [True, False]
    assert pool_pieces([], [], long_text).shape == (0,)


@pytest.mark.parametrize(
    ("logits", "counts", "pair"),
    [([1.0, 2.0], [2, 0], 2), ([1.0, 2.0, 3.0], [0, 3], 1), ([], [0], 1)],
)
@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_a_pair_without_a_piece_is_refused(
    logits: list[float], counts: list[int], pair: int, long_text: Any
) -> None:
    with pytest.raises(
        InputError,
        match=(
            f"pair {pair} of {len(counts)} has no piece of a text to score; at least one is needed"
        ),
    ):
        pool_pieces(logits, counts, long_text)


def test_a_piecewise_calibration_follows_its_lines_and_goes_on_beyond_them() -> None:
    bent = Calibration(2.0, 1.0, 10, "piecewise", knots=(-2.0, 0.0, 4.0), bent=(-1.0, 0.0, 8.0))
    logits = np.array([-3.5, -1.5, -1.0, -0.5, 0.5, 1.5, 3.5])  # 2 x + 1: -6, -2, -1, 0, 2, 4, 8
    np.testing.assert_allclose(log_odds(logits, bent), [-3, -1, -0.5, 0, 4, 8, 16])
    np.testing.assert_allclose(
        scores_from_logits(logits, ScoreSpec("probability", 0.5, bent)),
        sigmoid(np.array([-3, -1, -0.5, 0, 4, 8, 16])),
    )
    scalar: Any = np.float64(-1.0)
    assert float(log_odds(scalar, bent)) == -0.5
