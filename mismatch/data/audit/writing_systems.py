"""Which script a text is written in (Latin, Cyrillic, …), and what reads it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

__all__ = ["main_script", "unread_line"]

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
