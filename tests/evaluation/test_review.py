"""The review band is the narrowest around the threshold that keeps its risk, and what it leaves to
the model is counted by the decisions that the model really takes.
"""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.review import choose_band, coverage
from mismatch.evaluation.threshold import choose_threshold
from mismatch.specs import ReviewBand

LABELS = [0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1]
SCORES = list(np.arange(12) / 12)


def test_the_band_is_where_labels_mix() -> None:
    band = choose_band(LABELS, SCORES, 0.01, 0.5)
    assert (band.low, band.high) == pytest.approx((3.5 / 12, 7.5 / 12))
    assert (band.rows, band.max_risk) == (12, 0.01)
    found = coverage(LABELS, SCORES, band, 0.5)
    assert (found.automatic, found.risk) == (8 / 12, 0)
    assert found.automatic_interval.low < 8 / 12 < found.automatic_interval.high


def test_a_larger_risk_makes_it_narrower() -> None:
    wide, narrow = (choose_band(LABELS, SCORES, risk, 0.5) for risk in (0.01, 0.2))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert narrow.high - narrow.low < wide.high - wide.low
    below, above = np.array(SCORES) < narrow.low, np.array(SCORES) >= narrow.high
    assert np.mean(np.array(LABELS)[below] == 1) <= 0.2
    assert np.mean(np.array(LABELS)[above] == 0) <= 0.2


def test_where_one_threshold_is_as_good_the_band_is_empty() -> None:
    band = choose_band([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.1, 0.5)
    assert band.low == band.high
    assert 0.2 < band.low < 0.8
    assert coverage([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], band, 0.5)[:2] == (1.0, 0.0)


def test_a_risk_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"at most 0\.01 of the decisions are wrong; every row would be reviewed"
    ):
        choose_band([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], 0.01, 0.25)
    with pytest.raises(InputError, match=r"a risk of 0\.7"):
        choose_band(LABELS, SCORES, 0.7, 0.5)


def test_a_band_over_everything_decides_nothing() -> None:
    found = coverage(LABELS, SCORES, ReviewBand(0.0, 1.0), 0.5)
    assert found.automatic == 0
    assert np.isnan(found.risk)


@pytest.mark.parametrize(
    "objective",
    ["accuracy", "mismatch recall>=0.95", "match recall>=0.95", "cost:miss=10,alarm=1"],
)
@pytest.mark.parametrize("seed", range(8))
def test_the_band_holds_the_threshold_and_its_risk_is_that_of_the_decisions(
    objective: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 200)
    scores = 1 / (1 + np.exp(-random.normal(1.2 * labels - 0.6, 1.0)))
    threshold = choose_threshold(labels, scores, objective).value
    band = choose_band(labels, scores, 0.3, threshold)
    assert band.low <= threshold <= band.high
    decided = np.array([score not in band for score in scores])
    matches = scores >= threshold
    wrong = matches != (labels == 1)
    for side in (matches, ~matches):
        rows = decided & side
        assert not rows.any() or wrong[rows].mean() <= 0.3
    found = coverage(labels, scores, band, threshold, resamples=10)
    assert found.automatic == decided.mean()
    assert found.risk == pytest.approx(wrong[decided].mean(), nan_ok=True)


def test_coverage_counts_the_decisions_of_each_rows_own_threshold() -> None:
    found = coverage([0, 1, 1], [0.2, 0.4, 0.9], ReviewBand(0.5, 0.6), [0.1, 0.3, 0.5])
    assert found.automatic == 1.0
    assert found.risk == pytest.approx(1 / 3)
