"""Words are found in any script, and no grapheme is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from mismatch.words import word_spans


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" – ,.;:!()_ ", []),
        ("Well-known co-op, H&M 1/2", ["Well-known", "co-op", "H&M", "1/2"]),
        ("don't the dog’s 'quoted' -x-", ["don't", "the", "dog’s", "quoted", "x"]),
        ("red_shirt colour:blue 1,000 m²", ["red", "shirt", "colour", "blue", "1,000", "m²"]),
        ("red,blue 1, 2", ["red", "blue", "1", "2"]),
        ("une robe d'été", ["une", "robe", "d'été"]),
        ("e\u0301te\u0301 a\u0300 l'e\u0301cole", ["e\u0301te\u0301", "a\u0300", "l'e\u0301cole"]),
        ("लाल कपड़े, शर्ट क्षमा।", ["लाल", "कपड़े", "शर्ट", "क्षमा"]),
        ("சிவப்பு சட்டை", ["சிவப்பு", "சட்டை"]),
        ("قَمِيصٌ أَحْمَر، كبير", ["قَمِيصٌ", "أَحْمَر", "كبير"]),
        ('חֻלְצָה אדומה צה"ל', ["חֻלְצָה", "אדומה", 'צה"ל']),
        ("שלום\u200f עולם\u200f", ["שלום", "עולם"]),
        ("красная майка κόκκινο 빨간 셔츠", ["красная", "майка", "κόκκινο", "빨간", "셔츠"]),
        ("红色T恤，三件", ["红", "色", "T", "恤", "三", "件"]),
        ("赤いドレスを", ["赤", "い", "ドレス", "を"]),
        ("か\u3099ス\u3099ー", ["か\u3099", "ス\u3099ー"]),
        ("เสื้อน้ำ", ["เ", "สื้", "อ", "น้ำ"]),
        ("I ❤ 👨‍👩‍👧 in 🇫🇷👍🏽 1️⃣", ["I", "❤", "👨‍👩‍👧", "in", "🇫🇷", "👍🏽", "1️⃣"]),
        ("© Nike® ™ → ½", ["Nike", "½"]),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


PIECES = [
    "a",
    "-",
    "\u0301",
    "\u200d",
    "न",
    "\u094d",
    "ำ",
    "น",
    "\u0600",
    "红",
    "カ",
    "か",
    "\u3099",
]
PIECES += ["👩", "🇫", "🇷", "\u00ad", "1", ",", " ", "\r\n", "ש", '"', "각", "\u1100", "\u1161", "_"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_no_word_begins_or_ends_inside_of_a_grapheme(text: str) -> None:
    bounds = {0} | {match.end() for match in regex.finditer(r"\X", text)}
    spans = word_spans(text)
    assert bounds.issuperset(place for span in spans for place in span)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert all(start < end for start, end in spans)


def test_each_letter_and_digit_is_in_a_word() -> None:
    text = "A 红 か ア น ก ລ က ខ 한 א ب क த 1 ٣ Ⅷ Æ ß я ω"
    assert words(text) == text.split()
