"""An explanation as a picture: the image next to its heat map, the text with its marked words, and
what each word does.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mismatch.io.outputs import SOFTWARE
from mismatch.words import is_unspaced, word_spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mismatch.runtime.explanation import Explanation, Part, Swap

__all__ = ["explanation_png", "heated", "strongest_words"]

Colour = tuple[int, int, int]
SIDE = 360  # pixels, of the image and of its heat map
MARGIN = 24
WIDTH = 2 * SIDE + 3 * MARGIN
INK = (28, 28, 30)
FAINT = (110, 110, 115)
PAPER = (255, 255, 255)
# blue and vermilion, which colour-blind people tell apart
FOR = (33, 102, 172)
AGAINST = (202, 62, 20)
STRENGTH = 0.75  # of the strongest place's colour
BARS = 10  # words whose effect is drawn
EDGE = 5  # pixels, of a mark next to its word
MAX_PARTED = 10_000  # letters of a word, far more than the picture has room for
LABEL = 190  # pixels, of a word next to its bar
LINE = 1.35  # of a font's size


def explanation_png(explanation: Explanation, swaps: Sequence[Swap] = ()) -> bytes:
    """Return a PNG, 792 pixels wide; `swaps`: those to show."""
    canvas = Image.new("RGB", (WIDTH, 4000), PAPER)
    pen = ImageDraw.Draw(canvas)
    top = _marked_text(pen, explanation, MARGIN)
    top = (
        _line(
            pen,
            f"score {explanation.similarity_score:.3f}, threshold {explanation.threshold:.3f}:"
            f" {explanation.prediction}",
            top,
            18,
            FAINT,
        )
        + 8
    )
    if explanation.heat is not None and explanation.picture is not None:
        top = _pictures(canvas, pen, explanation.picture, explanation.heat, top)
    top = _bars(pen, explanation, top)
    for swap in swaps:
        word, score = swap.alternatives[0]
        words = (
            f"In the model's view, “{word}” for “{swap.text}” raises"
            f" {explanation.similarity_score:.2f} to {score:.2f}"
        )
        top = _line(pen, _fitting(words, 16, WIDTH - 2 * MARGIN), top, 16, INK)
    held = io.BytesIO()
    told = PngInfo()
    told.add_text(*SOFTWARE)
    canvas.crop((0, 0, WIDTH, min(top + MARGIN, canvas.height))).save(held, "PNG", pnginfo=told)
    return held.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _line(pen: ImageDraw.ImageDraw, text: str, top: int, size: int, colour: Colour) -> int:
    pen.text((MARGIN, top), text, colour, _font(size))
    return top + round(LINE * size)


def _fitting(text: str, size: int, width: int) -> str:
    """Return the text, or as much of its beginning as fits. No more than a letter a pixel is ever
    measured, since a font takes time and memory for each.
    """
    font = _font(size)
    start = text[:width]
    if start == text and font.getlength(text) <= width:
        return text
    too_long = bisect_left(
        range(1, len(start) + 1),
        True,
        key=lambda letters: font.getlength(start[:letters] + "…") > width,
    )
    return start[:too_long] + "…"


def _marked_text(pen: ImageDraw.ImageDraw, explanation: Explanation, top: int) -> int:
    """Draw the text in lines, the named words white on vermilion; return where it ends."""
    size = 24
    left = float(MARGIN)
    font = _font(size)
    space = _font(size).getlength(" ")
    for start, end, is_last in _line_parts(explanation.text):
        token = explanation.text[start:end]
        named = any(word.start < end and word.end > start for word in explanation.named)
        shown = _fitting(token, size, WIDTH - 2 * MARGIN)
        length = font.getlength(shown)
        if left + length > WIDTH - MARGIN and left > MARGIN:
            left = float(MARGIN)
            top = top + round(LINE * size) + 4
        if top > 2000:  # a book
            pen.text((left, top), "…", INK, font)
            break
        if named:
            left += EDGE
            pen.rounded_rectangle(
                (left - EDGE, top - 1, left + length + EDGE, top + size + 5), 5, fill=AGAINST
            )
        pen.text((left, top), shown, PAPER if named else INK, font)
        left += length + space * is_last + EDGE * named
    return top + round(LINE * size) + 6


def _line_parts(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the places where a line may end: what stands between blanks, in smaller parts where a
    script has none; and whether a blank follows.
    """
    for token in re.finditer(r"\S+", text):
        spans = [] if token[0].isascii() else word_spans(token[0][:MAX_PARTED])
        unspaced = (span for span in spans if is_unspaced(token[0][slice(*span)]))
        places = sorted({0, len(token[0]), *chain.from_iterable(unspaced)})
        for start, end in pairwise(places):
            yield token.start() + start, token.start() + end, end == len(token[0])


