"""Edits of texts: what they change, when they don't apply, and that a seed repeats them."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.data.lexicon import Lexicon
from mismatch.data.text_edits import ATTRIBUTES, TEXT_EDITS, replaced, without_brand

TITLE = "Puma Men Printed Black Cotton Tshirt Pack of Two"


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", ATTRIBUTES)
@pytest.mark.parametrize("seed", range(5))
def test_a_replaced_word_is_of_another_family_of_its_kind(kind: str, seed: int) -> None:
    text = replaced(kind)(TITLE, random(seed))
    assert text is not None
    before, after = (
        [found for found in Lexicon().find(one) if found.kind == kind] for one in (TITLE, text)
    )
    assert len(before) == len(after) == 1
    assert before[0].family != after[0].family
    others = [
        [found for found in Lexicon().find(one) if found.kind != kind] for one in (TITLE, text)
    ]
    assert [found.word for found in others[0]] == [found.word for found in others[1]]


def test_a_second_colour_of_the_text_is_no_alternative() -> None:
    texts = {replaced("colour")("black and white dress", random(seed)) for seed in range(60)}
    assert "white and white dress" not in texts
    assert "black and black dress" not in texts
    assert len(texts) > 5


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_without_such_a_word_nothing_is_replaced(kind: str) -> None:
    assert replaced(kind)("Xyzzy 300 ml", random()) is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("negation", "red shirt", "not a red shirt"),
        ("upper case", "Red shirt", "RED SHIRT"),
        ("upper case", "RED", None),
        ("word order", "red", None),
        ("word order", "red red", None),
        ("word order", "red shirt", "shirt red"),
        ("typo", "a red bag", None),
        ("typo", "bbbbbb", None),
        ("typo", "shirt", "sihrt|shrit"),
        ("typo", "a shirt, 2", "a sihrt, 2|a shrit, 2"),
        ("typo", "e\u0301te\u0301le\u0301", "e\u0301e\u0301tle\u0301|e\u0301tle\u0301e\u0301"),
        ("typo", "कमीज़वाला", "कज़मीवाला|कमीवाज़ला"),
        ("typo", "蓝色的棉衬衫", None),
        ("brand removed", "Puma red shirt", "red shirt"),
        ("brand removed", "puma red shirt", None),
        ("brand removed", "Red striped shirt", None),
        ("brand removed", "Puma shirt", None),
    ],
)
def test_an_edit_by_hand(name: str, text: str, expected: str | None) -> None:
    found = TEXT_EDITS[name](text, random())
    assert found == expected if expected is None else found in expected.split("|")


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("Puma Socks Pack of 3", "Puma Socks Pack of ", ""),
        ("2 pieces of socks", "", " pieces of socks"),
    ],
)
def test_a_number_of_pieces_is_a_count(text: str, before: str, after: str) -> None:
    found = {replaced("count")(text, random(seed)) for seed in range(80)}
    own = next(letter for letter in text if letter.isdigit())
    assert found == {f"{before}{number}{after}" for number in range(1, 10) if str(number) != own}


def test_a_given_brand_is_removed_wherever_it_stands() -> None:
    assert without_brand("red shirt by PUMA for men", random(), "Puma") == "red shirt by for men"
    assert without_brand("red shirt", random(), "Puma") is None
    assert without_brand("Puma", random(), "Puma") is None


@pytest.mark.parametrize("name", TEXT_EDITS)
def test_the_same_seed_gives_the_same_text(name: str) -> None:
    assert TEXT_EDITS[name](TITLE, random(7)) == TEXT_EDITS[name](TITLE, random(7)) != TITLE
