"""Folds for cross-validation that keep what belongs together in one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["grouped_folds"]


def grouped_folds(
    groups: ArrayLike, folds: int, random: np.random.Generator | int | tuple[int, ...]
) -> NDArray[np.int64]:
    """Return the fold of each row, (N,) in 0..folds. Rows of one group, such as an image, are in
    one fold, and folds have equally many groups, as far as can be.

    `random`: a seed, or the generator that draws.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    order = np.random.default_rng(random).permutation(len(names))
    return np.asarray(order[group] % folds, np.int64)
