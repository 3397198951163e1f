"""How much texts have in common, word by word; rare words say more than frequent ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from mismatch.words import word_spans

__all__ = ["TextLikeness"]


class TextLikeness:
    """Compares texts of one file, whose words tell how rare each is."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take the texts that are to be compared."""
        self._words = {text: _words(text) for text in set(texts)}
        uses = Counter(word for words in self._words.values() for word in words)
        total = len(self._words)
        self._weight = {word: math.log1p(total / count) for word, count in uses.items()}

    def __call__(self, first: str, second: str) -> float:
        """Return the share of the words' weight that two texts have in common: 0..1, 0 for a text
        without words.
        """
        words, others = self._words[first], self._words[second]
        shared = self._sum(words & others)
        return shared / self._sum(words | others) if shared else 0.0

    def _sum(self, words: Iterable[str]) -> float:
        return sum(self._weight[word] for word in words)


def _words(text: str) -> frozenset[str]:
    folded = text.casefold()
    return frozenset(folded[start:end] for start, end in word_spans(folded))
