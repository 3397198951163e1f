"""Words that messages share: plurals, and the name that was probably meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["article", "did_you_mean", "one_line", "plural", "printable"]

DIRECTIONS = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def article(name: str) -> str:
    """Return `an int` or `a str`."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'openclip'?`, or nothing where none of the names is near."""
    folded = {other.lower(): other for other in names}
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def plural(count: int, noun: str) -> str:
    """Return `1 row` or `1,024 rows`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def one_line(error: BaseException) -> str:
    """Return what an exception says in one line, `ValueError: …`."""
    words = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {words}" if words else name


def printable(text: str) -> str:
    """Return a text in which codes stand for what a terminal would obey, or hide behind. These are
    control characters, halves of surrogate pairs, and what turns the direction of writing.
    """
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTIONS:
        return character.encode("unicode_escape").decode()
    return character
