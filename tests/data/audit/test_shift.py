"""mismatch.data.audit.shift: texts that have slid by some rows, and sets in which none has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from mismatch.data.audit.findings import Finding
from mismatch.data.audit.likeness import TextLikeness
from mismatch.data.audit.places import REACH, Place
from mismatch.data.audit.shift import block_lines, shift_by_pictures, shift_by_scores

WORDS = {
    "en": (["red", "blue", "green", "black"], ["bag", "shoe", "hat", "coat", "shirt"], " "),
    "fr": (["rouge", "bleu", "vert", "noir"], ["sac", "chapeau", "manteau", "pull"], " "),
    "zh": (["红色", "蓝色", "绿色", "黑色"], ["手提包", "运动鞋", "帽子", "外套"], ""),
    "ja": (["赤い", "青い", "緑の", "黒い"], ["かばん", "靴", "帽子", "上着"], ""),
    "ar": (["أحمر", "أزرق", "أخضر", "أسود"], ["حذاء", "قميص", "معطف", "وشاح"], " "),
    "hi": (["लाल", "नीला", "हरा", "काला"], ["थैला", "जूता", "कोट", "कुर्ता"], " "),
}


def titles(language: str, count: int, seed: int = 0) -> list[str]:
    colours, things, blank = WORDS[language]
    draw = random.Random(seed)
    pairs = [blank.join(pair) for pair in product(colours, things)]
    return [f"{draw.choice(pairs)} {draw.choice(pairs)} {number % 97}" for number in range(count)]


def places_of(texts: Sequence[str], labels: Sequence[int | None] | None = None) -> list[Place]:
    padded = [*[""] * REACH, *texts, *[""] * REACH]
    return [
        Place(
            number + 2,
            f"{number}.jpg",
            None if labels is None else labels[number],
            tuple(padded[number : number + 2 * REACH + 1]),
        )
        for number in range(len(texts))
    ]


def slid(texts: Sequence[str], offset: int, start: int = 0) -> list[str]:
    """Return the texts moved so many rows down from `start` on."""
    moved = list(texts)
    for number in range(start, len(texts)):
        moved[number] = texts[(number - offset) % len(texts)]
    return moved


def by_scores(texts: list[str], true: list[str], noise: float = 0.02) -> list[Finding]:
    """Look for a shift by scores of a model that knows the images' true texts, with noise."""
    draw = np.random.default_rng(0)
    places = places_of(texts)
    images = {place.line: str(place.line - 2) for place in places}
    words = {text: set(text) for text in (*texts, *true)}

    def score(paths: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        exact = [
            [len(words[true[int(path)]] & words[text]) / len(words[text]) for text in texts]
            for path in paths
        ]
        return 0.2 * np.array(exact) + draw.normal(0, noise, np.shape(exact))

    lines = block_lines([place.line for place in places])
    blocks = [[places[line - 2] for line in block] for block in lines]
    return list(shift_by_scores(blocks, images, score))


def by_pictures(texts: list[str], copies: Sequence[tuple[int, int]]) -> list[Finding]:
    places = places_of(texts)
    likeness = TextLikeness([*texts, ""])
    return list(shift_by_pictures([[places[a], places[b]] for a, b in copies], likeness))


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("offset", [-3, -2, -1, 1, 2, 3])
def test_scores_find_a_shift(language: str, offset: int) -> None:
    true = titles(language, 200)
    [finding] = by_scores(slid(true, offset), true)
    assert finding.kind == "shift"
    rows, where = ("row" if abs(offset) == 1 else "rows", "below" if offset > 0 else "above")
    assert f"{abs(offset)} {rows} {where} it" in finding.message
    own, right = finding.groups[5]
    assert right.text == true[own.line - 2]
    assert own.line == right.line


@pytest.mark.parametrize("language", WORDS)
def test_scores_of_texts_in_their_places_are_no_doubt(language: str) -> None:
    true = titles(language, 200)
    assert by_scores(true, true) == []


def test_a_model_that_knows_nothing_finds_no_shift() -> None:
    texts = titles("en", 400)
    for seed in range(20):
        assert by_scores(texts, titles("en", 400, seed + 1), noise=0.2) == []


def test_a_shift_from_some_row_on_is_placed() -> None:
    true = titles("en", 600)
    [finding] = by_scores(slid(true, 1, start=400), true)
    assert "1 row below it" in finding.message
    assert 380 <= finding.lines[0] <= 420
    last = int(finding.message.partition(" to ")[2].partition(";")[0])
    assert last >= 590


def test_few_rows_are_not_scored() -> None:
    def score(paths: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("nothing is to be scored")

    places = places_of(["a", "b", "c"])
    assert list(shift_by_scores([places], {2: "0", 3: "1", 4: "2"}, score)) == []


def test_blocks_are_spread_over_a_file() -> None:
    blocks = block_lines(range(2, 100_002))
    assert sum(map(len, blocks)) <= 640
    assert blocks[0][0] == 2
    assert blocks[-1][-1] == 100_001
    assert all(block == list(range(block[0], block[-1] + 1)) for block in blocks)
    assert block_lines([]) == []
    assert block_lines([5, 7]) == [[5, 7]]


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("offset", [-2, -1, 1, 3])
def test_pictures_find_a_shift(language: str, offset: int) -> None:
    true = titles(language, 120)
    copies = [(10 * number + 3, 10 * number + 8) for number in range(8)]
    for first, second in copies:
        true[second] = true[first]
    [finding] = by_pictures(slid(true, offset), copies)
    where = "below" if offset > 0 else "above"
    assert f"{abs(offset)} row{'s' * (abs(offset) > 1)} {where} it" in finding.message
    assert by_pictures(true, copies) == []


def test_pictures_find_a_shift_from_some_row_on() -> None:
    true = titles("en", 200)
    copies = [(number, 199 - number) for number in range(5, 65, 6)]
    for first, second in copies:
        true[second] = true[first]
    [finding] = by_pictures(slid(true, 1, start=100), copies)
    assert "1 row below it" in finding.message
    assert min(finding.lines) > 100


def test_a_stock_photo_is_no_shift() -> None:
    texts = titles("en", 100)
    assert by_pictures(texts, [(number, number + 50) for number in range(0, 40, 5)]) == []
