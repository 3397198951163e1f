"""The bootstrap: how far a figure would move on other rows of the same kind (Efron and Tibshirani,
1993).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError

__all__ = ["LEVEL", "RESAMPLES", "Interval", "interval", "percentiles", "resamples_of"]

LEVEL = 0.95
RESAMPLES = 1000


class Interval(NamedTuple):
    """low..high, which holds the figure with the stated level; nan where too few resamples have the
    figure at all.
    """

    low: float
    high: float


def interval(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return `statistic(*arrays)`'s percentile interval over rows drawn again, with their repeats.
    The arrays are (N, …), of the same N.

    `groups` (N,): rows of one group, such as an image, are drawn together, as they are no
    independent ones.
    """
    columns = [np.asarray(array) for array in arrays]
    values = [
        statistic(*(column[rows] for column in columns))
        for rows in resamples_of(len(columns[0]), resamples=resamples, seed=seed, groups=groups)
    ]
    return percentiles(np.array(values, np.float64), level)


def resamples_of(
    rows: int, *, resamples: int = RESAMPLES, seed: int = 0, groups: ArrayLike | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield numbers of rows, (M,) each: of as many groups as there are, drawn with replacement, all
    their rows. M is `rows` where there are no groups.
    """
    if rows < 1:
        raise InputError("a bootstrap needs at least one row")
    random = np.random.default_rng(seed)
    if groups is None:
        for _ in range(resamples):
            yield random.integers(0, rows, rows)
        return
    _, group = np.unique(np.asarray(groups), return_inverse=True)  # (N,)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    for _ in range(resamples):
        drawn = random.integers(0, len(sizes), len(sizes))
        lengths = sizes[drawn]
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield order[np.repeat(starts[drawn], lengths) + inside]


def percentiles(values: NDArray[Any], level: float = LEVEL) -> Interval:
    """Map (B,) resampled figures → the interval between their quantiles; nan where fewer than half
    of them exist.
    """
    finite = values[np.isfinite(values)]
    if 2 * len(finite) < len(values) or not len(finite):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
