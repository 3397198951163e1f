"""The picture of an explanation: its size, its marks, its colours."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.cli.explained_picture import AGAINST, FOR, SIDE, WIDTH, explanation_png
from mismatch.data.lexicon import Lexicon
from mismatch.runtime.explain import Explanation, explain
from mismatch.runtime.predictor import Predictor


def shown(found: Explanation) -> Any:
    image = Image.open(io.BytesIO(explanation_png(found, found.swaps)))
    assert image.format == "PNG"
    return np.asarray(image)


def count(pixels: Any, colour: tuple[int, int, int]) -> int:
    return int((pixels == colour).all(axis=2).sum())


@pytest.fixture
def blue_for_red(colour_engine: Any, colour_images: Path) -> Explanation:
    return explain(Predictor(colour_engine()), colour_images / "red.png", "blue shirt", lexicon=Lexicon())


def test_it_shows_the_image_the_heat_map_and_marked_words(blue_for_red: Explanation) -> None:
    pixels = shown(blue_for_red)
    assert pixels.shape[1] == WIDTH
    assert SIDE < pixels.shape[0] < 2 * SIDE
    assert count(pixels, (255, 0, 0)) > 0.9 * SIDE * SIDE
    assert count(pixels[:50], AGAINST) > 500  # the mark behind "blue"


def test_nothing_is_marked_where_no_word_is_named(blue_for_red: Explanation) -> None:
    assert count(shown(replace(blue_for_red, named=()))[:50], AGAINST) == 0


def test_without_a_heat_map_it_is_lower(blue_for_red: Explanation) -> None:
    pixels = shown(replace(blue_for_red, heat=None, picture=None))
    assert pixels.shape[0] < SIDE
    assert count(pixels, (255, 0, 0)) == 0


def test_the_heat_map_is_blue_where_the_image_speaks_for_the_text(blue_for_red: Explanation) -> None:
    heat = np.zeros((8, 8))
    heat[:, :4], heat[:, 4:] = 1.0, -1.0
    pixels = shown(replace(blue_for_red, heat=heat)).astype(int)
    right = pixels[200:300, WIDTH // 2 + 20 : -40]
    assert right[:, :50, 2].mean() > right[:, :50, 0].mean() + 50
    assert right[:, -50:, 0].mean() > right[:, -50:, 2].mean() + 50
    assert count(pixels, FOR) > 100


@pytest.mark.parametrize("text", ["x" * 5000, "word " * 3000, "红色 手提包", "\n\tred\n"])
def test_odd_texts_are_drawn(blue_for_red: Explanation, text: str) -> None:
    assert shown(replace(blue_for_red, text=text, named=())).shape[0] <= 4000
