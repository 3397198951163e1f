"""An explanation as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mismatch.io.text import printable

if TYPE_CHECKING:
    from mismatch.runtime.explanation import Explanation, Part, Swap

__all__ = ["explanation_lines", "explanations_text", "raising_swaps"]

RED = "\x1b[31m\x1b[1m"  # and bold, on a terminal
PLAIN = "\x1b[0m"
MIN_RISE = 0.01  # of the score, by another word
WORDS_SHOWN = 12
PHRASES_SHOWN = 3
WORSE = 1.1  # times the effect of its worst word, from which a phrase is worth a line


def explanations_text(
    explanations: Sequence[tuple[int | None, Explanation]], *, colour: bool = False
) -> str:
    """Return the lines of all explanations, each with its row's line, an empty one between two."""
    texts = [
        "\n".join(explanation_lines(explanation, colour=colour, line=line))
        for line, explanation in explanations
    ]
    return "\n\n".join(texts)


def explanation_lines(
    explanation: Explanation, *, colour: bool = False, line: int | None = None
) -> Iterator[str]:
    """Yield an explanation for people: its named words in red where there is `colour`, else in
    brackets. What a terminal would obey is shown by its code.
    """
    place = "" if line is None else f"line {line}: "
    yield f"{place}{printable(explanation.image_path)}"
    yield f"  {_marked(explanation, colour)}"
    yield (
        f"score {explanation.similarity_score:.4f}, threshold {explanation.threshold:.4f}:"
        f" {explanation.prediction}"
    )
    yield _verdict(explanation)
    yield from _word_lines(explanation)
    for phrase in _phrases(explanation):
        yield (
            f"  without “{_shown(phrase.text)}” {phrase.score_without:.4f}  {phrase.effect:+.2f},"
            f" of which {phrase.interaction:+.2f} because they go together"
        )
    swaps = raising_swaps(explanation)
    if swaps:
        yield "other words, in the model's view:"
    for swap in swaps:
        others = _alternatives(swap.alternatives, explanation.similarity_score)
        yield f"  {_shown(swap.text)} → {others}"
    if explanation.left_out:
        yield (
            f"the text is long: {explanation.left_out:,} of its variants (words left out or"
            " exchanged) were not tried"
        )
    if explanation.unseen:
        yield f"beyond the model's context, so without any effect: {_shown(explanation.unseen)}"


def raising_swaps(explanation: Explanation) -> list[Swap]:
    """Return the swaps that are worth a line: those whose best word raises the score by 0.01 or
    more.
    """
    lowest = explanation.similarity_score + MIN_RISE
    return [swap for swap in explanation.swaps if swap.alternatives[0][1] >= lowest]


def _word_lines(explanation: Explanation) -> Iterator[str]:
    """Yield a line for each word with the strongest effects, for and against."""
    ranked = sorted(explanation.words, key=lambda word: -word.effect)
    if len(ranked) > WORDS_SHOWN:
        ranked = [*ranked[: WORDS_SHOWN // 2], *ranked[-WORDS_SHOWN // 2 :]]
    words = [(_shown(word.text), word) for word in ranked]
    width = max((len(text) for text, _ in words), default=0)
    yield "without the word   score" if width < 16 else f"{'without the word':<{width + 2}} score"
    for text, word in words:
        yield f"  {text:<{max(width, 16)}} {word.score_without:.4f}  {word.effect:+.2f}"


def _verdict(explanation: Explanation) -> str:
    if explanation.named:
        words = "words" if len(explanation.named) > 1 else "word"
        names = ", ".join(_shown(word.text) for word in explanation.named)
        return f"{words} that would have to go, the worst first: {names}"
    if explanation.similarity_score >= explanation.threshold:
        return "no word is named: the model takes the text for fitting"
    return "no word by itself lowers the score"


def _phrases(explanation: Explanation) -> list[Part]:
    """Return those without which the score rises clearly more than without any of their words."""
    if not explanation.named:
        return []
    lowest = WORSE * explanation.named[0].effect
    strong = [phrase for phrase in explanation.phrases if phrase.effect > lowest]
    return sorted(strong, key=lambda phrase: -phrase.effect)[:PHRASES_SHOWN]


def _alternatives(alternatives: Sequence[tuple[str, float]], score: float) -> str:
    (first, raised), *others = alternatives
    line = f"{printable(first)} raises {score:.2f} to {raised:.2f}"
    if not others:
        return line
    return f"{line}; also " + ", ".join(f"{printable(word)} {value:.2f}" for word, value in others)


def _marked(explanation: Explanation, colour: bool) -> str:
    text = explanation.text
    marked = ""
    end = 0
    for word in sorted(explanation.named, key=lambda word: word.start):
        name = _shown(word.text)
        marked += _spaced(text[end : word.start])
        marked += f"{RED}{name}{PLAIN}" if colour else f"[{name}]"
        end = word.end
    return (marked + _spaced(text[end:])).strip()


def _shown(text: str) -> str:
    """Return a text in one line, with what a terminal would obey by its codes."""
    return printable(" ".join(text.split()))


def _spaced(text: str) -> str:
    """Return a piece of a text as `_shown`, with one space at an end that has any."""
    inner = _shown(text)
    if not inner:
        return " " if text else ""
    return " " * text[0].isspace() + inner + " " * text[-1].isspace()
