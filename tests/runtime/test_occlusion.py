"""Occlusion: the place that matters is found, in few passes, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mismatch.runtime.occlusion import occlude


def bright_spot(side: int = 64) -> Any:
    """Dark but for an 8 x 8 square at row 40, column 16."""
    pixels = np.zeros((3, side, side), np.float32)
    pixels[:, 40:48, 16:24] = 1.0
    return pixels


def test_the_place_that_speaks_for_the_text_is_the_hottest() -> None:
    pixels = bright_spot()
    found = occlude(pixels, lambda batch: batch[:, 0, 40:48, 16:24].mean(axis=(1, 2)), 1.0)
    assert found.heat.shape == (64, 64)
    row, column = np.unravel_index(found.heat.argmax(), found.heat.shape)
    assert 40 <= row < 48
    assert 16 <= column < 24
    assert found.heat[:32].max() == 0
    assert found.heat[44, 20] > 0.4


def test_what_speaks_against_it_is_negative() -> None:
    found = occlude(bright_spot(), lambda batch: -batch[:, 0, 40:48, 16:24].mean(axis=(1, 2)), -1.0)
    assert found.heat.min() < -0.4
    assert found.heat.max() == 0


def test_passes_and_batches() -> None:
    sizes: list[int] = []

    def value(batch: Any) -> Any:
        sizes.append(len(batch))
        return np.zeros(len(batch))

    assert occlude(bright_spot(), value, 0.0, batch_size=5).passes == 16 + 16 + 16
    assert sum(sizes) == 48
    assert max(sizes) == 5


def test_the_picture_itself_stays() -> None:
    pixels = bright_spot()
    occlude(pixels, lambda batch: np.zeros(len(batch)), 0.0)
    assert np.array_equal(pixels, bright_spot())


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 5), (3, 6, 6)])
def test_pictures_of_a_few_pixels(shape: tuple[int, int, int]) -> None:
    assert (
        occlude(
            np.ones(shape, np.float32), lambda batch: batch.mean(axis=(1, 2, 3)), 1.0
        ).heat.shape
        == shape[1:]
    )
