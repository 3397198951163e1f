"""Mismatches from matches: another row's text, one much like it, or the own text with one attribute
exchanged. Never a text that fits the image too.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mismatch.data.lexicon import Found, Lexicon, exchange
from mismatch.errors import InputError, MissingExtraError

__all__ = ["KINDS", "Made", "Negatives", "by_words", "make_negatives"]

KINDS = ("random", "hard", "attribute")
TRIES = 200  # other rows that are looked at for one without a text
NEIGHBOURS = 30  # texts that are looked at for a hard mismatch
# texts among which neighbours are sought, so that time grows with the rows and not with their
# square
BLOCK = 20_000
# share of common words from which two texts may say the same, unless an attribute differs: another
# brand can't be seen
ALIKE = 0.4
STOP_WORDS = frozenset(["a", "an", "and", "for", "in", "of", "on", "or", "the", "to", "with"])
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

# texts, count → (N, count) numbers of the nearest others, nearest first
Neighbours = Callable[[Sequence[str], int], NDArray[np.int64]]


class Made(NamedTuple):
    """A mismatch: the row whose image it has, its text, and its kind."""

    row: int
    text: str
    kind: str


@dataclass
class Negatives:
    """What was made, by row; and the rows for which no text was found."""

    made: list[Made] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Count them by kind."""
        counted = Counter(mismatch.kind for mismatch in self.made)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}


def make_negatives(
    texts: Sequence[str],
    images: Sequence[int],
    *,
    shares: Mapping[str, float],
    per_positive: int = 1,
    seed: int = 0,
    lexicon: Lexicon | None = None,
    neighbours: Neighbours | None = None,
) -> Negatives:
    """Make `per_positive` mismatches for each row. `texts` describe their rows' images; `images`: a
    number a row, the same for near-duplicates; `shares` of KINDS.

    random and hard ones exchange the rows' texts among them, so that a text is a mismatch as often
    as a match; attribute ones exchange words among rows. A row for which its kind has no text gets
    the next kind: attribute, hard, random. InputError for shares that aren't any.
    """
    if unknown := set(shares) - set(KINDS):
        raise InputError(
            f"there is no kind {sorted(unknown)[0]!r} of mismatches; {', '.join(KINDS)} are there"
        )
    if (
        not texts
        or not min(shares.values(), default=0) >= 0
        or not 0 < sum(shares.values()) < math.inf
    ):
        raise InputError(
            "rows, and a share above 0 for at least one kind of mismatches, are needed"
        )
    maker = _Maker(texts, images, lexicon or Lexicon(), seed)
    result = Negatives()
    for turn in range(per_positive):
        result.made += maker.round(shares, neighbours or by_words, turn)
        result.missing += maker.left
    result.made.sort(key=lambda mismatch: mismatch.row)
    result.missing.sort()
    return result


