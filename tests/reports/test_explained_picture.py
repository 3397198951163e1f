"""The picture of an explanation: its size, its marks, its colours."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.data.lexicon import Lexicon
from mismatch.reports import explained_picture
from mismatch.reports.explained_picture import AGAINST, FOR, SIDE, WIDTH, explanation_png
from mismatch.runtime.explain import explain
from mismatch.runtime.explanation import Explanation
from mismatch.runtime.predictor import Predictor


def shown(found: Explanation) -> Any:
    image = Image.open(io.BytesIO(explanation_png(found, found.swaps)))
    assert image.format == "PNG"
    return np.asarray(image)


def count(pixels: Any, colour: tuple[int, int, int]) -> int:
    return int((pixels == colour).all(axis=2).sum())


@pytest.fixture
def blue_for_red(colour_engine: Any, colour_images: Path) -> Explanation:
    return explain(
        Predictor(colour_engine()), colour_images / "red.png", "blue shirt", lexicon=Lexicon()
    )


def test_it_shows_the_image_the_heat_map_and_marked_words(blue_for_red: Explanation) -> None:
    pixels = shown(blue_for_red)
    assert pixels.shape[1] == WIDTH
    assert SIDE < pixels.shape[0] < 2 * SIDE
    assert count(pixels, (255, 0, 0)) > 0.9 * SIDE * SIDE
    assert count(pixels[:50], AGAINST) > 500  # the mark behind "blue"


def test_nothing_is_marked_where_no_word_is_named(blue_for_red: Explanation) -> None:
    assert count(shown(replace(blue_for_red, named=()))[:50], AGAINST) == 0


def test_where_a_script_has_no_blanks_the_wrong_letters_alone_are_marked(
    blue_for_red: Explanation,
) -> None:
    text = "红色的衬衫和裤子" * 4
    word = replace(blue_for_red.named[0], start=0, end=2, text="红色")
    marked = replace(blue_for_red, text=text, named=(word,), words=(word,), phrases=(), heat=None)
    none = shown(replace(marked, named=()))
    one = shown(marked)
    every = shown(replace(marked, named=(replace(word, end=len(text), text=text),)))
    assert count(none[:50], AGAINST) == 0
    assert 0 < count(one[:50], AGAINST) < count(every[:50], AGAINST) / 3


def test_a_long_line_without_blanks_is_broken(blue_for_red: Explanation) -> None:
    short = replace(blue_for_red, text="红色", named=(), heat=None)
    assert len(shown(replace(short, text="红色" * 100))) > len(shown(short)) + 100


def test_without_a_heat_map_it_is_lower(blue_for_red: Explanation) -> None:
    pixels = shown(replace(blue_for_red, heat=None, picture=None))
    assert pixels.shape[0] < SIDE
    assert count(pixels, (255, 0, 0)) == 0


def test_the_heat_map_is_blue_where_the_image_speaks_for_the_text(
    blue_for_red: Explanation,
) -> None:
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


LONG = {
    "letters": "a" * 1_000_000,
    "accents": "e" + "\u0301" * 300_000,
    "wide": "\uff37" * 300_000,
    "digits and marks": "1,2;" * 250_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_a_long_word_is_cut_before_it_is_measured(
    blue_for_red: Explanation, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Letters that are measured, of all words and bars together, stay in the thousands."""
    word, measured, font = LONG[kind], [0], explained_picture._font

    def counted(size: int) -> Any:
        real = font(size)

        def getlength(text: str) -> float:
            measured.append(len(text))
            return real.getlength(text)

        return SimpleNamespace(getlength=getlength)

    for size in (16, 24):
        monkeypatch.setattr(explained_picture, "_font", counted)
        assert explained_picture._fitting(word, size, 200).startswith(word[:1])
        monkeypatch.setattr(explained_picture, "_font", font)
    assert max(measured) <= 201
    assert len(measured) < 30
    part = replace(blue_for_red.words[0], start=0, end=len(word), text=word)
    swaps = tuple(
        replace(swap, text=word, alternatives=((word, 0.9),)) for swap in blue_for_red.swaps[:1]
    )
    shown(
        replace(blue_for_red, text=f"{word} {word}", words=(part,) * 20, named=(part,), swaps=swaps)
    )


@pytest.mark.parametrize("width", [0, 5, 100, 190, 744])
@pytest.mark.parametrize(
    "text",
    ["", "a", "a red leather handbag", "iiii" * 400, "W" * 60, "红色皮革手提包" * 20, "\udcff red"],
)
def test_what_is_cut_fits_and_no_more_is_cut_than_must_be(text: str, width: int) -> None:
    font = explained_picture._font(16)
    found = explained_picture._fitting(text, 16, width)
    if found == text:
        assert font.getlength(text) <= width
        return
    kept = len(found) - 1
    assert found == text[:kept] + "…"
    assert font.getlength(found) <= width or kept == 0
    assert font.getlength(text[: kept + 1] + "…") > width


def test_text_of_every_kind_is_drawn(blue_for_red: Explanation) -> None:
    for text in (
        "\udcff red",
        "a\0b",
        "\x1b[31m red",
        "\u202e red",
        "👩\u200d👧 red",
        "word " * 100_000,
    ):
        shown(replace(blue_for_red, text=text, words=(replace(blue_for_red.words[0], text=text),)))
