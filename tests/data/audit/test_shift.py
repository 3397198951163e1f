"""mismatch.data.audit.shift: texts that have slid by some rows, and sets in which none has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest

from mismatch.data.audit.findings import Finding
from mismatch.data.audit.likeness import TextLikeness
from mismatch.data.audit.places import REACH, Place
from mismatch.data.audit.shift import block_lines, shift_by_embeddings, shift_by_pictures

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


@cache
def vector_of(pair: str) -> np.ndarray:
    return np.random.default_rng(list(map(ord, pair))).normal(size=64)


class Knowing:
    """Towers that know the images' true texts, and see them with noise."""

    def __init__(self, true: Sequence[str], noise: float, *, shared_space: bool) -> None:
        self.shared_space = shared_space
        self._true = true
        self._noise = noise
        self._random = np.random.default_rng(0)
        self._turn = self._random.normal(size=(64, 48))

    def embed_images(self, paths: Sequence[str]) -> np.ndarray:
        vectors = self.embed_texts([self._true[int(path)] for path in paths])
        vectors = vectors + self._noise * self._random.normal(size=vectors.shape)
        return vectors if self.shared_space else vectors @ self._turn

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), 64))
        for row, text in enumerate(texts):
            for pair in pairwise(text):
                vectors[row] += vector_of("".join(pair))
        return vectors


def by_embeddings(
    texts: list[str], true: list[str], noise: float = 2.0, *, shared_space: bool = True
) -> list[Finding]:
    places = places_of(texts)
    images = {place.line: str(place.line - 2) for place in places}
    lines = block_lines([place.line for place in places])
    blocks = [[places[line - 2] for line in block] for block in lines]
    towers = Knowing(true, noise, shared_space=shared_space)
    return list(shift_by_embeddings(blocks, images, towers))


def by_pictures(texts: list[str], copies: Sequence[tuple[int, int]]) -> list[Finding]:
    places = places_of(texts)
    likeness = TextLikeness([*texts, ""])
    return list(shift_by_pictures([[places[a], places[b]] for a, b in copies], likeness))


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("offset", [-3, -2, -1, 1, 2, 3])
@pytest.mark.parametrize("shared_space", [True, False])
def test_embeddings_find_a_shift(language: str, offset: int, *, shared_space: bool) -> None:
    true = titles(language, 200)
    [finding] = by_embeddings(slid(true, offset), true, shared_space=shared_space)
    assert finding.kind == "shift"
    rows, where = ("row" if abs(offset) == 1 else "rows", "below" if offset > 0 else "above")
    assert f"{abs(offset)} {rows} {where} it" in finding.message
    own, right = finding.groups[5]
    assert right.text == true[own.line - 2]
    assert own.line == right.line


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("shared_space", [True, False])
def test_texts_in_their_places_are_no_doubt(language: str, *, shared_space: bool) -> None:
    true = titles(language, 200)
    assert by_embeddings(true, true, shared_space=shared_space) == []


@pytest.mark.parametrize("shared_space", [True, False])
def test_a_model_that_knows_nothing_finds_no_shift(*, shared_space: bool) -> None:
    texts = titles("en", 300)
    for seed in range(20):
        other = titles("en", 300, seed + 1)
        assert by_embeddings(texts, other, shared_space=shared_space) == []


@pytest.mark.parametrize("shared_space", [True, False])
def test_a_shift_from_some_row_on_is_placed(*, shared_space: bool) -> None:
    true = titles("en", 600)
    [finding] = by_embeddings(slid(true, 1, start=400), true, shared_space=shared_space)
    assert "1 row below it" in finding.message
    assert 380 <= finding.lines[0] <= 460
    last = int(finding.message.partition(" to ")[2].partition(";")[0])
    assert last >= 560


@pytest.mark.parametrize(("rows", "shared_space"), [(3, True), (40, False)])
def test_few_rows_are_not_embedded(rows: int, *, shared_space: bool) -> None:
    texts = titles("en", rows)
    assert by_embeddings(slid(texts, 1), texts, shared_space=shared_space) == []


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
