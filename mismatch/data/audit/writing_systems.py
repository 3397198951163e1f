"""Which script a text is written in (Latin, Cyrillic, …), and what reads it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import regex

__all__ = ["WHOLE", "UnreadShare", "letters_to_read", "main_script", "unread_line"]

WHOLE = regex.compile(r"[\p{Han}\p{Hangul}]")  # letters that are parts of words, not sounds
LATIN = regex.compile(r"\p{Latin}")
LEAST_LETTERS = 8  # fewer tell no language; one of Han or Hangul counts twice
LEAST_LATIN = 12  # of Latin letters, as names break into pieces in any language
FEW = 0.2  # share of the letters that makes a text one of its script
LEAST_UNREAD = 0.5  # of the texts in a script: in each, some names break into letters

_INDIAN = {
    "devanagari",
    "bengali",
    "gurmukhi",
    "gujarati",
    "oriya",
    "tamil",
    "telugu",
    "kannada",
    "malayalam",
    "sinhala",
}
_OTHERS = {
    "thai",
    "lao",
    "tibetan",
    "myanmar",
    "georgian",
    "hangul",
    "ethiopic",
    "khmer",
    "mongolian",
    "cjk",
}
SCRIPTS = {"latin", "greek", "cyrillic", "armenian", "hebrew", "arabic"} | _INDIAN | _OTHERS
# Japanese mixes them
SAME = {"hiragana": "cjk", "katakana": "cjk", "katakana-hiragana": "cjk", "fullwidth": "latin"}


def main_script(text: str) -> str | None:
    """Return the script of most of its letters, by Unicode's names in lower case; Chinese and
    Japanese are both cjk. None for a text without letters.
    """
    if text.isascii():
        return "latin" if any(map(str.isalpha, text)) else None
    counts = Counter(filter(None, map(_script_of, text)))
    return max(counts, key=lambda script: counts[script]) if counts else None


@lru_cache(maxsize=4096)
def _script_of(char: str) -> str | None:
    if not char.isalpha():
        return None
    first = unicodedata.name(char, "").partition(" ")[0].lower()
    script = SAME.get(first, first)
    return script if script in SCRIPTS else None


def letters_to_read(text: str) -> str:
    """Return the words of a text whose tokens tell whether it is read: those in other letters than
    Latin if there are some, no single letters; "" where too few are left.
    """
    words = [
        word
        for word in "".join(map(_letter_or_blank, text)).split()
        if len(word) > 1 or WHOLE.match(word)
    ]
    others = [word for word in words if not LATIN.search(word)]
    other_letters = _weight(others)
    if other_letters >= max(LEAST_LETTERS, FEW * _weight(words)):
        return " ".join(others)
    return " ".join(words) if _weight(words) - other_letters >= LEAST_LATIN else ""


def _weight(words: Iterable[str]) -> int:
    return sum(len(word) + len(WHOLE.findall(word)) for word in words)


def _letter_or_blank(char: str) -> str:
    return char if unicodedata.category(char)[0] in "LM" else " "


class UnreadShare:
    """Counts texts that a tokenizer reads and that it doesn't, by their scripts."""

    def __init__(self) -> None:
        self._tested: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()

    def add(self, text: str, is_read: bool) -> None:
        """Count a text, if it has letters enough to tell."""
        if not letters_to_read(text):
            return
        script = main_script(text) or ""
        self._tested[script] += 1
        self._unread[script] += not is_read

    @property
    def total(self) -> int:
        return self._tested.total()

    def unread(self) -> Counter[str]:
        """Return the number of unread texts of each script of which most are unread."""
        return Counter(
            {
                script: count
                for script, count in self._unread.items()
                if count >= max(1, LEAST_UNREAD * self._tested[script])
            }
        )


def unread_line(script: str, count: int) -> str:
    """Return what is to say of `count` texts of a script that a tokenizer can't read, behind "3
    texts".
    """
    verb = "is" if count == 1 else "are"
    them = "it" if count == 1 else "them"
    also = "Chinese-CLIP, " if script == "cjk" else ""
    return (
        f"{verb} in a language that the model can't read: its tokenizer sees single letters, bytes"
        f" or unknown tokens, so that scores hardly depend on what is written; {also}XLM-RoBERTa,"
        f" NLLB, MetaCLIP 2, SigLIP 2 and lit with a multilingual text tower read {them} (docs:"
        " Backbones, Languages)"
    )
