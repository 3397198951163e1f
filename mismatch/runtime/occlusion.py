"""Where in a picture the evidence lies: parts are covered with its mean colour, coarse to fine, and
the logit is looked at again (occlusion, Zeiler and Fergus 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Occlusion", "occlude", "shrunk"]

Array = NDArray[np.float32]
GRID = 4  # cells a side at first
LEVELS = 3  # sizes of cells: 1/4, 1/8 and 1/16 of the side
REFINED = 4  # cells of a level that are split into four


class Occlusion(NamedTuple):
    """What covering parts of a picture does."""

    # (H, W): by how much the value falls when the place is covered, > 0 speaks for the text, mean
    # over the sizes tried there
    heat: NDArray[np.float64]
    passes: int  # pictures that were looked at


class Cell(NamedTuple):
    """A part of the picture, pixels."""

    top: int
    bottom: int
    left: int
    right: int

    def split(self) -> Iterator[Cell]:
        """Yield its quarters; those without a pixel left out."""
        middle = (self.top + self.bottom) // 2
        centre = (self.left + self.right) // 2
        for top, bottom in ((self.top, middle), (middle, self.bottom)):
            for left, right in ((self.left, centre), (centre, self.right)):
                if bottom > top and right > left:
                    yield Cell(top, bottom, left, right)


def occlude(
    pixels: Array,
    value: Callable[[Array], NDArray[np.float64]],
    whole: float,
    *,
    batch_size: int = 16,
) -> Occlusion:
    """Measure how much each part of a picture matters. `pixels`: (3, H, W), as the image tower
    takes them; `value`: (B, 3, H, W) → (B,); `whole`: the value of the picture as it is.

    A grid of 4 x 4 cells; then the four cells where it matters most are split into quarters, twice.
    """
    cells = _grid(*pixels.shape[1:])
    total = np.zeros(pixels.shape[1:])
    tried = np.zeros(pixels.shape[1:], np.int64)
    passes = 0
    for _ in range(LEVELS):
        falls = whole - _covered(pixels, cells, value, batch_size)  # (cells,)
        passes += len(cells)
        for cell, fall in zip(cells, falls, strict=True):
            total[cell.top : cell.bottom, cell.left : cell.right] += fall
            tried[cell.top : cell.bottom, cell.left : cell.right] += 1
        strongest = np.argsort(-np.abs(falls), kind="stable")[:REFINED]
        cells = [part for i in sorted(strongest) for part in cells[i].split() if part != cells[i]]
        if not cells:  # down to single pixels
            break
    return Occlusion(total / np.maximum(tried, 1), passes)


def _grid(height: int, width: int) -> list[Cell]:
    rows, columns = (
        np.linspace(0, length, min(GRID, length) + 1).astype(int).tolist()
        for length in (height, width)
    )
    return [
        Cell(top, bottom, left, right)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def _covered(
    pixels: Array,
    cells: Sequence[Cell],
    value: Callable[[Array], NDArray[np.float64]],
    batch_size: int,
) -> NDArray[np.float64]:
    """Return (cells,): the value with each of them covered, a batch at a time."""
    colour = pixels.mean(axis=(1, 2), keepdims=True)  # (3, 1, 1)
    values = []
    for start in range(0, len(cells), batch_size):
        chosen = cells[start : start + batch_size]
        batch = np.repeat(pixels[None], len(chosen), axis=0)  # (B, 3, H, W)
        for picture, cell in zip(batch, chosen, strict=True):
            picture[:, cell.top : cell.bottom, cell.left : cell.right] = colour
        values.append(np.asarray(value(batch), np.float64))
    return np.concatenate(values)


def shrunk(heat: NDArray[np.float64], finest: int) -> NDArray[np.float64]:
    """Shrink (H, W) → (finest, finest), or less where there are fewer pixels: means of areas."""
    for axis in (0, 1):
        edges = np.linspace(0, heat.shape[axis], min(finest, heat.shape[axis]) + 1).astype(int)
        sizes = np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
        heat = np.add.reduceat(heat, edges[:-1], axis=axis) / sizes
    return heat
