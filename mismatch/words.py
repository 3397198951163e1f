"""The places of words in a text of any script, by Unicode's rules (UAX #29)."""

from __future__ import annotations

from functools import cache

import regex

__all__ = ["is_unspaced", "word_spans"]

# letters of scripts without blanks; Unicode can't tell their words, so they have no class of words
UNSPACED = r"[[\p{L}&&\p{WB=Other}]\p{WB=Katakana}\p{Ideographic}]"


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the first character of each word and the one behind its last, from left to right.

    Words have a letter, a digit or an emoji. None begins or ends inside of a grapheme, so a letter
    keeps its accents. `co-op`, `don't`, `H&M` and `1,000` are one word each. In scripts without
    blanks (Han, Hiragana, Thai, Lao, Khmer, Burmese) each grapheme is a word, and a run of
    Katakana is.
    """
    return [match.span() for match in _words().finditer(text) if match["word"] is not None]


def is_unspaced(text: str) -> bool:
    """Return whether a text consists of letters of scripts that put no blanks between words."""
    return _unspaced().fullmatch(text) is not None


@cache
def _unspaced() -> regex.Pattern[str]:
    return regex.compile(rf"(?V1)(?:(?={UNSPACED})\X)+")


@cache
def _words() -> regex.Pattern[str]:
    """Return a pattern that matches either a word, as its group, or a grapheme between words."""
    spaced = rf"[[\p{{L}}\p{{N}}]--{UNSPACED}]"
    # a grapheme that begins with such a letter; the first way says the same, and is fast
    letter = rf"(?:[A-Za-z0-9](?=[\x00-\x7f])|(?={spaced})\X)"
    joint = (
        r"(?:[-'’.&/‐‑·״‧]"  # that stand inside of words: co-op, don't, H&M
        r"|(?<=\p{N})[,٬](?=\p{N})"  # 1,000
        r'|(?<=\p{Hebrew})"(?=\p{Hebrew})'  # Hebrew acronyms
        r"|\p{WB=Format}+)"  # unseen: a soft hyphen, marks of direction
    )
    katakana = r"(?=\p{WB=Katakana})\X"
    emoji = r"[[\p{Emoji_Presentation}[\p{Extended_Pictographic}&&\p{So}]]--[©®™]]"
    alone = rf"(?=\p{{L}}|\p{{N}}|{emoji})\X"
    return regex.compile(
        rf"(?V1)(?P<word>{letter}(?:{joint}?{letter})*+|(?:{katakana})++|{alone})|\X"
    )
