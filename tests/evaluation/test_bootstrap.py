"""The bootstrap's intervals are as wide as theory says, and rows of one group move together."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.bootstrap import interval, percentiles, resamples_of
from mismatch.evaluation.metrics import average_precision


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def test_the_interval_of_a_mean_is_two_standard_errors_wide_to_each_side() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = interval(mean, values, resamples=2000)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_rows_of_a_group_are_drawn_together() -> None:
    """Each value four times: as rows of their own they look twice as sure as they are."""
    values = np.repeat(np.random.default_rng(0).normal(size=100), 4)
    groups = np.repeat(np.arange(100), 4)
    alone, together = interval(mean, values), interval(mean, values, groups=groups)
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.15)


def test_resamples_have_whole_groups() -> None:
    groups = ["a", "b", "b", "c", "c", "c"]
    for rows in resamples_of(6, resamples=50, groups=groups):
        counts = np.bincount(rows, minlength=6)
        assert counts[1] == counts[2]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[1] + counts[3] == 3


def test_the_same_seed_gives_the_same_resamples() -> None:
    one, two, other = (
        np.stack(list(resamples_of(20, resamples=5, seed=seed))) for seed in (1, 1, 2)
    )
    assert (one == two).all()
    assert (one != other).any()


def test_a_figure_that_seldom_exists_has_no_interval() -> None:
    assert np.isnan(percentiles(np.array([1.0, np.nan, np.nan]))).all()
    assert percentiles(np.array([1.0, 1.0, np.nan])) == (1.0, 1.0)
    assert np.isnan(percentiles(np.empty(0))).all()


def test_an_interval_holds_the_figure_itself() -> None:
    """Whichever way its resamples are off."""
    random = np.random.default_rng(0)
    for value, middle in ((0.07, 0.14), (0.9, 0.7), (0.5, 0.5), (0.0, 0.2), (1.0, 0.9)):
        resamples = np.clip(random.normal(middle, 0.03, 500), 0, 1)
        low, high = percentiles(resamples, value=value)
        assert 0 <= low <= value <= high <= 1
        assert high - low < 0.2
    assert percentiles(np.array([0.2] * 3), value=0.25) == pytest.approx((0.25, 0.25))
    assert np.isnan(percentiles(np.full(4, np.nan), value=0.5)).all()


def test_a_small_bias_is_left_alone() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.05, 500)
    assert percentiles(values, value=float(values.mean()) + 0.01) == percentiles(values)


@pytest.mark.parametrize("share", [0.03, 0.05, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_an_average_precision_of_few_matches_lies_in_its_interval(share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = (np.arange(300) < share * 300).astype(int)
    scores = random.random(300)
    low, high = interval(average_precision, labels, scores, resamples=200, seed=seed)
    assert low <= average_precision(labels, scores) <= high


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="at least one row"):
        next(resamples_of(0))
