"""The review band is the narrowest that keeps its risk, and what it leaves to the machine is
counted.
"""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.review import choose_band, coverage
from mismatch.specs import ReviewBand

LABELS = [0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1]
SCORES = list(np.arange(12) / 12)


def test_the_band_is_where_labels_mix() -> None:
    band = choose_band(LABELS, SCORES, 0.01)
    assert (band.low, band.high) == pytest.approx((3.5 / 12, 7.5 / 12))
    assert (band.rows, band.max_risk) == (12, 0.01)
    found = coverage(LABELS, SCORES, band)
    assert (found.automatic, found.risk) == (8 / 12, 0)
    assert found.automatic_interval.low < 8 / 12 < found.automatic_interval.high


def test_a_larger_risk_makes_it_narrower() -> None:
    wide, narrow = (choose_band(LABELS, SCORES, risk) for risk in (0.01, 0.2))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert narrow.high - narrow.low < wide.high - wide.low
    below, above = np.array(SCORES) < narrow.low, np.array(SCORES) >= narrow.high
    assert np.mean(np.array(LABELS)[below] == 1) <= 0.2
    assert np.mean(np.array(LABELS)[above] == 0) <= 0.2


def test_where_one_threshold_is_as_good_the_band_is_empty() -> None:
    band = choose_band([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.1)
    assert band.low == band.high
    assert 0.2 < band.low < 0.8
    assert coverage([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], band)[:2] == (1.0, 0.0)


def test_a_risk_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"at most 0\.01 of the decisions are wrong; every row would be reviewed"
    ):
        choose_band([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], 0.01)
    with pytest.raises(InputError, match=r"a risk of 0\.7"):
        choose_band(LABELS, SCORES, 0.7)


def test_a_band_over_everything_decides_nothing() -> None:
    found = coverage(LABELS, SCORES, ReviewBand(0.0, 1.0))
    assert found.automatic == 0
    assert np.isnan(found.risk)