class _Maker:
    """The rows, and what each of them has got."""

    def __init__(
        self, texts: Sequence[str], images: Sequence[int], lexicon: Lexicon, seed: int
    ) -> None:
        self.texts = texts
        self.images = images
        self.lexicon = lexicon
        self.random = np.random.default_rng(seed)
        self.words = [_content(text) for text in texts]
        self.terms = [lexicon.find(text) for text in texts]
        self.uses = Counter(term.word for row in self.terms for term in row)
        self.taken: list[set[str]] = [set() for _ in texts]  # texts that a row has as mismatches
        self.of_image: dict[int, set[int]] = defaultdict(set)
        for row, image in enumerate(images):
            self.of_image[image].add(row)
        self.left: list[int] = []

    def round(
        self, shares: Mapping[str, float], neighbours: Neighbours, turn: int
    ) -> Iterator[Made]:
        """Yield one mismatch a row; the rows that got none are in `left`."""
        order = self.random.permutation(len(self.texts))
        edges = np.rint(
            np.cumsum([shares.get(kind, 0) for kind in ("attribute", "hard")])
            / sum(shares.values())
            * len(order)
        ).astype(int)
        attribute, hard, plain = (list(map(int, part)) for part in np.split(order, edges))
        made = self._attributes(attribute)
        hard += [row for row in attribute if row not in made]
        yield from (self._take(Made(row, text, "attribute")) for row, text in sorted(made.items()))
        pool = [*hard, *plain]  # whose texts are given away, each once
        assigned = self._hard(hard, pool, neighbours)
        yield from (
            self._take(Made(row, self.texts[other], "hard"))
            for row, other in sorted(assigned.items())
        )
        used = set(assigned.values())
        others = self._exchange(
            [row for row in pool if row not in assigned], [row for row in pool if row not in used]
        )
        self.left = sorted(row for row, other in others.items() if other is None)
        yield from (
            self._take(Made(row, self.texts[other], "random"))
            for row, other in sorted(others.items())
            if other is not None
        )

    def _take(self, made: Made) -> Made:
        self.taken[made.row].add(made.text)
        return made

    def _fits(self, row: int, other: int) -> bool:
        """Return whether another row's text may describe this row's image too, or is its mismatch
        already.
        """
        if self.images[row] == self.images[other] or self.texts[other] in self.taken[row]:
            return True
        return any(
            self._same(words, self.words[other], self.terms[mine], self.terms[other])
            for mine, words in self._image_texts(row)
        )

    def _image_texts(self, row: int) -> Iterator[tuple[int, frozenset[str]]]:
        """Return the texts of the row's image, each with its words."""
        return ((mine, self.words[mine]) for mine in self.of_image[self.images[row]])

    def _same(
        self,
        words: frozenset[str],
        other_words: frozenset[str],
        mine: list[Found],
        theirs: list[Found],
    ) -> bool:
        """Guard against paraphrases: return whether one says no more than the other, or much of the
        same without an attribute that differs.
        """
        if words <= other_words or other_words <= words:
            return True
        return len(words & other_words) >= ALIKE * len(words | other_words) and not _contradict(
            mine, theirs
        )

    # --- attribute: words are exchanged among rows

    def _attributes(self, rows: list[int]) -> dict[int, str]:
        """Return a text for each row that has a word to exchange. The new word is another row's, of
        the same class, preferably of the same article. So each word stands in as many mismatches as
        matches.
        """
        choices = {row: self._choices(row) for row in rows}
        made: dict[int, str] = {}
        # who finds nobody to exchange one word with tries the next
        for turn in range(max(map(len, choices.values()), default=0)):
            buckets: dict[tuple[str, str], list[tuple[int, Found]]] = defaultdict(list)
            for row in rows:
                if row not in made and turn < len(choices[row]):
                    term = choices[row][turn]
                    buckets[term.kind, self._article(row, term)].append((row, term))
            rest: dict[str, list[tuple[int, Found]]] = defaultdict(list)
            for (kind, _), members in sorted(buckets.items()):
                rest[kind] += self._swap(members, made)
            for _, members in sorted(rest.items()):
                self._swap(members, made)
        for row in rows:
            if row not in made:
                any(
                    self._edit(row, term, word, made)
                    for term in choices[row]
                    for word in self._drawn(term)
                )
        return made

    def _choices(self, row: int) -> list[Found]:
        """Return words of the row to exchange, in an order of its own; the article only where there
        is nothing else.
        """
        terms = [term for term in self.terms[row] if term.kind != "article"] or self.terms[row]
        return [terms[int(i)] for i in self.random.permutation(len(terms))]

    def _article(self, row: int, but: Found) -> str:
        return next(
            (term.word for term in self.terms[row] if term.kind == "article" and term != but), ""
        )

    def _drawn(self, term: Found) -> Iterator[str]:
        """Yield ten words of other families, as often as the rows use them, so that none of them
        tells a mismatch by itself; where they use none, any.
        """
        words = list(self.lexicon.alternatives(term))
        uses = np.array([self.uses[word] for word in words], float)
        if not words:
            return
        weights = uses / uses.sum() if uses.any() else None
        for i in self.random.choice(len(words), size=10, p=weights):
            yield words[int(i)]

    def _swap(
        self, members: list[tuple[int, Found]], made: dict[int, str]
    ) -> list[tuple[int, Found]]:
        """Exchange the words of pairs of rows; return those that found no partner."""
        waiting: list[tuple[int, Found]] = []
        for row, term in members:
            for place, (other, theirs) in enumerate(
                waiting[-TRIES:], start=max(0, len(waiting) - TRIES)
            ):
                if theirs.family != term.family and self._edit(row, term, theirs.word, made):
                    if self._edit(other, theirs, term.word, made):
                        del waiting[place]
                        break
                    del made[row]
            else:
                waiting.append((row, term))
        return waiting

    def _edit(self, row: int, term: Found, word: str, made: dict[int, str]) -> bool:
        """Exchange the word, unless the new text fits the image: the image has it, or a word of
        that family stands in it elsewhere.
        """
        text = exchange(self.texts[row], term, word)
        after = self.lexicon.find(text)
        new = [other for other in after if other.start == term.start and other.kind == term.kind]
        if (
            not new
            or any(
                other.kind == term.kind and other.family == new[0].family
                for other in self.terms[row]
            )
            or text in self.taken[row]
        ):
            return False
        words = _content(text)
        if any(
            words <= text_words or text_words <= words for _, text_words in self._image_texts(row)
        ):
            return False
        made[row] = text
        return True

    # --- hard and random: texts change places

    def _hard(self, rows: list[int], pool: list[int], neighbours: Neighbours) -> dict[int, int]:
        """Return for each row the nearest text that doesn't fit and that nobody has yet."""
        assigned: dict[int, int] = {}
        free = set(pool)
        wanted = set(rows)
        for start in range(0, len(pool), BLOCK):
            block = pool[start : start + BLOCK]
            if len(block) < 2 or wanted.isdisjoint(block):
                continue
            nearest = neighbours(
                [self.texts[row] for row in block], min(NEIGHBOURS, len(block) - 1)
            )
            for row, near in zip(block, nearest, strict=True):
                if row not in wanted:
                    continue
                candidates = (block[i] for i in near if block[i] in free)
                other = next((text for text in candidates if not self._fits(row, text)), None)
                if other is not None:
                    assigned[row] = other
                    free.discard(other)
        return assigned

    def _exchange(self, rows: list[int], texts: list[int]) -> dict[int, int | None]:
        """Give each row another row's text, each text once: drawn, then mended where one fits by
        changing places with a third.
        """
        drawn = [texts[i] for i in self.random.permutation(len(texts))]
        result: dict[int, int | None] = dict(zip(rows, drawn, strict=True))
        for row in rows:
            mine = result[row]
            if mine is None or not self._fits(row, mine):
                continue
            for i in self.random.integers(len(rows), size=TRIES):
                third = rows[int(i)]
                theirs = result[third]
                if (
                    theirs is not None
                    and third != row
                    and not self._fits(row, theirs)
                    and not self._fits(third, mine)
                ):
                    result[row], result[third] = theirs, mine
                    break
            else:
                result[row] = None
        return result


