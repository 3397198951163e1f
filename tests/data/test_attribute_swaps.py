"""Rows exchange words: both ways, and only where the texts stay language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from mismatch.data.attribute_swaps import LEVELS, Swapper
from mismatch.data.lexicon import Lexicon
from mismatch.data.text_fit import TextFit


def swapped(
    texts: Sequence[str], classes: Mapping[str, Sequence[str]] | None = None
) -> dict[int, str]:
    fit = TextFit(texts, range(len(texts)), Lexicon(classes))
    swapper = Swapper(texts, fit, np.random.default_rng(0))
    edits = swapper.swaps(range(len(texts)), lambda row, text, likelihood: likelihood < 0.5)
    assert all(
        0 <= edit.level < LEVELS and edits[edit.partner].partner == edit.row
        for edit in edits.values()
    )
    return {row: edit.text for row, edit in edits.items()}


SENTENCES = [
    *(f"a man is walking in city {number}" for number in range(30)),
    *(f"a woman is walking in city {number}" for number in range(10)),
    *(f"one dog in park {number}" for number in range(10)),
    *(f"two people on a road {number}" for number in range(10)),
    *(f"three people on a road {number}" for number in range(5)),
    *(f"a boy rides his bike {number}" for number in range(10)),
    *(f"a girl rides her bike {number}" for number in range(10)),
    *(f"girls sit on top of hill {number}" for number in range(10)),
    *(f"conveyer belt {number}" for number in range(10)),
    *(f"a white bag on a chair {number}" for number in range(10)),
]


def test_each_word_goes_and_comes_as_often() -> None:
    edits = swapped(SENTENCES)
    before = Counter(word for row in edits for word in SENTENCES[row].split())
    after = Counter(word for text in edits.values() for word in text.split())
    assert before == after
    assert sum("man" in SENTENCES[row].split() for row in edits) == 10


def test_texts_stay_language() -> None:
    edits = swapped(SENTENCES)
    for row, text in edits.items():
        assert not {"his", "her", "conveyer", "girls", "top", "one"} & set(SENTENCES[row].split())
        assert not {"one people", "conveyer bag"} & {text[:10], text[:12]}
    assert sum("people" in text for text in edits.values()) == 10


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (
            [
                "une robe verte {}",
                "un pantalon vert {}",
                "une robe noire {}",
                "un pantalon noir {}",
            ],
            {"couleur": ["vert, verte", "noir, noire"]},
        ),
        (
            [
                "कमरे में एक नीली गेंद {}",
                "कमरे में एक काली गेंद {}",
                "कमरे में एक नीला कुत्ता {}",
                "कमरे में एक काला कुत्ता {}",
            ],
            {"रंग": ["नीला, नीली", "काला, काली"]},
        ),
        (
            ["كرة حمراء كبيرة {}", "كرة زرقاء كبيرة {}", "كوب أحمر كبير {}", "كوب أزرق كبير {}"],
            {"لون": ["أحمر, حمراء", "أزرق, زرقاء"]},
        ),
        (["一个红色的球{}", "一个蓝色的球{}"], {"颜色": ["红色", "蓝色"]}),
        (["赤いボール{}", "青いボール{}"], {"色": ["赤い", "青い"]}),
    ],
)
def test_words_of_other_languages_agree(texts: list[str], classes: dict[str, list[str]]) -> None:
    """Each new text is one that the set has, but for its number."""
    letters = "abcdefghij"
    rows = [text.format(f" {letter}") for text in texts for letter in letters]
    edits = swapped(rows, classes)
    known = {row[:-2] for row in rows}
    assert len(edits) >= 20
    assert all(text[:-2] in known and text[:-2] != rows[row][:-2] for row, text in edits.items())


def test_nothing_to_exchange_with() -> None:
    assert swapped([f"a red ball {number}" for number in range(9)]) == {}
