"""A text's words and phrases, by a light chunker that knows no language but a few English function
words; and the text without some of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Span", "find_phrases", "find_words", "without"]

WORD = re.compile(r"[^\W_]+(?:['’.&/-][^\W_]+)*")
FUNCTION_WORDS = frozenset(  # which name nothing that could be wrong
    [
        *("a", "an", "and", "are", "as", "at", "by", "for", "from", "her", "his", "in", "is", "it"),
        *("its", "of", "on", "or", "our", "the", "their", "this", "to", "with"),
    ]
)
LONGEST_PHRASE = 4  # words
LOOSE_ENDS = ",;:.–-/|& "  # what is left over at an edge when a word goes


class Span(NamedTuple):
    """A word or a phrase."""

    start: int  # characters
    end: int
    text: str


def find_words(text: str) -> list[Span]:
    """Return the words that may be wrong, from left to right; of a text of function words alone,
    these.
    """
    words = [Span(match.start(), match.end(), match[0]) for match in WORD.finditer(text)]
    return [word for word in words if word.text.lower() not in FUNCTION_WORDS] or words


def find_phrases(text: str, words: Sequence[Span]) -> list[Span]:
    """Return runs of 2 to 4 of `words` that stand together, no comma or bracket between them: an
    attribute with its noun, a count with what is counted.

    Function words inside are no bounds ("set of 3", "bag with zip"): they go along.
    """
    runs: list[list[Span]] = []
    for word in words:
        if runs and _together(text[runs[-1][-1].end : word.start]):
            runs[-1].append(word)
        else:
            runs.append([word])
    return list(_inside(text, runs))


def _together(between: str) -> bool:
    """Return whether nothing but spaces and function words lies between two words."""
    return all(part.lower() in FUNCTION_WORDS for part in between.split())


def _inside(text: str, runs: Sequence[Sequence[Span]]) -> Iterator[Span]:
    for run in runs:
        for size in range(2, min(LONGEST_PHRASE, len(run)) + 1):
            for first, last in zip(run, run[size - 1 :], strict=False):
                yield Span(first.start, last.end, text[first.start : last.end])


def without(text: str, spans: Sequence[Span]) -> str:
    """Return the text with these parts left out, and the white space and commas that would be left
    over mended; may be empty.
    """
    kept = []
    position = 0
    for span in sorted(spans):
        kept.append(text[position : span.start])
        position = max(position, span.end)
    kept.append(text[position:])
    joined = " ".join(" ".join(kept).split())
    joined = re.sub(r"\(\s*\)", "", joined)
    joined = re.sub(r"\s+([,;:])", r"\1", joined)
    joined = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", joined)
    return " ".join(joined.split()).strip(LOOSE_ENDS)
