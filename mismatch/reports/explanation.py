"""An explanation for notebooks: the text with its marked words, the heat map, and what each word
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from mismatch.reports.explained_picture import heated, strongest_words
from mismatch.reports.rendering import render
from mismatch.reports.thumbnails import data_url

if TYPE_CHECKING:
    from mismatch.runtime.explanation import Explanation, Swap

__all__ = ["explanation_fragment"]


def explanation_fragment(explanation: Explanation, swaps: Sequence[Swap] = ()) -> str:
    """Return HTML to stand inside a page; `swaps`: those that are shown."""
    return render(
        "explanation_fragment.html.j2",
        explanation=explanation,
        pieces=_pieces(explanation),
        pictures=_pictures(explanation),
        words=strongest_words(explanation.words),
        swaps=swaps,
    )


def _pieces(explanation: Explanation) -> Iterator[tuple[str, bool]]:
    """Yield the text in pieces, and whether each is a word that doesn't fit."""
    end = 0
    for word in sorted(explanation.named, key=lambda word: word.start):
        yield explanation.text[end : word.start], False
        yield explanation.text[word.start : word.end], True
        end = word.end
    yield explanation.text[end:], False


def _pictures(explanation: Explanation) -> dict[str, str]:
    """Return what the model sees and where it speaks for the text, title → data URL."""
    if explanation.heat is None or explanation.picture is None:
        return {}
    seen = Image.fromarray(explanation.picture)
    return {
        "what the model sees": data_url(seen),
        "blue speaks for the text, red against it": data_url(heated(seen, explanation.heat)),
    }
