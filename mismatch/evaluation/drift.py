"""Whether what a model is given, and what it says of it, is still distributed as when it was
exported: population stability index.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.reference import Distribution, Reference

__all__ = ["LEAST_PAIRS", "Drift", "psi", "reference_of"]

BINS = 10
# below, an index says more of chance than of drift: at 200 pairs its expectation without drift is
# about 2 · (BINS − 1) / 200 = 0.09
LEAST_PAIRS = 200


def reference_of(logits: ArrayLike, lengths: ArrayLike) -> Reference | None:
    """Make a reference of (N,) logits and (N,) lengths of their texts, in characters; None for
    fewer than `LEAST_PAIRS`.
    """
    values = np.asarray(logits, np.float64)
    if len(values) < LEAST_PAIRS:
        return None
    return Reference(
        len(values), _distribution(values), _distribution(np.asarray(lengths, np.float64))
    )


def _distribution(values: NDArray[np.float64]) -> Distribution:
    """Make a distribution by edges at tenths of the values, fewer where many are equal. The two
    outermost parts are empty, as what lies there was never seen.
    """
    tenths = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:], method="inverted_cdf")
    edges = np.unique([np.nextafter(values.min(), -np.inf), *tenths])
    return Distribution(
        tuple(edges.tolist()), tuple((_counts(values, edges) / len(values)).tolist())
    )


def _counts(
    values: NDArray[np.float64], edges: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.int64]:
    return np.bincount(
        np.searchsorted(np.asarray(edges, np.float64), values, side="left"),
        minlength=len(edges) + 1,
    )


def psi(expected: ArrayLike, counts: ArrayLike) -> float:
    """Map (K,) shares of the reference, (K,) counts now → Σ (now − then) · ln(now / then), 0 for
    the same shares. Half a pair is added to each count, so that an empty bin gives a number.
    """
    then = np.asarray(expected, np.float64)
    now = np.asarray(counts, np.float64)
    total = now.sum()
    then = np.maximum(then, 0.5 / max(total, 1))
    now = (now + 0.5) / (total + 0.5 * len(now))
    then = then / then.sum()
    return float(((now - then) * np.log(now / then)).sum())


class Drift:
    """The last pairs against a reference."""

    def __init__(self, reference: Reference, pairs: int) -> None:
        self._reference = reference
        self._last: deque[tuple[int, int]] = deque(maxlen=pairs)  # bins of logit and of length
        self._counts = [
            np.zeros(len(part.shares), np.int64)
            for part in (reference.logits, reference.text_lengths)
        ]

    def __len__(self) -> int:
        return len(self._last)

    def add(self, pairs: Iterable[tuple[float, int]]) -> None:
        """Add logits, and lengths of their texts in characters."""
        for logit, length in pairs:
            bins = tuple(
                int(np.searchsorted(part.edges, value, side="left"))
                for part, value in (
                    (self._reference.logits, logit),
                    (self._reference.text_lengths, length),
                )
            )
            if len(self._last) == self._last.maxlen:
                self._count(self._last[0], -1)
            self._last.append((bins[0], bins[1]))
            self._count(self._last[-1], 1)

    def _count(self, bins: tuple[int, int], change: int) -> None:
        for counts, place in zip(self._counts, bins, strict=True):
            counts[place] += change

    def indices(self) -> dict[str, float]:
        """Return those of scores and text lengths; nothing below `LEAST_PAIRS` pairs."""
        if len(self) < LEAST_PAIRS:
            return {}
        parts = {"score": self._reference.logits, "text_length": self._reference.text_lengths}
        return {
            name: psi(part.shares, counts)
            for (name, part), counts in zip(parts.items(), self._counts, strict=True)
        }
