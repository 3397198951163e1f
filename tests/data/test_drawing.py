"""Drawn photos: right size, the same for the same seed, and different where
one attribute differs.
"""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.data.drawing import (
    ARTICLES,
    COLOURS,
    COUNTS,
    MATERIALS,
    PATTERNS,
    Combination,
    contact_sheet,
    draw,
)

MUG = Combination("mug", "red", "plain", 1)
RGB = {
    "red": (205, 28, 38),
    "green": (38, 140, 62),
    "blue": (30, 70, 190),
    "yellow": (250, 214, 40),
}


def pixels(
    combination: Combination, seed: int = 0, size: int = 64, material: int = 0
) -> np.ndarray:
    """(size, size, 3) float, 0..255."""
    return np.asarray(draw(combination, np.random.default_rng(seed), size, material), np.float64)


def test_there_are_as_many_as_promised() -> None:
    assert len(ARTICLES) >= 8
    assert len(COLOURS) >= 10
    assert len(PATTERNS) >= 4
    assert len(COUNTS) >= 3
    assert len(set(ARTICLES + COLOURS + PATTERNS)) == len(ARTICLES) + len(COLOURS) + len(PATTERNS)


@pytest.mark.parametrize("size", [32, 64, 97])
def test_a_photo_has_the_size_asked_for(size: int) -> None:
    image = draw(MUG, np.random.default_rng(0), size)
    assert (image.size, image.mode) == ((size, size), "RGB")


def test_the_same_seed_gives_the_same_photo_and_another_another() -> None:
    np.testing.assert_array_equal(pixels(MUG, 3), pixels(MUG, 3))
    assert np.abs(pixels(MUG, 3) - pixels(MUG, 4)).mean() > 1


@pytest.mark.parametrize("article", ARTICLES)
@pytest.mark.parametrize("pieces", COUNTS)
def test_each_article_is_on_the_photo_and_off_its_border(article: str, pieces: int) -> None:
    for seed in range(5):
        photo = pixels(Combination(article, "black", "plain", pieces), seed)
        dark = photo.max(-1) < 90
        assert 0.04 < dark.mean() < 0.5
        assert not dark[[0, -1]].any()
        assert dark[:, [0, -1]].mean() < 0.02


@pytest.mark.parametrize("colour", RGB)
def test_a_plain_article_wears_its_colour(colour: str) -> None:
    middle = np.mean(
        [
            pixels(Combination("cushion", colour, "plain", 1), seed)[28:36, 28:36].mean((0, 1))
            for seed in range(4)
        ],
        axis=0,
    )
    assert np.abs(middle - RGB[colour]).max() < 40


@pytest.mark.parametrize(
    "change",
    [{"article": "lamp"}, {"colour": "blue"}, {"pattern": "dotted"}, {"pieces": 2}],
    ids=str,
)
def test_one_attribute_changes_the_photo(change: dict[str, str | int]) -> None:
    """More than chance does, with everything else drawn from the same seed."""
    base = Combination("mug", "red", "checked", 1)
    assert np.abs(pixels(base) - pixels(base._replace(**change))).mean() > 8  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern != "plain"])
def test_a_pattern_shows_a_second_colour(pattern: str) -> None:
    plain, patterned = (
        pixels(Combination("cushion", "blue", name, 1))[20:44, 20:44] for name in ("plain", pattern)
    )
    assert patterned.std() > 2 * plain.std(axis=(0, 1)).mean()
    assert 0.1 < (patterned.min(-1) > 150).mean() < 0.75


def test_materials_differ() -> None:
    photos = [pixels(MUG, material=material) for material in range(MATERIALS)]
    assert min(np.abs(photos[i] - photos[j]).mean() for i in range(3) for j in range(i)) > 0.3


def test_the_sheet_shows_every_article() -> None:
    sheet = contact_sheet(size=32, columns=4)
    assert sheet.size == (4 * 32, len(ARTICLES) * 32)
