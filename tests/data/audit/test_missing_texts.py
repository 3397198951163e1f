"""mismatch.data.audit.missing_texts: what stands for no text, and what only looks so."""

from __future__ import annotations

import pytest

from mismatch.data.audit.missing_texts import is_missing_text

MARKS = ["-", " - ", "—", "...", "。", "؟", "।", "?", "\u200b"]
PROGRAMS = ["nan", "NaN", "None", "NULL", "#N/A", "#n/a ", "N/A", "#REF!", "<NA>", "undefined"]
PEOPLE = ["无", "なし", "لا يوجد", "उपलब्ध नहीं", "Néant"]
SHORT = ["😀", "❤️", "5", "红", "赤", "ا", "क", "é", "R&D", "$", "-5", "C++", "★"]
LONGER = ["a nan bread", "None of them", "National", "无袖连衣裙", "no title fight"]


@pytest.mark.parametrize("text", [*MARKS, *PROGRAMS, *PEOPLE])
def test_what_stands_for_none(text: str) -> None:
    assert is_missing_text(text)


@pytest.mark.parametrize("text", [*SHORT, *LONGER])
def test_what_says_something(text: str) -> None:
    assert not is_missing_text(text)
