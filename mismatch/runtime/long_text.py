"""Texts that are longer than the text tower's context: cut into pieces that fit, at sentence ends
where there are any; and how reports speak of them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mismatch.errors import InputError
from mismatch.runtime.bisection import run_bisected
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import LongText

__all__ = [
    "MAX_LETTERS",
    "cutting_problem",
    "estimated_pieces",
    "long_texts_line",
    "split_each",
    "split_long_text",
    "split_text",
]

# a text that is cut has no more, white space folded; in Chinese they are 2,000 pieces of CLIP's,
# 10 s of its text tower
MAX_LETTERS = 50_000
SHOWN = 40  # letters of a text, by which it is found

CLOSING = r"[\"'”’»›)\]}]*"  # what may stand between a mark and the space behind it
CJK_CLOSING = r"[”’」』）】》]*"
# where a text may be cut, from where it hurts least; each finds the place behind a mark, in linear
# time
ENDS = (
    # sentences and lines
    re.compile(rf"(?<=[.!?…؟۔।॥።]){CLOSING}\s+|(?<=[。！？｡]){CJK_CLOSING}\s*|\n\s*"),
    re.compile(rf"(?<=[,;:،؛]){CLOSING}\s+|(?<=[、，；：—])\s*|(?<=\s[-–•·|/])\s+"),  # clauses
    re.compile(r"\s+"),  # words
)
LETTERS_PER_TOKEN = 3  # of ASCII, in `estimated_pieces`; English has four
SPECIAL = 2  # tokens around each text
LETTERS = 8  # of a word that is too long, that are measured together


def split_text(text: str, tokenizer: Tokenizer) -> list[str]:
    """Return a text → itself where it fits into the tokenizer's context_length, special tokens
    included, else pieces of it that do, in order.

    A longer text is cut at sentence ends; a sentence that is too long at clause marks, then at
    spaces, then between letters. Neighbours are packed together into as few pieces as possible, of
    about the same length, so that no scrap is left over to be scored on its own. No word is lost; a
    piece of nothing but punctuation, which says nothing of an image, is left out. InputError for a
    longer text of more than `MAX_LETTERS`.
    """
    _, [too_long] = tokenizer.encode([text])
    return split_long_text(text, tokenizer) if too_long else [text]


def cutting_problem(text: str) -> str | None:
    """Return why a text can't be scored in pieces: it has too many letters, as each piece costs as
    much as a text of its own.
    """
    letters = len(text) if len(text) <= MAX_LETTERS else len(" ".join(text.split()))
    if letters <= MAX_LETTERS:
        return None
    which = f"the text that begins {text[:SHOWN].strip()!r} has {letters:,} characters"
    return (
        f"{which}; at most {MAX_LETTERS:,} are scored in pieces: shorten it, or pass `long_text`"
        " truncate"
    )


def split_long_text(text: str, tokenizer: Tokenizer) -> list[str]:
    """Split, as `split_text`, a text that is known not to fit. InputError for one of more than
    `MAX_LETTERS`.
    """
    if problem := cutting_problem(text):
        raise InputError(problem)
    splitter = _Splitter(text, tokenizer)
    pieces = [
        splitter.piece(part.start, part.end)
        for part in splitter.pack(splitter.parts(0, len(text), level=0))
    ]
    telling = [
        piece for piece in pieces if _says_something(piece) and not tokenizer.is_empty(piece)
    ]
    return telling or [piece for piece in pieces if piece]


def estimated_pieces(text: str, context_length: int) -> int:
    """Return how many pieces a text makes, about, without tokenizing it: three ASCII characters are
    a token, and so is each byte of others, which is the most of a tokenizer of bytes.
    """
    ascii_letters = len(text.encode("ascii", "ignore"))
    others = len(text.encode("utf-8", "replace")) - ascii_letters  # bytes
    room = max(1, context_length - SPECIAL)
    return max(1, math.ceil((ascii_letters / LETTERS_PER_TOKEN + others) / room))


def split_each(texts: Sequence[str], tokenizer: Tokenizer) -> list[tuple[str, ...] | InputError]:
    """Split N texts that are known not to fit → the pieces of each, or why it has none."""
    return run_bisected(
        lambda chosen: [tuple(split_long_text(text, tokenizer)) for text in chosen],
        texts,
        sample=lambda: "a. " * tokenizer.context_length,
        problem=_not_split,
    )


def _not_split() -> InputError:
    return InputError(
        "the text is too long for the model and can't be cut into pieces; shorten it, or drop"
        " the row"
    )


@dataclass(frozen=True)
class _Part:
    """Some of a text that fits on its own."""

    start: int  # characters
    end: int
    tokens: int  # special ones not counted


class _Splitter:
    """One long text and the tokenizer that measures it."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self.text = text
        self.tokenizer = tokenizer
        [empty], _ = tokenizer.encode([""])
        self.special = len(empty)
        self.room = tokenizer.spec.context_length - self.special  # tokens

    def piece(self, start: int, end: int) -> str:
        return self.text[start:end].strip()

    def parts(self, start: int, end: int, level: int) -> list[_Part]:
        """Cut text[start:end] at the ends of a level, without a gap; what is still too long is cut
        at the next level.
        """
        spans = self._spans(start, end, level)
        if len(spans) == 1 and level < len(ENDS):
            return self.parts(start, end, level + 1)
        parts: list[_Part] = []
        for (first, last), (tokens, too_long) in zip(spans, self._measure(spans), strict=True):
            if too_long and last - first > 1:
                parts += self.pack(self.parts(first, last, min(level + 1, len(ENDS))))
            else:
                parts.append(_Part(first, last, tokens))
        return parts

    def pack(self, parts: Sequence[_Part]) -> list[_Part]:
        """Join neighbours into as few parts that fit as their sizes allow. A tokenizer may need
        more for a whole than for its parts: then it is halved.
        """
        groups = _balanced(parts, self.room)
        packed = list[_Part]()
        while groups:
            packed += [group[0] for group in groups if len(group) == 1]
            joined = [group for group in groups if len(group) > 1]
            spans = [(group[0].start, group[-1].end) for group in joined]
            groups = list[Sequence[_Part]]()
            for group, span, (tokens, too_long) in zip(
                joined, spans, self._measure(spans), strict=True
            ):
                if too_long:
                    groups += [group[: len(group) // 2], group[len(group) // 2 :]]
                else:
                    packed.append(_Part(*span, tokens))
        return sorted(packed, key=lambda part: part.start)

    def _spans(self, start: int, end: int, level: int) -> list[tuple[int, int]]:
        ends = (
            (match.end() for match in ENDS[level].finditer(self.text, start, end))
            if level < len(ENDS)
            else self._letters(start, end)
        )
        cuts = [start, *(cut for cut in ends if start < cut < end), end]
        return list(pairwise(cuts))

    def _letters(self, start: int, end: int) -> list[int]:
        """Return every eighth place between letters, but none before an accent; the middle where
        that leaves no place.
        """
        cuts = [start]
        for place in range(start + LETTERS, end, LETTERS):
            # else among accents that were walked over: 20,000 in a row took 26 s where each place
            # walked again
            if place > cuts[-1]:
                cuts.append(self._before_no_accent(place, end))
        return [cut for cut in cuts[1:] if cut < end] or [(start + end) // 2]

    def _before_no_accent(self, place: int, end: int) -> int:
        while place < end and unicodedata.category(self.text[place]).startswith("M"):
            place += 1
        return place

    def _measure(self, spans: Sequence[tuple[int, int]]) -> list[tuple[int, bool]]:
        """Return of each span its tokens without the special ones, at most what there is room for,
        and whether there are more.
        """
        ids, too_long = self.tokenizer.encode([self.piece(*span) for span in spans])
        return [(len(row) - self.special, cut) for row, cut in zip(ids, too_long, strict=True)]


def _balanced(parts: Sequence[_Part], room: int) -> list[Sequence[_Part]]:
    """Group neighbours in as few groups of at most `room` tokens as possible, the largest group as
    small as that number allows.
    """
    groups = _greedy(parts, room)
    low = 1
    high = room  # tokens; always enough
    while low < high:
        middle = (low + high) // 2
        candidate = _greedy(parts, middle)
        if len(candidate) > len(groups):
            low = middle + 1
        else:
            groups = candidate
            high = middle
    return groups


def _greedy(parts: Sequence[_Part], room: int) -> list[Sequence[_Part]]:
    """Make each group as large as `room` allows; a part that is larger stands alone."""
    groups: list[Sequence[_Part]] = []
    first = 0
    tokens = 0
    for i, part in enumerate(parts):
        if i > first and tokens + part.tokens > room:
            groups.append(parts[first:i])
            first = i
            tokens = 0
        tokens += part.tokens
    return [*groups, parts[first:]]


def _says_something(piece: str) -> bool:
    """Return whether it has a letter, a digit or a picture (an emoji is one of Unicode's "other
    symbols").
    """
    return any(char.isalnum() or unicodedata.category(char) == "So" for char in piece)


HOW = {
    "truncate": "without {its} end",
    "chunk": "in pieces, the worst of which decides",
    "chunk-mean": "in pieces, whose mean decides",
}


def long_texts_line(
    count: int, context_length: int, long_text: LongText, *, now: bool = False, advise: bool = False
) -> str:
    """Return what a report says of `count` texts over the context. `now`: in the present tense.
    `advise`: name the option for those that lose their end.
    """
    if count == 1:
        texts = "1 text"
        be = "is" if now else "was"
        its = "its"
        them = "it"
    else:
        texts = f"{count:,} texts"
        be = "are" if now else "were"
        its = "their"
        them = "them"
    advice = (
        f"; `long_text='chunk'` scores {them} piece by piece"
        if advise and long_text == "truncate"
        else ""
    )
    return (
        f"{texts} {be} longer than the backbone's {context_length} tokens and {be} scored"
        f" {HOW[long_text].format(its=its)}{advice}"
    )
