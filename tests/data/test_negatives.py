"""mismatch.data.negatives: mismatches that don't fit, balanced, from the seed alone."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mismatch.data.lexicon import Lexicon
from mismatch.data.negatives import (
    KINDS,
    Made,
    by_words,
    closed_exchange,
    make_negatives,
    nearest,
)
from mismatch.data.unimodal_baselines import blind_pair_auroc, blind_text_auroc
from mismatch.errors import InputError, MissingExtraError
from tests.support.scenes import LANGUAGES, SceneSet, scenes

COLOURS, ARTICLES, BRANDS = (
    ("Red", "Blue", "Green", "Black", "White"),
    ("Shirt", "Skirt", "Watch", "Belt"),
    ("Alpha", "Beta", "Gamma", "Delta"),
)


def catalogue(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [
        f"{random.choice(BRANDS)} {random.choice(('Men', 'Women'))} {random.choice(COLOURS)}"
        f" {random.choice(ARTICLES)} {number}"
        for number in range(count)
    ]


TEXTS = catalogue(400)
SHARES = {"random": 0.4, "hard": 0.3, "attribute": 0.3}


@pytest.fixture(scope="module")
def made() -> list[tuple[int, str, str]]:
    found = make_negatives(TEXTS, range(400), shares=SHARES).made
    return [(one.row, one.text, one.kind) for one in found]


def test_each_row_gets_one_of_the_kinds_asked_for(made: list[tuple[int, str, str]]) -> None:
    assert sorted(row for row, *_ in made) == list(range(400))
    assert Counter(kind for *_, kind in made) == {"random": 160, "hard": 120, "attribute": 120}


def test_an_edit_changes_one_attribute(made: list[tuple[int, str, str]]) -> None:
    lexicon = Lexicon()
    for row, text, kind in made:
        if kind == "attribute":
            before, after = TEXTS[row].split(), text.split()
            [(old, new)] = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
            [one], [other] = lexicon.find(old), lexicon.find(new)
            assert one.kind == other.kind != "article"
            assert one.family != other.family


def test_words_are_exchanged_so_that_none_gives_the_label_away(
    made: list[tuple[int, str, str]],
) -> None:
    """Colours and genders stand in as many mismatches as matches, to within the few rows without a
    partner.
    """
    edits = [(TEXTS[row], text) for row, text, kind in made if kind == "attribute"]
    before, after = (
        Counter(word for text in side for word in text.split()) for side in zip(*edits, strict=True)
    )
    assert max(abs(before[word] - after[word]) for word in (*COLOURS, "Men", "Women")) <= 5


def test_each_text_is_given_away_once(made: list[tuple[int, str, str]]) -> None:
    given = [text for _, text, kind in made if kind != "attribute"]
    assert len(set(given)) == len(given)
    assert set(given) <= set(TEXTS)


def test_no_text_fits_the_image(made: list[tuple[int, str, str]]) -> None:
    def names(text: str) -> set[str]:
        return set(text.split()) & {*COLOURS, *ARTICLES, "Men", "Women"}

    assert all(names(TEXTS[row]) != names(text) for row, text, _ in made)


def test_hard_ones_are_nearer_than_random_ones(made: list[tuple[int, str, str]]) -> None:
    def common(kind: str) -> float:
        return float(
            np.mean(
                [
                    len(set(TEXTS[row].split()) & set(text.split()))
                    for row, text, of in made
                    if of == kind
                ]
            )
        )

    assert common("hard") > 2 > common("random")


def test_texts_alone_say_nothing() -> None:
    texts = catalogue(2000, seed=1)
    made = make_negatives(texts, range(2000), shares=SHARES).made
    auroc = blind_text_auroc(
        [*texts, *(one.text for one in made)],
        [1] * 2000 + [0] * 2000,
        [*range(2000), *(one.row for one in made)],
    )
    assert auroc == pytest.approx(0.5, abs=0.03)


def test_the_seed_decides() -> None:
    first, again, other = (
        make_negatives(TEXTS, range(400), shares=SHARES, seed=seed).made for seed in (0, 0, 1)
    )
    assert first == again != other


def test_texts_of_one_image_are_not_its_mismatches() -> None:
    """Two products, each with many pictures' worth of texts: only the other product's texts will
    do.
    """
    texts = [
        f"{brand} {colour} Shirt {number}"
        for number in range(20)
        for brand, colour in (("Alpha", "Red"), ("Beta", "Blue"))
    ]
    images = [number % 2 for number in range(40)]
    made = make_negatives(texts, images, shares={"random": 1})
    assert len(made.made) == 40
    assert all(("Red" in one.text) == (images[one.row] == 1) for one in made.made)


def test_where_everything_fits_nothing_is_invented() -> None:
    result = make_negatives(
        ["Alpha item one thing", "Alpha item one thing!", "alpha items one thing"],
        [0, 1, 2],
        shares={"random": 1, "hard": 1},
    )
    assert result.made == []
    assert result.missing == [0, 1, 2]


def test_another_brand_or_a_paraphrase_is_no_mismatch() -> None:
    texts = [
        "Alpha Men Red Shirt",
        "Beta Men Red Shirt",
        "Men Red Shirts",
        "Gamma Women Green Skirt",
    ]
    for seed in range(5):
        for one in make_negatives(texts, range(4), shares={"random": 1}, seed=seed).made:
            assert ("Green" in one.text) != ("Green" in texts[one.row])


def test_several_a_row_are_different_ones() -> None:
    made = make_negatives(TEXTS[:100], range(100), shares=SHARES, per_positive=3).made
    assert Counter(one.row for one in made) == dict.fromkeys(range(100), 3)
    assert len({(one.row, one.text) for one in made}) == 300


def test_neighbours_of_ones_own() -> None:
    asked: list[int] = []

    def neighbours(texts: Sequence[str], count: int) -> NDArray[np.int64]:
        asked.append(len(texts))
        return by_words(texts, count)

    make_negatives(TEXTS[:50], range(50), shares={"hard": 1}, neighbours=neighbours)
    assert asked == [50]


def test_nearest_in_order_and_never_itself() -> None:
    matrix = np.array([[9, 1, 3, 2], [1, 9, 0, 0], [3, 0, 9, 5], [2, 0, 5, 9]], float)
    assert nearest(iter([matrix[:3], matrix[3:]]), 2).tolist() == [[2, 3], [0, 2], [3, 0], [2, 0]]
    assert by_words(["a b c", "a b d", "x y", "x y z"], 1).ravel().tolist() == [1, 0, 3, 2]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"odd": 1.0}, "there is no kind 'odd'"),
        ({"random": 0.0}, "a share above 0"),
        ({"random": 2.0, "hard": -1.0}, "a share above 0"),
    ],
)
def test_shares_that_are_none(shares: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_negatives(TEXTS, range(400), shares=shares)
    assert set(SHARES) == set(KINDS)


def test_without_the_library_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(
        MissingExtraError, match=r"finding hard mismatches needs the extra \[audit\]"
    ):
        make_negatives(TEXTS, range(400), shares={"hard": 1})


def truths(rows: SceneSet, made: Sequence[Made]) -> list[bool]:
    """Return whether each random or hard mismatch is true of its image, which must not be."""
    facts = rows.facts_of()
    return [
        rows.is_true(rows.images[one.row], facts[one.text]) for one in made if one.text in facts
    ]


@pytest.mark.parametrize("things", [1, 2])
@pytest.mark.parametrize("captions", [1, 3])
@pytest.mark.parametrize("language", LANGUAGES)
def test_of_scenes_that_an_oracle_knows(language: str, captions: int, things: int) -> None:
    """What is made is true of at most 3 % of its images, and texts alone don't tell it."""
    rows = scenes(language, 600 // captions, things=things, captions=captions)
    result = make_negatives(rows.texts, rows.images, shares=SHARES)
    assert len(result.made) > 0.6 * len(rows.texts)
    assert result.counts()["hard"] > 0.5 * 0.3 * len(rows.texts)
    assert np.mean(truths(rows, result.made)) <= 0.03
    for kind in result.counts():
        of_kind = [one for one in result.made if one.kind == kind]
        auroc = blind_pair_auroc(
            [rows.texts[one.row] for one in of_kind],
            [one.text for one in of_kind],
            [rows.images[one.row] for one in of_kind],
        )
        assert auroc is None or auroc <= 0.6


def test_only_texts_that_come_and_go_stay() -> None:
    given = {0: 1, 1: 2, 2: 0, 3: 0, 4: 3, 5: 6, 6: 5, 7: 8}
    assert closed_exchange(given) == {0: 1, 1: 2, 2: 0, 5: 6, 6: 5}
    assert closed_exchange({1: 2}) == closed_exchange({}) == {}


def test_what_may_be_true_is_doubtful() -> None:
    random = np.random.default_rng(0)
    nouns = ["player", "sword", "map", "castle", "horse", "menu", "wall", "dragon"]
    texts = [f"a {random.choice(nouns)} and a {random.choice(nouns)}" for _ in range(200)]
    result = make_negatives(texts, range(200), shares={"random": 1})
    assert result.doubtful
    doubtful = {one.row for one in result.doubtful}
    assert not doubtful & {one.row for one in result.made}
    assert all(one.likelihood <= 0.05 for one in result.made)
    assert all(0.05 < one.likelihood <= 0.5 for one in result.doubtful)


def test_images_speak_against_texts() -> None:
    """A text that fits a row's image as well as its own is no mismatch of it."""
    asked: set[tuple[int, int]] = set()

    def evidence(row: int, other: int) -> tuple[float, bool]:
        asked.add((row, other))
        return (50.0, True) if (row + other) % 2 else (0.1, False)

    made = make_negatives(TEXTS, range(400), shares={"random": 1, "hard": 1}, evidence=evidence)
    number = {text: row for row, text in enumerate(TEXTS)}
    assert asked
    assert len(made.made) > 300
    assert all((one.row + number[one.text]) % 2 == 0 for one in made.made)


def test_edits_that_texts_tell_are_left_out() -> None:
    """Each colour stands for a kind of thing, so an exchange is seen from the text alone."""
    texts = [f"Red Shirt {number}" for number in range(100)]
    texts += [f"Blue Skirt {number}" for number in range(100)]
    result = make_negatives(texts, range(200), shares={"attribute": 1})
    assert result.told == {"attribute": 200}
    assert "attribute" not in result.counts()
