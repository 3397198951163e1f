"""Paired tests of two models: against hand counts, against scipy, and their rate
of false alarms.
"""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.evaluation.bootstrap import Interval
from mismatch.evaluation.comparison import compare, delong, mcnemar

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (5, 5), (9, 1), (1, 9), (30, 14), (0, 6), (700, 600)]
)
def test_mcnemar_is_the_binomial_test(first: int, second: int) -> None:
    found = mcnemar(first, second)
    expected = scipy_stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p_value == pytest.approx(expected, rel=0.02 if first + second > 1000 else 1e-9)
    assert (found.only_first, found.only_second) == (first, second)


def test_delong_by_the_placements_of_every_pair() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 80)
    one = np.round(truth + rng.normal(0, 1, 80), 1)  # with ties
    other = np.round(0.5 * truth + rng.normal(0, 1, 80), 1)
    placements = []
    for scores in (one, other):
        wins = (scores[truth == 1][:, None] > scores[truth == 0]) + 0.5 * (
            scores[truth == 1][:, None] == scores[truth == 0]
        )
        placements.append(wins)
    difference = placements[0] - placements[1]
    variance = (
        difference.mean(1).var(ddof=1) / difference.shape[0]
        + difference.mean(0).var(ddof=1) / difference.shape[1]
    )
    found = delong(truth, one, other)
    assert (found.first, found.second) == pytest.approx([wins.mean() for wins in placements])
    assert found.p_value == pytest.approx(
        2 * scipy_stats.norm.sf(abs(difference.mean()) / variance**0.5)
    )


def test_under_no_difference_delong_alarms_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        truth = np.repeat([0, 1], 60)
        common = truth + rng.normal(0, 1, 120)
        alarms += (
            delong(
                truth, common + rng.normal(0, 0.7, 120), common + rng.normal(0, 0.7, 120)
            ).p_value
            < 0.05
        )
    assert 5 <= alarms <= 28  # 15 expected


def test_the_same_model_twice_is_no_different() -> None:
    truth = [0, 1] * 20
    scores = np.linspace(0, 1, 40)
    found = compare(truth, scores, scores, 0.5, 0.5, resamples=100)
    assert found.decisions == (0, 0, 1.0)
    assert (found.accuracy, found.auroc) == (0, 0)
    assert found.accuracy_interval == found.auroc_interval == Interval(0, 0)
    assert found.ranking.p_value == 1.0


def test_a_better_model_is_found_better() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 400)
    good, poor = (
        1 / (1 + np.exp(-(strength * (2 * truth - 1) + rng.normal(0, 1, 400))))
        for strength in (1.5, 0.6)
    )
    found = compare(
        truth, good, poor, 0.5, np.full(400, 0.5), groups=np.arange(400) // 2, resamples=300
    )
    assert found.accuracy == pytest.approx(
        ((good >= 0.5) == truth).mean() - ((poor >= 0.5) == truth).mean()
    )
    assert 0 < found.accuracy_interval.low < found.accuracy < found.accuracy_interval.high
    assert 0 < found.auroc_interval.low < found.auroc < found.auroc_interval.high
    assert max(found.decisions.p_value, found.ranking.p_value) < 1e-3


def test_with_one_class_there_is_no_ranking_to_test() -> None:
    assert np.isnan(delong([1, 1, 1], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]).p_value)
