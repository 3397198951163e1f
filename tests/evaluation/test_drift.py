"""mismatch.evaluation.drift: a population stability index against a reference that
a model carries.
"""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.drift import LEAST_PAIRS, Drift, psi, reference_of
from mismatch.reference import Distribution, Reference

rng = np.random.default_rng(0)


def test_the_index_is_the_textbooks() -> None:
    """Shares 0.5/0.5 then and 0.8/0.2 now: 0.3·ln 1.6 − 0.3·ln 0.4."""
    assert psi([0.5, 0.5], [80_000, 20_000]) == pytest.approx(
        0.3 * np.log(1.6) - 0.3 * np.log(0.4), abs=1e-4
    )
    assert psi([0.25] * 4, [500] * 4) == 0.0
    assert np.isfinite(psi([0.5, 0.5, 0.0], [0, 0, 300]))


def test_a_reference_has_tenths_and_fewer_where_values_are_equal() -> None:
    found = reference_of(rng.normal(size=5000), [7] * 4000 + [9] * 1000)
    assert found is not None
    assert found.rows == 5000
    np.testing.assert_allclose(found.logits.shares, [0.0, *[0.1] * 10, 0.0], atol=1e-3)
    assert found.text_lengths.edges == (np.nextafter(7.0, 0.0), 7.0, 9.0)
    assert found.text_lengths.shares == (0.0, 0.8, 0.2, 0.0)
    assert Reference.from_dict(found.to_dict()) == found
    assert reference_of(np.zeros(LEAST_PAIRS - 1), np.zeros(LEAST_PAIRS - 1)) is None


def test_the_same_distribution_stays_low_and_another_one_rises() -> None:
    reference = reference_of(rng.normal(size=5000), rng.integers(5, 60, 5000))
    assert reference is not None
    same, other = Drift(reference, 1000), Drift(reference, 1000)
    for _ in range(LEAST_PAIRS - 1):
        same.add([(0.0, 5)])
    assert same.indices() == {}
    same.add(zip(rng.normal(size=2000), rng.integers(5, 60, 2000), strict=True))
    other.add(zip(rng.normal(-1.0, size=2000), rng.integers(5, 60, 2000), strict=True))
    assert len(same) == 1000
    assert max(same.indices().values()) < 0.06
    assert other.indices()["score"] > 0.5
    assert other.indices()["text_length"] < 0.06


def test_only_the_last_pairs_count() -> None:
    reference = reference_of(rng.normal(size=5000), rng.integers(5, 60, 5000))
    assert reference is not None
    drift = Drift(reference, 500)
    drift.add((9.0, 500) for _ in range(3000))
    assert min(drift.indices().values()) > 1
    drift.add(zip(rng.normal(size=500), rng.integers(5, 60, 500), strict=True))
    assert max(drift.indices().values()) < 0.1


def test_what_was_never_seen_is_drift_also_where_all_values_were_equal() -> None:
    reference = reference_of(np.zeros(500), np.full(500, 20))
    assert reference is not None
    for length in (3, 90):
        drift = Drift(reference, 500)
        drift.add((0.0, length) for _ in range(300))
        assert drift.indices()["score"] == pytest.approx(0.0, abs=0.02)
        assert drift.indices()["text_length"] > 1


@pytest.mark.parametrize(
    ("edges", "shares"),
    [
        ((1.0, 1.0), (0.1, 0.1, 0.8)),
        ((1.0,), (1.0,)),
        ((1.0,), (-0.5, 1.5)),
        ((1.0,), (1e308, 1e308)),
        ((1.0,), (0.2, 0.2)),
    ],
)
def test_a_damaged_distribution_is_refused(
    edges: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    with pytest.raises(InputError, match="damaged"):
        Distribution(edges, shares)
