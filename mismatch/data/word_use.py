"""How the words of a set of texts are used: how often, with which others, and in whose place."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

__all__ = ["Token", "WordUse"]

MAX_IMAGES = 20_000  # more say nothing else about words that are frequent enough to count
MIN_USES = 8  # of a word whose place in texts is compared with another's
MAX_FRAME = 60  # words in one place, above which it says nothing of them
SHARED_PLACES = 0.3  # of the rarer word's, from which two words can stand for one another
NEIGHBOURLY = 0.05  # of the rarer word's uses, from which both say something of the same noun
SHRINKAGE = 4  # images that a share is moved to the whole's by

Frame = tuple[str, str]  # the words before and behind


class Token(NamedTuple):
    """A word as texts are compared by it."""

    name: str
    kind: str  # class of the lexicon that it is of, or ""
    evidence: bool  # it may be seen in an image


class WordUse:
    """Counts of words by image: the texts of one image say together what it shows."""

    def __init__(self, texts: Sequence[Sequence[Token]], images: Sequence[int]) -> None:
        """Count. `images`: each text's, by number."""
        by_image: dict[int, set[Token]] = defaultdict(set)
        for tokens, image in zip(texts, images, strict=True):
            if image in by_image or len(by_image) < MAX_IMAGES:
                by_image[image].update(token for token in tokens if token.evidence)
        self.count = len(by_image)
        self.several = len(texts) >= 2 * len(set(images))  # texts an image, by and large
        self._images: dict[Token, set[int]] = defaultdict(set)
        for image, words in by_image.items():
            for word in words:
                self._images[word].add(image)
        self._rivals = self._by_class()
        for word, others in _replaceable(texts).items():
            self._rivals.setdefault(word, set()).update(others)
        self._together: dict[tuple[Token, Token], int] = {}
        self._members: dict[Token, Counter[int]] = {}

    def share(self, word: Token) -> float:
        """Return the share of images whose texts have the word, 0..1."""
        return max(1, len(self._images.get(word, ()))) / self.count

    def information(self, word: Token) -> float:
        """Return what the word tells, in nats: the rarer, the more."""
        return -math.log(self.share(word))

    def share_given(self, word: Token, others: Iterable[Token]) -> float:
        """Return the largest share that the word has among images with a word of `others`."""
        share = self.share(word)
        shares = [share]
        for other in others:
            seen = len(self._images.get(other, ()))
            together = self._counted_together(word, other)
            shares.append((together + SHRINKAGE * share) / (seen + SHRINKAGE))
        return max(shares)

    def rivals(self, word: Token) -> set[Token]:
        """Return the words that may stand in its place: other colours for a colour."""
        return self._rivals.get(word, set())

    def more_than(self, word: Token, count: int, prior: float) -> float:
        """Return how often texts that name `count` of a word and its rivals name one more, 0..1.

        `prior`: images in which they do that are added to those that were counted, of one more.
        """
        members = self._members.get(word)
        if members is None:
            named = Counter(
                image
                for other in {word, *self.rivals(word)}
                for image in self._images.get(other, ())
            )
            members = self._members[word] = Counter(named.values())
        enough = sum(images for size, images in members.items() if size >= count)
        return (enough - members[count] + prior) / (enough + 1)

    def _counted_together(self, word: Token, other: Token) -> int:
        key = (word, other) if word < other else (other, word)
        count = self._together.get(key)
        if count is None:
            first = self._images.get(word, set())
            count = self._together[key] = len(first & self._images.get(other, set()))
        return count

    def _by_class(self) -> dict[Token, set[Token]]:
        """Return the rivals of the lexicon's words: all of their class."""
        classes: dict[str, set[Token]] = defaultdict(set)
        for word in self._images:
            if word.kind:
                classes[word.kind].add(word)
        return {word: members - {word} for members in classes.values() for word in members}


def _replaceable(texts: Sequence[Sequence[Token]]) -> dict[Token, set[Token]]:
    """Return words that are often found between the same two words, and never say something of the
    same noun: `red` and `blue`, but not `red` and `small`.
    """
    uses: Counter[Token] = Counter()
    frames: dict[Frame, Counter[Token]] = defaultdict(Counter)
    neighbours: Counter[frozenset[Token]] = Counter()
    for tokens in texts[: 2 * MAX_IMAGES]:
        names = ["", *(token.name for token in tokens), ""]
        for place, token in enumerate(tokens):
            uses[token] += 1
            frames[names[place], names[place + 2]][token] += 1
        neighbours.update(map(frozenset, pairwise(tokens)))
    shared: Counter[tuple[Token, Token]] = Counter()
    for words in frames.values():
        frequent = sorted(word for word in words if word.evidence and uses[word] >= MIN_USES)
        if len(frequent) <= MAX_FRAME:
            for pair in combinations(frequent, 2):
                shared[pair] += min(words[pair[0]], words[pair[1]])
    rivals: dict[Token, set[Token]] = defaultdict(set)
    for (word, other), places in shared.items():
        rarer = min(uses[word], uses[other])
        if (
            places >= SHARED_PLACES * rarer
            and neighbours[frozenset((word, other))] < NEIGHBOURLY * rarer
        ):
            rivals[word].add(other)
            rivals[other].add(word)
    return rivals
