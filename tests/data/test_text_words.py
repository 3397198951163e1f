"""The words of texts in many scripts, as texts are compared by them."""

from __future__ import annotations

import pytest

from mismatch.data.text_words import text_words


def content(text: str) -> list[str]:
    return [word.text for word in text_words(text) if word.content]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("the girls' red shirts", "a girl and red shirt"),
        ("a woman's dresses", "woman, dress"),
        ("des chiennes noires", "une chienne noire"),
        ("une balle verte", "les balles vertes"),
        ("l’homme blanc", "homme blanc"),
        ("الكرة الحمراء", "كرة حمراء"),
        ("كُرَةٌ", "كرة"),
        ("नीली गाड़ी", "नीला गाड़ी"),
        ("शहर की लड़की", "लड़का शहर"),
    ],
)
def test_inflected_words_are_one(text: str, other: str) -> None:
    assert sorted(content(text)) == sorted(content(other))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一个女人在打高尔夫球", ["女", "人", "打", "高", "尔", "夫", "球"]),
        ("赤いボールがあります", ["赤", "い", "ボール", "があ", "あり", "りま", "ます"]),
        ("แดง", ["แดง"]),
        ("men's glass", ["men", "glass"]),
        ("", []),
        ("!!", []),
    ],
)
def test_scripts_without_blanks(text: str, expected: list[str]) -> None:
    assert content(text) == expected


def test_places_are_those_of_the_text() -> None:
    text = "Un café noir, 红球"
    for word in text_words(text):
        assert text[word.start : word.end].strip() == text[word.start : word.end] != ""
    assert [word.joined for word in text_words(text)] == [False, False, False, False, True]


def test_numbers_of_articles_are_no_evidence() -> None:
    words = {word.text: word.is_evidence for word in text_words("Shirt 3 12677 ab12")}
    assert words == {"shirt": True, "3": True, "12677": False, "ab12": False}
