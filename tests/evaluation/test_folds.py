"""Folds keep groups together and are as even as can be."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.evaluation.folds import grouped_folds


@pytest.mark.parametrize("folds", [2, 5])
def test_a_group_is_in_one_fold_and_folds_are_even(folds: int) -> None:
    groups = np.array([f"{number % 40}.png" for number in range(120)])
    fold = grouped_folds(groups, folds, 0)
    assert fold.shape == (120,)
    for name in np.unique(groups):
        assert len(set(fold[groups == name])) == 1
    sizes = [len(np.unique(groups[fold == part])) for part in range(folds)]
    assert max(sizes) - min(sizes) <= 1


def test_chance_depends_on_the_seed_alone() -> None:
    groups = np.arange(50)
    assert np.array_equal(grouped_folds(groups, 5, 3), grouped_folds(groups, 5, 3))
    assert not np.array_equal(grouped_folds(groups, 5, 3), grouped_folds(groups, 5, 4))
    drawn = grouped_folds(groups, 5, np.random.default_rng((3, 1)))
    assert np.array_equal(drawn, grouped_folds(groups, 5, (3, 1)))
