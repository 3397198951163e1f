"""Whether a text may be true of another text's image too, as far as words say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mismatch.data.lexicon import Lexicon
from mismatch.data.text_words import text_words
from mismatch.data.word_use import Token, WordUse

__all__ = ["ReadText", "TextFit", "read_text"]

# what a lexicon's word says of the noun behind it
MODIFIERS = frozenset(["colour", "material", "pattern", "size", "count", "gender"])
# share of common words from which two texts may say the same, unless an attribute differs: another
# brand can't be seen
ALIKE = 0.4
ALIKE_INFORMATION = 0.5  # the same of what the common words tell, of the shorter text
UNSAID = 2.0  # things that an image shows, for each that its text names
# how likely an image shows two words that never stand together, 0..1
OTHER_VALUE = 0.01  # two colours of the lexicon
OTHER_WORD = 0.15  # words that texts use in one place; they may be synonyms
OTHER_WORD_SEEN = 0.03  # the same where images have several texts, which would name both
CLOSED = 0.3  # likelihood below which a word is denied by the text's own


@dataclass(frozen=True)
class ReadText:
    """A text's words."""

    tokens: tuple[Token, ...]  # all, from left to right
    joined: tuple[bool, ...]  # whether each follows the one before without a blank
    words: frozenset[Token]  # those that may be seen
    heads: frozenset[tuple[str, str]]  # classes of attributes with the nouns that they are said of


def read_text(text: str, lexicon: Lexicon) -> ReadText:
    """Read the words of a text; those of one family of the lexicon are one word."""
    terms = lexicon.find(text)
    tokens: list[Token] = []
    joined: list[bool] = []
    done = 0  # characters
    for word in text_words(text):
        term = next(
            (term for term in terms if term.start < word.end and word.start < term.end), None
        )
        if term is None:
            tokens.append(Token(word.text, "", word.is_evidence))
            joined.append(word.joined)
        elif term.start >= done:
            tokens.append(Token(f"{term.kind} {term.family}", term.kind, True))
            joined.append(word.joined)
            done = term.end
    words = frozenset(token for token in tokens if token.evidence)
    return ReadText(tuple(tokens), tuple(joined), words, frozenset(_heads(tokens)))


def _heads(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Yield the class of each attribute with the noun behind it."""
    waiting: list[str] = []
    for token in tokens:
        if token.kind in MODIFIERS:
            waiting.append(token.kind)
        elif token.evidence:
            yield from ((kind, token.name) for kind in waiting)
            waiting = []
        else:
            waiting = []


class TextFit:
    """Says of a text how likely it is true of a row's image, from the texts of that image and from
    how all texts use their words.
    """

    def __init__(self, texts: Sequence[str], images: Sequence[int], lexicon: Lexicon) -> None:
        """Read the texts. `images`: each text's, by number."""
        self.lexicon = lexicon
        self.texts = [read_text(text, lexicon) for text in texts]
        self.use = WordUse([text.tokens for text in self.texts], images)
        self._images = images
        self._of_image: dict[int, list[ReadText]] = defaultdict(list)
        for text, image in zip(self.texts, images, strict=True):
            self._of_image[image].append(text)
        self._words = {
            image: frozenset().union(*(text.words for text in texts))
            for image, texts in self._of_image.items()
        }
        self._other_word = OTHER_WORD_SEEN if self.use.several else OTHER_WORD

    def likelihood(self, row: int, text: ReadText) -> float:
        """Return how likely the text is true of the row's image, 0..1; 1 where it says no more than
        a text of the image, or no less, or much the same and no attribute differs.
        """
        shown = self._words[self._images[row]]
        own_texts = self._of_image[self._images[row]]
        new = text.words - shown
        if not new or any(mine.words <= text.words for mine in own_texts):
            return 1.0
        shares = {word: self._share(word, text, shown, own_texts) for word in new}
        kinds = [
            word.kind for word in new if shares[word] < CLOSED and self._is_denied(word, shown)
        ]
        if not any(kinds) and any(
            (not kinds or _has_attributes(mine, text)) and self._is_alike(mine.words, text.words)
            for mine in own_texts
        ):
            return 1.0
        return math.prod(_of_runs(text, shares))

    def likelihood_of_edit(self, row: int, edited: ReadText) -> float:
        """Return how likely the row's text with a word exchanged is true of its image, 0..1."""
        shown = self._words[self._images[row]]
        own_texts = self._of_image[self._images[row]]
        new = edited.words - shown
        if not new or any(
            edited.words <= mine.words or mine.words <= edited.words for mine in own_texts
        ):
            return 1.0
        return math.prod(self._share(word, edited, shown, own_texts) for word in sorted(new))

    def _share(
        self, word: Token, text: ReadText, shown: frozenset[Token], own_texts: Sequence[ReadText]
    ) -> float:
        """Return how likely the image shows what a word names that its texts don't have."""
        named = shown & self.use.rivals(word)
        if not named:
            return min(1.0, UNSAID * self.use.share_given(word, shown))
        if word.kind and _same_head(word, text, own_texts):
            return OTHER_VALUE
        more = self.use.more_than(word, len(named), 0.2 if word.kind else 1.0)
        share = more * min(1.0, UNSAID * self.use.share(word))
        return max(share, OTHER_VALUE if word.kind else self._other_word)

    def _is_denied(self, word: Token, shown: frozenset[Token]) -> bool:
        return not shown.isdisjoint(self.use.rivals(word))

    def _is_alike(self, words: frozenset[Token], others: frozenset[Token]) -> bool:
        common = words & others
        if len(common) >= ALIKE * len(words | others):
            return True
        shorter = min(self._information(words), self._information(others))
        return self._information(common) >= ALIKE_INFORMATION * shorter

    def _information(self, words: Iterable[Token]) -> float:
        # the same in any order of the words
        return math.fsum(map(self.use.information, words))


def _same_head(word: Token, text: ReadText, own_texts: Sequence[ReadText]) -> bool:
    """Return whether both texts name an attribute of the class of one noun."""
    nouns = {noun for kind, noun in text.heads if kind == word.kind}
    return any(
        kind == word.kind and noun in nouns for mine in own_texts for kind, noun in mine.heads
    )


def _has_attributes(mine: ReadText, text: ReadText) -> bool:
    """Return whether both name an attribute of one class of the lexicon."""
    kinds = {word.kind for word in mine.words if word.kind}
    return any(word.kind in kinds for word in text.words)


def _of_runs(text: ReadText, shares: dict[Token, float]) -> Iterator[float]:
    """Yield the likelihood of each new word; of neighbours without a blank between them, which may
    be one word, that of the rarest.
    """
    run: list[float] = []
    left = dict(shares)  # each word counts once
    for token, joined in zip(text.tokens, text.joined, strict=True):
        if run and not (joined and token in left):
            yield min(run)
            run = []
        if token in left:
            run.append(left.pop(token))
    if run:
        yield min(run)
