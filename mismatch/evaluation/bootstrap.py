"""The bootstrap: how far a figure would move on other rows of the same kind (Efron and Tibshirani,
1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError

__all__ = ["LEVEL", "RESAMPLES", "Interval", "interval", "percentiles", "resamples_of"]

LEVEL = 0.95
RESAMPLES = 1000
MAX_BIAS = 0.25  # standard deviations, up to which a mean of resamples counts as unbiased


class Interval(NamedTuple):
    """low..high, which holds the figure with the stated level; nan where too few resamples have the
    figure at all.
    """

    low: float
    high: float

    def with_value(self, value: float) -> Interval:
        """Return the interval, which goes as far as the figure itself; as it is where either is
        nan.
        """
        if math.isnan(value) or math.isnan(self.low):
            return self
        return Interval(min(self.low, value), max(self.high, value))


def interval(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """Return `statistic(*arrays)`'s interval over rows drawn again, with their repeats. The arrays
    are (N, …), of the same N.

    `groups` (N,): rows of one group, such as an image, are drawn together, as they are no
    independent ones.
    """
    columns = [np.asarray(array) for array in arrays]
    values = [
        statistic(*(column[rows] for column in columns))
        for rows in resamples_of(len(columns[0]), resamples=resamples, seed=seed, groups=groups)
    ]
    return percentiles(np.array(values, np.float64), level, value=statistic(*columns))


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


def percentiles(
    values: NDArray[Any], level: float = LEVEL, *, value: float | None = None
) -> Interval:
    """Map (B,) resampled figures → the interval between their quantiles; nan where fewer than half
    of them exist.

    `value`: the figure of all rows, which the interval then holds. A resample repeats rows, which
    moves some figures, such as average precision, to one side. Where their mean is off by more than
    a quarter of their standard deviation, they are moved back (Efron and Tibshirani, 10.6).
    """
    finite = values[np.isfinite(values)]
    if 2 * len(finite) < len(values) or not len(finite):
        return Interval(float("nan"), float("nan"))
    if value is not None and math.isfinite(value):
        finite = _unbiased(finite, value)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(float(low), float(high))
    return interval if value is None else interval.with_value(value)


def _unbiased(resampled: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    """Return (B,) figures around that of all rows; shares stay within 0..1."""
    bias = resampled.mean() - value
    if abs(bias) <= MAX_BIAS * resampled.std():
        return resampled
    low = 0.0 if resampled.min() >= 0 else -math.inf
    high = 1.0 if resampled.max() <= 1 else math.inf
    moved: NDArray[np.float64] = np.clip(resampled - bias, low, high)
    return moved
