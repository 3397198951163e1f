"""The words of a text in any script, without case and endings: what texts are compared by."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import NamedTuple

import regex

from mismatch.words import word_spans

__all__ = ["TextWord", "text_words"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# words that name nothing to see, of the languages that most captions are in
STOP_WORDS = _set(
    "a an and are as at by for from in is it its of on or that the their there this to with"
    " while which"
    " le la les l un une des du de d et à au aux en dans sur avec est sont par pour qui"
    " der die das ein eine einen einem einer und im in auf mit von zu ist sind den dem"
    " el los las uno una unos unas y del al con es son que o os as um uma e do da no na com"
    " il lo gli i di con su per sono è"
    " и в на с у к по из"
    " في من على إلى عن مع هذا هذه التي الذي هو هي و"
    " का के की में पर है हैं और से को यह वह एक ने"
    " 的 了 在 着 是 有 和 与 一 个 の が は を に で と も へ や"
)
HAN = regex.compile(r"\p{Ideographic}")
KANA = regex.compile(r"\p{Hiragana}")
UNSPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
# letters of a run that are one word together: Thai spells a word with about four
RUN_LENGTHS = {"kana": 2, "unspaced": 3}
# signs that texts have or lack at will: Arabic vowels and stretches, Hebrew points
OPTIONAL_SIGNS = regex.compile(r"[\u064b-\u0652\u0670\u0640\u0591-\u05c7]")
ELISION = regex.compile(r"^(?:[cdjlmnst]|qu)['’](?=\p{L}{2})")
POSSESSIVE = regex.compile(r"['’]s?$")
ARABIC_BEGINNINGS = ("وال", "بال", "كال", "فال", "ال", "لل", "و")
ENDINGS = ("es", "s", "ات", "ون", "ين", "ان", "ة", "ें", "ों", "ियाँ", "ियां")
LAST_VOWELS = "aeoiаяыиеоьािीुूेैोौ"
MIN_STEM = 3  # characters that stay of a word that loses an ending


class TextWord(NamedTuple):
    """A word of a text."""

    text: str  # without case and ending
    start: int  # characters
    end: int
    joined: bool  # no blank stands between it and the word before
    content: bool  # it names something

    @property
    def is_evidence(self) -> bool:
        """Return whether it may be seen in an image: an article's number can't."""
        return self.content and not (len(self.text) > 1 and any(map(str.isdigit, self.text)))


def text_words(text: str) -> list[TextWord]:
    """Return the words of a text, from left to right. Each Han character is a word, and each two
    neighbouring Hiragana, and each three letters of Thai, Lao, Khmer and Burmese.
    """
    words: list[TextWord] = []
    end = -1
    for kind, spans in groupby(word_spans(text), key=lambda span: _kind(text[slice(*span)])):
        for start, stop in _runs(list(spans), RUN_LENGTHS.get(kind, 1)):
            spelling = unicodedata.normalize("NFKC", text[start:stop]).casefold()
            content = spelling not in STOP_WORDS
            words.append(TextWord(_stem(spelling), start, stop, start <= end, content))
            end = stop
    return words


def _kind(word: str) -> str:
    """Return how a word of this script is made of its letters."""
    if KANA.match(word):
        return "kana"
    return "unspaced" if UNSPACED.match(word) else "whole"


def _runs(spans: list[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Join each `length` neighbours; fewer where no more stand together."""
    run: list[tuple[int, int]] = []
    for span in [*spans, (-1, -1)]:
        if run and span[0] != run[-1][1]:
            for first in range(max(1, len(run) - length + 1)):
                yield run[first][0], run[min(first + length, len(run)) - 1][1]
            run = []
        run.append(span)


@cache
def _stem(word: str) -> str:
    """Take off what words are inflected by. Too much may go: then two words count as one, and a
    text that has the other is not taken for a mismatch.
    """
    word = POSSESSIVE.sub("", ELISION.sub("", OPTIONAL_SIGNS.sub("", word)))
    for beginning in ARABIC_BEGINNINGS:
        if word.startswith(beginning) and len(word) - len(beginning) >= MIN_STEM:
            word = word.removeprefix(beginning)
            break
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM:
            word = word if word.endswith("ss") else word.removesuffix(ending)
            break
    if len(word) > MIN_STEM and word[-1] in LAST_VOWELS:
        word = word[:-1]
    return word
