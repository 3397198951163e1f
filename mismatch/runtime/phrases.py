"""A text's words and phrases, in any script, by a light chunker that knows no language but a few
English function words; and the text without some of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from mismatch.words import is_unspaced, word_spans

__all__ = ["Pieces", "Span", "find_phrases", "find_words", "is_unbroken", "without"]

# a text → the places of its pieces, as a tokenizer has them, from left to right
Pieces = Callable[[str], Sequence[tuple[int, int]]]
FUNCTION_WORDS = frozenset(  # which name nothing that could be wrong
    [
        *("a", "an", "and", "are", "as", "at", "by", "for", "from", "her", "his", "in", "is", "it"),
        *("its", "of", "on", "or", "our", "the", "their", "this", "to", "with"),
    ]
)
LONGEST_PHRASE = 4  # words
PAUSES = ",;:，、；：،؛"  # of which one is enough
LOOSE_ENDS = f"{PAUSES}.–-/|&・ "  # what is left over at an edge when a word goes
JOINT = 8  # characters on each side, which tell whether two words would become one


class Span(NamedTuple):
    """A word or a phrase."""

    start: int  # characters
    end: int
    text: str


def find_words(text: str, pieces: Pieces | None = None) -> list[Span]:
    """Return the words that may be wrong, from left to right; of a text of function words alone,
    these.

    In scripts without blanks each grapheme is a word. With `pieces`, of the model's tokenizer,
    graphemes of one piece are one word, if there are 4 of them at most.
    """
    spans = word_spans(text)
    if pieces is not None:
        spans = list(_whole_pieces(text, spans, pieces))
    words = [Span(start, end, text[start:end]) for start, end in spans]
    return [word for word in words if word.text.lower() not in FUNCTION_WORDS] or words


def _whole_pieces(
    text: str, spans: Sequence[tuple[int, int]], pieces: Pieces
) -> Iterator[tuple[int, int]]:
    """Join neighbours that a tokenizer has in one piece, where there are no blanks."""
    for run in _unspaced_runs(text, spans):
        first = run[0][0]
        places = pieces(text[first : run[-1][1]]) if len(run) > 1 else ()
        # characters of the text where a piece begins or ends
        bounds = {first + place for piece in places for place in piece}
        group: list[tuple[int, int]] = []
        for span in run:
            group.append(span)
            if not bounds or span[1] in bounds:
                yield from _one_word(group)
                group = []
        yield from _one_word(group)


def _one_word(group: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """Return a group of spans as one; as it is where that would be no word but a phrase."""
    if 1 < len(group) <= LONGEST_PHRASE:
        return [(group[0][0], group[-1][1])]
    return group


def _unspaced_runs(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield all spans, those together that follow each other in a script without blanks."""
    run: list[tuple[int, int]] = []
    for start, end in spans:
        unspaced = is_unspaced(text[start:end])
        if run and not (unspaced and run[-1][1] == start and is_unspaced(text[slice(*run[-1])])):
            yield run
            run = []
        run.append((start, end))
    if run:
        yield run


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


def is_unbroken(text: str) -> bool:
    """Return whether a phrase has nothing between its words, as in scripts without blanks."""
    spans = [] if text.isascii() else word_spans(text)
    return len(spans) > 1 and all(one[1] == other[0] for one, other in pairwise(spans))


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
    joined = ""
    position = 0
    for span in sorted(spans):
        joined = _joined(joined, text[position : span.start])
        position = max(position, span.end)
    joined = " ".join(_joined(joined, text[position:]).split())
    joined = re.sub(r"[(（]\s*[)）]", "", joined)
    joined = re.sub(rf"\s+([{PAUSES}])", r"\1", joined)
    joined = re.sub(rf"([{PAUSES}])(?:\s*[{PAUSES}])+", r"\1", joined)
    return " ".join(joined.split()).strip(LOOSE_ENDS)


def _joined(left: str, right: str) -> str:
    """Put two parts together, a blank between them where else two words would become one."""
    end = left[-JOINT:]
    spans = word_spans(end + right[:JOINT])
    glued = any(start < len(end) < stop for start, stop in spans)
    return f"{left} {right}" if glued else left + right
