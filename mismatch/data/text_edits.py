"""Controlled changes of a text, of which it is known whether it still describes its image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import regex

from mismatch.data.agreement import edited, exchangeable, form
from mismatch.data.lexicon import Found, Lexicon
from mismatch.words import word_spans

__all__ = [
    "ATTRIBUTES",
    "TEXT_EDITS",
    "Edit",
    "negated",
    "replaced",
    "shuffled",
    "upper_case",
    "with_typo",
    "without_brand",
]

Random = np.random.Generator
Edit = Callable[[str, Random], str | None]  # None where the text gives no occasion
# kinds of the lexicon whose words are replaced
ATTRIBUTES = ("colour", "count", "material", "gender", "article")
NUMBER = re.compile(
    r"\b(?:pack|set) of (?P<after>\d{1,2})\b|\b(?P<before>\d{1,2})["
    r" -]?(?:pack|pieces?|pcs|pairs?)\b",
    re.IGNORECASE,
)
GRAPHEME = regex.compile(r"\X")  # a letter with its marks
LEAST_LETTERS = 5  # a word that gets a typo has them: shorter ones become other words
LEAST_WORDS = 3  # a text that loses its brand has them


def replaced(kind: str, lexicon: Lexicon | None = None) -> Edit:
    """Make an edit that puts another word of the lexicon's `kind` in place of one: of the same
    number, and none of a family that the text names already; of counts, numbers too.
    """
    words = lexicon or Lexicon()

    def edit(text: str, random: Random) -> str | None:
        terms = words.find(text)
        usable = exchangeable(text, terms, words, catalogue=True)
        chosen = [term for term in usable if term.kind == kind]
        if not chosen:
            return _other_number(text, random) if kind == "count" else None
        term = chosen[int(random.integers(len(chosen)))]
        named = {other.family for other in terms if other.kind == kind}
        others = [word for family, word in _agreeing(term, words).items() if family not in named]
        if not others:
            return None
        return edited(text, term, others[int(random.integers(len(others)))])

    return edit


def _agreeing(term: Found, lexicon: Lexicon) -> dict[int, str]:
    """Return the first word of each family that can stand in the place of `term`."""
    agreeing: dict[int, str] = {}
    for family, words in enumerate(lexicon.families[term.kind]):
        for word in words:
            if form(term._replace(family=family, word=word), lexicon) == form(term, lexicon):
                agreeing.setdefault(family, word)
    return agreeing


def _other_number(text: str, random: Random) -> str | None:
    """Return `Pack of 3` and `3 pieces` with another number, 1 to 9; None without one."""
    match = NUMBER.search(text)
    if match is None:
        return None
    group = match.lastgroup or ""
    others = [number for number in range(1, 10) if number != int(match[group])]
    return (
        text[: match.start(group)]
        + str(others[int(random.integers(len(others)))])
        + text[match.end(group) :]
    )


def shuffled(text: str, random: Random) -> str | None:
    """Return the same words in another order; None where there is only one order."""
    words = text.split()
    if len(set(words)) < 2:
        return None
    order = list(words)
    while order == words:
        order = [words[i] for i in random.permutation(len(words))]
    return " ".join(order)


def negated(text: str, _random: Random) -> str | None:
    """Return `not a …`."""
    return f"not a {text}"


def without_brand(
    text: str, _random: Random, brand: str = "", lexicon: Lexicon | None = None
) -> str | None:
    """Leave out `brand`. Where none is given, leave out the first word if it is capitalised, no
    word of the lexicon, and at least two words follow.
    """
    words = text.split()
    if brand:
        start = text.lower().find(brand.lower())
        rest = " ".join((text[:start] + text[start + len(brand) :]).split()) if start >= 0 else ""
        return rest or None
    if len(words) < LEAST_WORDS or not words[0][:1].isupper():
        return None
    terms = (lexicon or Lexicon()).find(text)
    return None if terms and terms[0].start == 0 else " ".join(words[1:])


def with_typo(text: str, random: Random) -> str | None:
    """Let two neighbouring letters inside of a word of five or more change places, with their
    marks.
    """
    swaps = [swap for start, end in word_spans(text) for swap in _swaps(text, start, end)]
    if not swaps:
        return None
    first, second, end = swaps[int(random.integers(len(swaps)))]
    return text[:first] + text[second:end] + text[first:second] + text[end:]


def _swaps(text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield where two unlike letters inside of a word begin, and where the second one ends."""
    letters = [match.span() for match in GRAPHEME.finditer(text, start, end)]
    if len(letters) < LEAST_LETTERS or not all(text[first].isalpha() for first, _ in letters):
        return
    for letter, neighbour in pairwise(letters[1:-1]):
        if text[slice(*letter)] != text[slice(*neighbour)]:
            yield *letter, neighbour[1]


def upper_case(text: str, _random: Random) -> str | None:
    """Return it IN CAPITALS; None where it is so already."""
    return None if text.upper() == text else text.upper()


TEXT_EDITS: dict[str, Edit] = {
    **{kind: replaced(kind) for kind in ATTRIBUTES},
    "negation": negated,
    "word order": shuffled,
    "brand removed": without_brand,
    "typo": with_typo,
    "upper case": upper_case,
}
