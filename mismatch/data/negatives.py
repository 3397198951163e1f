"""Mismatches from matches: another row's text, one much like it, or the own text with one attribute
exchanged. Never a text that fits the image too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from mismatch.data.attribute_swaps import Edit, Swapper
from mismatch.data.lexicon import Lexicon
from mismatch.data.similar_texts import Neighbours, by_words, nearest
from mismatch.data.text_fit import TextFit
from mismatch.data.unimodal_baselines import blind_pair_auroc
from mismatch.errors import InputError

__all__ = [
    "KINDS",
    "MAX_BLIND",
    "MAX_LIKELIHOOD",
    "Evidence",
    "Made",
    "Negatives",
    "by_words",
    "closed_exchange",
    "make_negatives",
    "nearest",
]

KINDS = ("random", "hard", "attribute")
TRIES = 100  # other rows that are looked at for one without a text
NEIGHBOURS = 30  # texts that are looked at for a hard mismatch
# texts among which neighbours are sought, so that time grows with the rows and not with their
# square
BLOCK = 20_000
MAX_LIKELIHOOD = 0.05  # that a mismatch is true of its image, 0..1
MAX_DOUBT = 0.5  # the same of a doubtful one, which is kept apart
MAX_BLIND = 0.6  # AUROC with which texts alone may tell a kind of mismatch, 0.5..1

# a row, another row → how many times as likely the other's text is true of the row's image as the
# words alone say; and whether it fits that image as well as the own text
Evidence = Callable[[int, int], tuple[float, bool]]


class Made(NamedTuple):
    """A mismatch: the row whose image it has, its text, and its kind."""

    row: int
    text: str
    kind: str
    likelihood: float = 0.0  # that the text is true of the image all the same, 0..1


@dataclass
class Negatives:
    """What was made, by row; and the rows for which no text was found."""

    made: list[Made] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    # what may be true of the image all the same; their rows have no other mismatch instead
    doubtful: list[Made] = field(default_factory=list)
    # mismatches of a kind that were left out, as texts alone told them
    told: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count them by kind."""
        counted = Counter(mismatch.kind for mismatch in self.made)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}


def make_negatives(  # noqa: PLR0913
    texts: Sequence[str],
    images: Sequence[int],
    *,
    shares: Mapping[str, float],
    per_positive: int = 1,
    seed: int = 0,
    lexicon: Lexicon | None = None,
    neighbours: Neighbours | None = None,
    evidence: Evidence | None = None,
) -> Negatives:
    """Make `per_positive` mismatches for each row. `texts` describe their rows' images; `images`: a
    number a row, the same for near-duplicates; `shares` of KINDS; `evidence`: what the images say.

    Rows exchange texts or words, so that each is a mismatch as often as a match. A row for which
    its kind has no text gets the next kind: attribute, hard, random. A text that is likely true of
    the image is never taken; one that may be is doubtful. InputError for shares that aren't any.
    """
    _check_shares(texts, shares)
    maker = _Maker(texts, images, lexicon or Lexicon(), seed)
    maker.evidence = evidence
    for _ in range(per_positive):
        maker.round(shares, neighbours or by_words)
    result = maker.result
    result.made.sort(key=lambda mismatch: mismatch.row)
    result.doubtful.sort(key=lambda mismatch: mismatch.row)
    result.missing.sort()
    return result


def _check_shares(texts: Sequence[str], shares: Mapping[str, float]) -> None:
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


def closed_exchange(assigned: Mapping[int, int]) -> dict[int, int]:
    """Return those of the rows, with the rows whose texts they get, that give theirs to others of
    them: each text is a mismatch as often as a match.
    """
    closed = dict(assigned)
    while closed.keys() != set(closed.values()):
        both = closed.keys() & set(closed.values())
        closed = {row: other for row, other in closed.items() if row in both and other in both}
    return closed


