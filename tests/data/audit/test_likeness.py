"""mismatch.data.audit.likeness: words in every script, rare ones first."""

from __future__ import annotations

import pytest

from mismatch.data.audit.likeness import TextLikeness

TEXTS = {
    "en": ("red leather bag", "Red bag of leather", "blue summer dress"),
    "fr": ("sac en cuir rouge", "Sac rouge en cuir", "robe d'été bleue"),
    "zh": ("红色真皮手提包", "真皮红色手提包", "蓝色夏季连衣裙"),
    "ja": ("赤い革のバッグ", "革の赤いバッグ", "青い夏のドレス"),
    "ar": ("حقيبة جلدية حمراء", "حقيبة حمراء جلدية", "فستان صيفي أزرق"),
    "hi": ("लाल चमड़े का बैग", "चमड़े का लाल बैग", "नीली गर्मी की पोशाक"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_texts_of_one_thing_are_more_alike_than_those_of_two(language: str) -> None:
    text, same, other = TEXTS[language]
    likeness = TextLikeness(TEXTS[language])
    assert likeness(text, text) == pytest.approx(1)
    assert likeness(text, same) > 0.5
    assert likeness(text, other) < 0.2
    assert likeness(text, same) == likeness(same, text)


def test_frequent_words_say_little() -> None:
    texts = [f"the {name} of the shop" for name in ("lamp", "sofa", "chair", "table", "vase")]
    likeness = TextLikeness([*texts, "lamp"])
    assert likeness(texts[0], "lamp") > likeness(texts[0], texts[1]) / 2
    assert likeness(texts[0], texts[1]) < 0.6


def test_texts_without_words_have_nothing_in_common() -> None:
    assert TextLikeness(["", "-", "red"])("", "-") == 0
