"""Words, phrases, and a text without some of them."""

from __future__ import annotations

import pytest

from mismatch.runtime.phrases import find_phrases, find_words, without


def texts(spans: object) -> list[str]:
    return [span.text for span in spans]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red leather handbag with gold clasp", ["Red", "leather", "handbag", "gold", "clasp"]),
        ("Men's T-shirt, set of 3", ["Men's", "T-shirt", "set", "3"]),
        ("Halden & Sons (jet black)", ["Halden", "Sons", "jet", "black"]),
        ("rote Tasche für Läufer", ["rote", "Tasche", "für", "Läufer"]),
        ("of the", ["of", "the"]),
        ("…", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    found = find_words(text)
    assert texts(found) == words
    assert [text[word.start : word.end] for word in found] == words


def test_phrases_keep_an_attribute_with_its_noun_and_stop_at_commas() -> None:
    text = "Blue cotton shirt, set of 3"
    assert texts(find_phrases(text, find_words(text))) == [
        "Blue cotton",
        "cotton shirt",
        "Blue cotton shirt",
        "set of 3",
    ]


def test_phrases_have_four_words_at_most() -> None:
    text = "a b1 c1 d1 e1 f1"
    found = texts(find_phrases(text, find_words(text)))
    assert max(len(phrase.split()) for phrase in found) == 4
    assert len(found) == 4 + 3 + 2


@pytest.mark.parametrize(
    ("text", "gone", "rest"),
    [
        ("Red leather handbag", ["leather"], "Red handbag"),
        ("Mug, red, striped", ["red"], "Mug, striped"),
        ("Mug (red), two", ["red"], "Mug, two"),
        ("Mug - red", ["red"], "Mug"),
        ("Mug", ["Mug"], ""),
        ("Red and blue mug", ["Red", "mug"], "and blue"),
    ],
)
def test_without(text: str, gone: list[str], rest: str) -> None:
    assert without(text, [word for word in find_words(text) if word.text in gone]) == rest


def test_parts_that_overlap_go_once() -> None:
    text = "Red leather handbag"
    words = find_words(text)
    assert without(text, [*find_phrases(text, words)[:1], words[1]]) == "handbag"
