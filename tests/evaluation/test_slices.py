"""Thresholds by slice: few rows lean on the common one, many stand alone."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.objectives import Objective
from mismatch.evaluation.slices import choose_slices


def rows(
    counts: dict[str, int], cuts: dict[str, float]
) -> tuple[list[int], list[float], list[str]]:
    """Slices whose labels a cut of their own tells apart."""
    names = [name for name, count in counts.items() for _ in range(count)]
    scores = [(i + 0.5) / count for count in counts.values() for i in range(count)]
    return (
        [int(score > cuts[name]) for name, score in zip(names, scores, strict=True)],
        scores,
        names,
    )


def test_own_thresholds_are_drawn_towards_the_common_one() -> None:
    labels, scores, names = rows(
        {"de": 2000, "fr": 50, "it": 10}, {"de": 0.3, "fr": 0.7, "it": 0.9}
    )
    found = choose_slices(labels, scores, names, "language", Objective(), 0.5, shrinkage=200)
    assert found.column == "language"
    assert found.rows == {"de": 2000, "fr": 50}
    assert found.values["de"] == pytest.approx((2000 * 0.3 + 200 * 0.5) / 2200, abs=0.001)
    assert found.values["fr"] == pytest.approx((50 * 0.7 + 200 * 0.5) / 250, abs=0.01)
    alone = choose_slices(labels, scores, names, "language", Objective(), 0.5, shrinkage=0)
    assert alone.values == pytest.approx({"de": 0.3, "fr": 0.7}, abs=0.011)


def test_a_slice_of_one_label_or_out_of_reach_has_none() -> None:
    labels, scores, names = rows({"a": 100, "b": 100}, {"a": 0.5, "b": -1})
    assert set(choose_slices(labels, scores, names, "c", Objective(), 0.5).values) == {"a"}
    random = np.random.default_rng(0)
    labels = list(random.integers(0, 2, 100)) + labels[:100]
    found = choose_slices(
        labels,
        [*random.random(100), *scores[:100]],
        ["noise"] * 100 + ["a"] * 100,
        "c",
        Objective("precision", target=1),
        0.5,
    )
    assert "a" in found.values


def test_no_slice_with_enough_rows_is_refused() -> None:
    with pytest.raises(InputError, match="no value of the column 'c' has 30 rows"):
        choose_slices([0, 1] * 10, np.linspace(0, 1, 20), ["x"] * 20, "c", Objective(), 0.5)


def test_a_value_has_one_threshold_however_its_rows_write_it() -> None:
    labels, scores, names = rows({"True": 40, "2.0": 40}, {"True": 0.3, "2.0": 0.7})
    mixed = ["true" if i % 2 and name == "True" else name for i, name in enumerate(names)]
    found = choose_slices(labels, scores, mixed, "premium", Objective(), 0.5)
    assert found.rows == {"2": 40, "true": 40}
