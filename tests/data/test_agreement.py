"""Which words can be exchanged in a text, and the text afterwards."""

from __future__ import annotations

import pytest

from mismatch.data.agreement import edited, exchangeable, form, is_catalogue, neighbours
from mismatch.data.lexicon import Found, Lexicon

LEXICON = Lexicon()


def usable(text: str, *, catalogue: bool = False, lexicon: Lexicon = LEXICON) -> list[str]:
    terms = lexicon.find(text)
    return [term.word for term in exchangeable(text, terms, lexicon, catalogue=catalogue)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one person walking", []),
        ("a pair of dogs", []),
        ("two people walking", ["two"]),
        ("two of them", []),
        ("a conveyer belt with boxes", []),
        ("a bird on top of a house", []),
        ("people watch a game", []),
        ("a man ties a knot", ["man"]),
        ("a blue shirt on a chair", ["blue", "shirt"]),
        ("the dog chews a shirt", ["shirt"]),
        ("a shirt collar", []),
        ("a bag of chips", []),
        ("a black and white photo", []),
        ("a peeled orange on a plate", []),
        ("a golden retriever", []),
        ("a boy rides his bike", []),
        ("a girl rides a bike", ["girl"]),
        ("a man and a woman", []),
        ("a man with a beard", []),
        ("a glass of water", []),
        ("a wooden table", ["wooden"]),
        ("a boy who is six years old", ["boy"]),
    ],
)
def test_in_a_sentence(text: str, expected: list[str]) -> None:
    assert usable(text) == expected


def test_in_a_catalogue_words_are_what_they_say() -> None:
    text = "Puma Men Golden Top"
    assert usable(text, catalogue=True) == ["men", "golden", "top"]


@pytest.mark.parametrize(
    ("kind", "word", "other", "same"),
    [
        ("gender", "boy", "woman", True),
        ("gender", "boy", "girls", False),
        ("gender", "men's", "women's", True),
        ("article", "shirt", "dress", True),
        ("article", "shirt", "dresses", False),
        ("article", "trousers", "skirts", True),
        ("count", "two", "five", True),
        ("count", "two", "double", False),
        ("material", "wooden", "metallic", True),
        ("material", "wooden", "leather", False),
        ("pattern", "striped", "stripes", False),
        ("size", "long", "small", False),
    ],
)
def test_words_of_one_form(kind: str, word: str, other: str, same: bool) -> None:
    first, second = (form(Found(0, 1, kind, 0, each), LEXICON) for each in (word, other))
    assert (first == second) is same
    assert first is not None


def test_words_that_stand_for_none() -> None:
    assert [form(Found(0, 1, "count", 0, word), LEXICON) for word in ("one", "pair")] == [None] * 2


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("a red ball", "orange", "an orange ball"),
        ("An orange ball", "red", "A red ball"),
        ("A red ball", "olive", "An olive ball"),
        ("has an orange, a red", "blue", "has a blue, a red"),
        ("banana red", "orange", "banana orange"),
    ],
)
def test_the_article_fits_the_word(text: str, word: str, expected: str) -> None:
    term = next(term for term in LEXICON.find(text) if term.kind == "colour")
    assert edited(text, term, word) == expected


def test_neighbours_end_at_a_comma() -> None:
    text = "Big, red ball"
    term = next(term for term in LEXICON.find(text) if term.word == "red")
    assert neighbours(text, term) == ("", "ball")
    assert neighbours(text, LEXICON.find(text)[0]) == ("", "")


def test_titles_and_sentences() -> None:
    titles = ["Puma Men Red Shirt", "Nike Women Blue Shoes"]
    sentences = ["a man in a red shirt is walking", "the woman has blue shoes"]
    for texts, expected in ((titles, True), (sentences, False), (["two dogs", "a cat"], False)):
        assert is_catalogue(texts, [LEXICON.find(text) for text in texts]) is expected


def test_a_users_own_words_are_of_one_form() -> None:
    lexicon = Lexicon({"couleur": ["rouge", "vert, verte"]})
    assert usable("une robe rouge", lexicon=lexicon) == ["rouge"]
    assert form(lexicon.find("une robe rouge")[0], lexicon) == "couleur"
