"""mismatch.data.lexicon: whole words are found and exchanged as they are spelt."""

from __future__ import annotations

import pytest

from mismatch.data.lexicon import BUILT_IN, Found, Lexicon, exchange
from mismatch.errors import InputError


def names(text: str, lexicon: Lexicon | None = None) -> list[tuple[str, str]]:
    return [(found.kind, found.word) for found in (lexicon or Lexicon()).find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nike Men Red Shirt", [("gender", "men"), ("colour", "red"), ("article", "shirt")]),
        ("NAVY BLUE t-shirt", [("colour", "navy blue"), ("article", "t-shirt")]),
        ("Navy-blue dress", [("colour", "navy blue"), ("article", "dress")]),
        ("a covered hatred of menus", []),  # red, hat, red, men
        (
            "off-white polka dot skirt",
            [("colour", "off white"), ("pattern", "polka dot"), ("article", "skirt")],
        ),
        ("Women's bag, two pockets", [("gender", "women's"), ("article", "bag"), ("count", "two")]),
        ("", []),
    ],
)
def test_whole_words_are_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert names(text) == expected


def test_alternatives_name_something_else() -> None:
    lexicon = Lexicon()
    [found] = lexicon.find("navy")
    words = list(lexicon.alternatives(found))
    assert {"red", "green", "black"} <= set(words)
    assert not set(words) & set(lexicon.family_of(found))
    assert "blue" in lexicon.family_of(found)


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("a red shirt", "navy blue", "a navy blue shirt"),
        ("A Red shirt", "navy blue", "A Navy Blue shirt"),
        ("RED shirt", "green", "GREEN shirt"),
        ("Men's Red Shirt", "blue", "Men's Blue Shirt"),
    ],
)
def test_spelling_is_kept(text: str, word: str, expected: str) -> None:
    [found] = [found for found in Lexicon().find(text) if found.kind == "colour"]
    assert exchange(text, found, word) == expected


def test_classes_of_ones_own() -> None:
    lexicon = Lexicon({"shape": ["round, circular", "square"], "colour": ["rot", "blau"]})
    assert names("Round table, rot and red", lexicon) == [("shape", "round"), ("colour", "rot")]
    [found] = lexicon.find("circular")
    assert list(lexicon.alternatives(found)) == ["square"]
    assert found == Found(0, 8, "shape", 0, "circular")


@pytest.mark.parametrize("families", ["round, square", ["round"], [], [1, 2], ["", "x"], 1, None])
def test_a_class_that_is_none_is_refused(families: object) -> None:
    with pytest.raises(
        InputError, match="the class 'shape' of the lexicon is no list of two or more families"
    ):
        Lexicon({"shape": families})  # type: ignore[dict-item]


def test_no_word_stands_in_two_families() -> None:
    words = [
        word.strip()
        for families in BUILT_IN.values()
        for family in families.split("|")
        for word in family.split(",")
    ]
    assert sorted({word for word in words if words.count(word) > 1}) == []