def by_words(texts: Sequence[str], count: int) -> NDArray[np.int64]:
    """Return (N, count) numbers of the texts with the most similar words (tf-idf, cosine), nearest
    first. MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise MissingExtraError("finding hard mismatches", "audit") from error
    seen = TfidfVectorizer(
        ngram_range=(1, 1), sublinear_tf=True, token_pattern=r"\S+"
    ).fit_transform(texts)
    return nearest(
        (seen[start : start + 1000] @ seen.T for start in range(0, len(texts), 1000)), count
    )


def nearest(similarities: Iterator[Any], count: int) -> NDArray[np.int64]:
    """Return (N, count) numbers from blocks of rows of an (N, N) matrix of similarities, dense or
    sparse; nothing is its own neighbour.
    """
    neighbours = []
    start = 0
    for block in similarities:
        dense = np.array(block.toarray() if hasattr(block, "toarray") else block, np.float32)
        dense[np.arange(len(dense)), start + np.arange(len(dense))] = -np.inf
        best = (
            np.argpartition(-dense, count - 1, axis=1)[:, :count]
            if count < dense.shape[1]
            else np.argsort(-dense, axis=1)[:, :count]
        )
        order = np.lexsort((best, -np.take_along_axis(dense, best, 1)), axis=1)
        neighbours.append(np.take_along_axis(best, order, 1))
        start += len(dense)
    return np.concatenate(neighbours).astype(np.int64)


def _content(text: str) -> frozenset[str]:
    """Return its words without case, plural and small words."""
    words = (word.lower() for word in WORD.findall(text))
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in words
        if word not in STOP_WORDS
    )


def _contradict(mine: Sequence[Found], theirs: Sequence[Found]) -> bool:
    """Return whether both name an attribute of one class, and none of it the same."""
    ours = defaultdict(set)
    others = defaultdict(set)
    for term in mine:
        ours[term.kind].add(term.family)
    for term in theirs:
        others[term.kind].add(term.family)
    return any(ours[kind].isdisjoint(others[kind]) for kind in ours.keys() & others.keys())