def _pictures(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    picture: NDArray[np.uint8],
    heat: NDArray[np.float64],
    top: int,
) -> int:
    plain = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    canvas.paste(plain, (MARGIN, top))
    canvas.paste(heated(plain, heat), (2 * MARGIN + SIDE, top))
    for edge in (MARGIN, 2 * MARGIN + SIDE):
        pen.rectangle((edge - 1, top - 1, edge + SIDE, top + SIDE), outline=(200, 200, 200))
    top += SIDE + 8
    pen.text((MARGIN, top), "what the model sees", FAINT, _font(15))
    left: float = 2 * MARGIN + SIDE
    for colour, words in ((FOR, "speaks for the text"), (AGAINST, "against it")):
        pen.rectangle((left, top + 2, left + 13, top + 15), fill=colour)
        pen.text((left + 20, top), words, FAINT, _font(15))
        left += 40 + _font(15).getlength(words)
    return top + 34


def heated(plain: Image.Image, heat: NDArray[np.float64]) -> Image.Image:
    """Show the picture in grey under the colours of its heat map, the strongest place fullest."""
    grey = np.asarray(plain.convert("L").convert("RGB"), np.float64)  # (H, W, 3)
    scaled = Image.fromarray((heat / (np.abs(heat).max() or 1.0)).astype(np.float32)).resize(
        plain.size, Image.Resampling.BILINEAR
    )
    share = np.asarray(scaled)[..., None]  # (H, W, 1), -1..1
    colour = np.where(share > 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    weight = STRENGTH * np.abs(share)
    return Image.fromarray(
        ((1 - weight) * grey + weight * colour).round().clip(0, 255).astype(np.uint8)
    )


def strongest_words(words: Sequence[Part]) -> list[Part]:
    """Return the words that matter most, those that lower the score first."""
    strongest = sorted(words, key=lambda word: -abs(word.effect))[:BARS]
    return sorted(strongest, key=lambda word: -word.effect)


def _bars(pen: ImageDraw.ImageDraw, explanation: Explanation, top: int) -> int:
    """Draw a line for each word, those that matter most; return where they end."""
    shown = strongest_words(explanation.words)
    if not shown:
        return top
    top = _line(pen, "Without the word, the score would be", top, 16, FAINT) + 2
    largest = max(abs(word.effect) for word in shown) or 1.0
    zero = MARGIN + LABEL + 60 + (WIDTH - 2 * MARGIN - LABEL - 60) // 2
    half = (WIDTH - 2 * MARGIN - LABEL - 60) // 2
    for word in shown:
        pen.text((MARGIN, top), _fitting(word.text, 16, LABEL), INK, _font(16))
        pen.text((MARGIN + LABEL + 8, top), f"{word.score_without:.3f}", INK, _font(16))
        length = round(half * word.effect / largest)
        pen.rectangle(
            (min(zero, zero + length), top + 2, max(zero, zero + length), top + 17),
            fill=AGAINST if word.effect > 0 else FOR,
        )
        top += 24
    pen.text((zero + 6, top), "it lowers the score", AGAINST, _font(13))
    words = "it raises the score"
    pen.text((zero - 6 - _font(13).getlength(words), top), words, FOR, _font(13))
    return top + 28