class _Maker:
    """The rows, and what each of them has got."""

    def __init__(
        self, texts: Sequence[str], images: Sequence[int], lexicon: Lexicon, seed: int
    ) -> None:
        self.texts = texts
        self.images = images
        self.random = np.random.default_rng(seed)
        self.fit = TextFit(texts, images, lexicon)
        self.swapper = Swapper(texts, self.fit, self.random)
        self.evidence: Evidence | None = None
        self.taken: list[set[str]] = [set() for _ in texts]  # texts that a row has as mismatches
        self.result = Negatives()

    def round(self, shares: Mapping[str, float], neighbours: Neighbours) -> None:
        """Make one mismatch a row."""
        order = self.random.permutation(len(self.texts))
        edges = np.rint(
            np.cumsum([shares.get(kind, 0) for kind in ("attribute", "hard")])
            / sum(shares.values())
            * len(order)
        ).astype(int)
        attribute, hard, plain = (list(map(int, part)) for part in np.split(order, edges))
        edits = self._attributes(attribute, [*plain, *hard])
        for row, edit in sorted(edits.items()):
            self._take(Made(row, edit.text, "attribute", edit.likelihood))
        # whose texts are given away, each once
        pool = [row for row in (*hard, *attribute, *plain) if row not in edits]
        assigned = self._hard(len(hard) + len(attribute) - len(edits), pool, neighbours)
        for row, other in sorted(assigned.items()):
            self._take(self._other_text(row, other, "hard"))
        used = set(assigned.values())
        others = self._exchange(
            [row for row in pool if row not in assigned], [row for row in pool if row not in used]
        )
        for row, other in sorted(self._untold(others).items()):
            self._take(self._other_text(row, other, "random"))
        used.update(others.values())
        self._give_rest(
            [row for row in pool if row not in assigned and row not in others],
            [row for row in pool if row not in used],
        )

    def _untold(self, assigned: dict[int, int]) -> dict[int, int]:
        """Return the rows with the rows whose texts they get; where texts alone tell these, only
        rows whose own texts are given away as well.
        """
        auroc = blind_pair_auroc(
            [self.texts[row] for row in assigned],
            [self.texts[other] for other in assigned.values()],
            [self.images[row] for row in assigned],
        )
        if auroc is None or auroc <= MAX_BLIND:
            return assigned
        closed = closed_exchange(assigned)
        self._count_told("random", len(assigned) - len(closed))
        return closed

    def _count_told(self, kind: str, count: int) -> None:
        if count:
            self.result.told[kind] = self.result.told.get(kind, 0) + count

    def _other_text(self, row: int, other: int, kind: str) -> Made:
        return Made(row, self.texts[other], kind, self._likelihood(row, other))

    def _take(self, made: Made) -> None:
        self.taken[made.row].add(made.text)
        self.result.made.append(made)

    def _give_rest(self, rows: list[int], texts: list[int]) -> None:
        """Give rows the least likely of the texts that are left, if it may be false at all."""
        left = list(texts)
        for row in sorted(rows):
            candidates = left
            if len(left) > TRIES:
                drawn = self.random.integers(len(left), size=TRIES)
                candidates = [left[int(i)] for i in drawn]
            likelihoods = {other: self._likelihood(row, other) for other in candidates}
            best = min(likelihoods, key=likelihoods.__getitem__, default=row)
            if best == row or likelihoods[best] > MAX_DOUBT:
                self.result.missing.append(row)
                continue
            left.remove(best)
            made = Made(row, self.texts[best], "random", likelihoods[best])
            if made.likelihood <= MAX_LIKELIHOOD:
                self._take(made)
            else:
                self.taken[row].add(made.text)
                self.result.doubtful.append(made)

    def _fits(self, row: int, other: int) -> bool:
        """Return whether another row's text may describe this row's image too, or is its mismatch
        already.
        """
        return self._likelihood(row, other) > MAX_LIKELIHOOD

    def _likelihood(self, row: int, other: int) -> float:
        """Return how likely another row's text is true of this row's image; 1 where it is its
        mismatch already.
        """
        if self.images[row] == self.images[other] or self.texts[other] in self.taken[row]:
            return 1.0
        likelihood = self.fit.likelihood(row, self.fit.texts[other])
        if self.evidence is None or likelihood in (0.0, 1.0):
            return likelihood
        ratio, as_well = self.evidence(row, other)
        odds = ratio * likelihood / (1 - likelihood)
        return max(odds / (1 + odds), MAX_DOUBT if as_well else 0.0)

    # --- attribute: words are exchanged among rows

    def _attributes(self, rows: list[int], others: list[int]) -> dict[int, Edit]:
        """Return an edited text for each of `rows`, or of `others` where one has no partner; where
        texts alone tell the edited ones, only those whose partners have most in common with them.
        """

        def is_allowed(row: int, text: str, likelihood: float) -> bool:
            return likelihood <= MAX_LIKELIHOOD and text not in self.taken[row]

        edits = self.swapper.swaps(rows, is_allowed)
        if len(edits) < len(rows):
            left = [row for row in (*rows, *others) if row not in edits]
            more = self.swapper.swaps(left, is_allowed)
            edits |= dict(islice(more.items(), len(rows) - len(edits)))
        made = len(edits)
        while edits and self._is_told(edits):
            loosest = max(edit.level for edit in edits.values())
            edits = {row: edit for row, edit in edits.items() if edit.level < loosest}
        self._count_told("attribute", made - len(edits))
        return edits

    def _is_told(self, edits: Mapping[int, Edit]) -> bool:
        auroc = blind_pair_auroc(
            [self.texts[row] for row in edits],
            [edit.text for edit in edits.values()],
            [self.images[row] for row in edits],
        )
        return auroc is not None and auroc > MAX_BLIND

    # --- hard and random: texts change places

    def _hard(self, count: int, pool: list[int], neighbours: Neighbours) -> dict[int, int]:
        """Return the nearest text that doesn't fit for `count` rows of the pool, the first ones
        before others. Two rows exchange their texts: so these tell nothing.
        """
        assigned: dict[int, int] = {}
        for start in range(0, len(pool), BLOCK):
            block = pool[start : start + BLOCK]
            if len(block) < 2 or len(assigned) >= count:
                continue
            nearest_rows = neighbours(
                [self.texts[row] for row in block], min(NEIGHBOURS, len(block) - 1)
            )
            for row, near in zip(block, nearest_rows, strict=True):
                if row in assigned or len(assigned) >= count:
                    continue
                candidates = (block[i] for i in near if block[i] not in assigned)
                other = next((text for text in candidates if self._differ(row, text)), None)
                if other is not None:
                    assigned[row] = other
                    if len(assigned) < count:
                        assigned[other] = row
        return assigned

    def _differ(self, row: int, other: int) -> bool:
        return not self._fits(row, other) and not self._fits(other, row)

    def _exchange(self, rows: list[int], texts: list[int]) -> dict[int, int]:
        """Give each row another row's text, each text once: drawn, then mended where one fits by
        changing places with a third. Rows that no text was found for are left out.
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
        return {row: other for row, other in result.items() if other is not None}
