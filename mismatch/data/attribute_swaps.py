"""Mismatches by a word: two rows exchange a colour, a count, …, so that each word stands in as many
mismatches as matches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mismatch.data.agreement import edited, exchangeable, form, is_catalogue, neighbours
from mismatch.data.lexicon import Found
from mismatch.data.text_fit import TextFit, read_text

__all__ = ["LEVELS", "Edit", "Swapper"]

TRIES = 200  # other rows that are looked at for one without a partner
# how much two rows have in common that exchange a word, the most first: the words before and
# behind it; the one behind it; the kind of article; nothing
LEVELS = 4
# classes whose words go with most nouns
ANYWHERE = frozenset(["gender", "count"])


@dataclass(frozen=True)
class Edit:
    """A row's text with another word."""

    row: int
    partner: int  # the row that it exchanged words with
    text: str
    likelihood: float  # that it is true of the image all the same, 0..1
    level: int  # below LEVELS; the higher, the less its partner has in common with it


class Swapper:
    """Exchanges words among rows."""

    def __init__(self, texts: Sequence[str], fit: TextFit, random: np.random.Generator) -> None:
        """Find the words that can be exchanged."""
        self.texts = texts
        self.fit = fit
        self.lexicon = fit.lexicon
        self.random = random
        self.terms = [self.lexicon.find(text) for text in texts]
        self.is_catalogue = is_catalogue(texts, self.terms)
        self._usable = [
            exchangeable(text, terms, self.lexicon, catalogue=self.is_catalogue)
            for text, terms in zip(texts, self.terms, strict=True)
        ]

    def swaps(
        self, rows: Sequence[int], is_allowed: Callable[[int, str, float], bool]
    ) -> dict[int, Edit]:
        """Return a text for each row that has a word to exchange and a row to exchange it with.

        `is_allowed` is given a row, a new text and how likely that is true of its image.
        """
        choices = {row: self._choices(row) for row in rows}
        edits: dict[int, Edit] = {}
        for level in range(LEVELS):
            # a row that finds no partner for one word tries the next
            for turn in range(max(map(len, choices.values()), default=0)):
                buckets: dict[tuple[str, ...], list[tuple[int, Found]]] = defaultdict(list)
                for row in rows:
                    if row not in edits and turn < len(choices[row]):
                        term = choices[row][turn]
                        key = self._key(row, term, level)
                        if key is not None:
                            buckets[key].append((row, term))
                for _, members in sorted(buckets.items()):
                    for first, second in self._pairs(members, level, is_allowed):
                        edits[first.row] = first
                        edits[second.row] = second
        return edits

    def _choices(self, row: int) -> list[Found]:
        """Return words of the row to exchange, in an order of its own; the article only where there
        is nothing else.
        """
        usable = self._usable[row]
        terms = [term for term in usable if term.kind != "article"] or usable
        return [terms[int(i)] for i in self.random.permutation(len(terms))]

    def _key(self, row: int, term: Found, level: int) -> tuple[str, ...] | None:
        """Return what rows have in common that may exchange this word; None where none may."""
        before, behind = neighbours(self.texts[row], term)
        key = (term.kind, form(term, self.lexicon) or "")
        if level == 0:
            return (*key, before, behind)
        # whether other words agree with a user's own, only the same words around them say
        if term.kind in self.lexicon.own_kinds:
            return None
        if level == 1:
            return (*key, behind)
        if not self.is_catalogue and term.kind not in ANYWHERE:
            return None
        if level == 2:
            return (*key, self._article(row, term))
        return key

    def _article(self, row: int, but: Found) -> str:
        return next(
            (term.word for term in self.terms[row] if term.kind == "article" and term != but), ""
        )

    def _pairs(
        self,
        members: Sequence[tuple[int, Found]],
        level: int,
        is_allowed: Callable[[int, str, float], bool],
    ) -> Iterator[tuple[Edit, Edit]]:
        """Yield the edits of each two rows that exchange their words."""
        waiting: list[tuple[int, Found]] = []
        for row, term in members:
            for place in range(max(0, len(waiting) - TRIES), len(waiting)):
                other, theirs = waiting[place]
                if theirs.family == term.family or theirs.word == term.word:
                    continue
                first = self._edit(row, term, other, theirs.word, level)
                second = self._edit(other, theirs, row, term.word, level)
                if first is None or second is None:
                    continue
                if all(
                    is_allowed(each.row, each.text, each.likelihood) for each in (first, second)
                ):
                    del waiting[place]
                    yield first, second
                    break
            else:
                waiting.append((row, term))

    def _edit(self, row: int, term: Found, partner: int, word: str, level: int) -> Edit | None:
        """Exchange the word; None where a word of that family stands in the text elsewhere."""
        text = edited(self.texts[row], term, word)
        kinds = [(each.kind, each.family) for each in self.lexicon.find(text)]
        families = {(each.kind, each.family) for each in self.terms[row]}
        new = [kind for kind in kinds if kind not in families and kind[0] == term.kind]
        if len(kinds) != len(self.terms[row]) or not new:
            return None
        likelihood = self.fit.likelihood_of_edit(row, read_text(text, self.lexicon))
        return Edit(row, partner, text, likelihood, level)
