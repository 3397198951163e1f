"""mismatch.data.audit.missing_texts: what stands for no text, and what only looks so."""

from __future__ import annotations

import pytest

from mismatch.data.audit.missing_texts import is_missing_text


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "None", "NULL", "#N/A", "#n/a ", "N/A", "-", " - ", "—", "...", "。", "؟", "।"]
    + ["?", "#REF!", "<NA>", "\u200b", "undefined", "无", "なし", "لا يوجد", "उपलब्ध नहीं", "Néant"],
)
def test_what_stands_for_none(text: str) -> None:
    assert is_missing_text(text)


@pytest.mark.parametrize(
    "text",
    ["a nan bread", "None of them", "😀", "❤️", "5", "红", "赤", "ا", "क", "é", "R&D", "$", "-5"]
    + ["National", "无袖连衣裙", "no title fight", "C++", "★"],
)
def test_what_says_something(text: str) -> None:
    assert not is_missing_text(text)
