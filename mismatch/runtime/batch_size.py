"""How many images a tower call should hold on this machine, by trying."""

from __future__ import annotations

import time

import numpy as np

from mismatch.runtime.pipeline import Engine

__all__ = ["choose_batch_size"]

SIZES = (1, 2, 4, 8, 16, 32, 64)
SECONDS = 4.0  # after which no larger size is tried
# the smallest size with this share of the best rate is taken, as it needs the least memory and
# answers soonest
ENOUGH = 0.97


def choose_batch_size(engine: Engine) -> int:
    """Return the smallest of `SIZES` that is about as fast as any, images a second; takes a few
    seconds.
    """
    side = engine.image_spec.size
    engine.encode_images(np.zeros((1, 3, side, side), np.float32))
    rates: dict[int, float] = {}
    began = time.perf_counter()
    for size in SIZES:
        pixels = np.zeros((size, 3, side, side), np.float32)
        rates[size] = size / min(_seconds(engine, pixels) for _ in range(2))
        if time.perf_counter() - began > SECONDS:
            break
    return pick(rates)


def pick(rates: dict[int, float]) -> int:
    """Map rates by size → the smallest size whose rate is `ENOUGH` of the best."""
    return min(size for size, rate in rates.items() if rate >= ENOUGH * max(rates.values()))


def _seconds(engine: Engine, pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    start = time.perf_counter()
    engine.encode_images(pixels)
    return time.perf_counter() - start
