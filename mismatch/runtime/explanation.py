"""What an explanation says: words and phrases with their effects, swaps, and a heat map."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.runtime.occlusion import shrunk

__all__ = ["FINEST", "SWAPS_SHOWN", "Explanation", "Part", "Swap"]

FINEST = 16  # areas a side of a heat map in JSON
SWAPS_SHOWN = 3  # alternatives of one word


@dataclass(frozen=True)
class Part:
    """A word or a phrase, and what leaving it out does."""

    start: int  # characters of the text
    end: int
    text: str
    # change of the log-odds (zero-shot: of the cosine) without it; > 0: it lowers the probability
    effect: float
    score_without: float  # similarity_score without it
    interaction: float = 0.0  # a phrase's effect beyond the sum of its words'


@dataclass(frozen=True)
class Swap:
    """A word of the lexicon, and the one in its place that the model likes best."""

    start: int  # characters of the text
    end: int
    text: str
    kind: str  # colour, material, …
    # words and the similarity_score with them, the highest first
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """What the model says of a pair, and what that hangs on. All of it is the model's view, which
    may be wrong.

    `image_path`: as given; empty for an image that has no path.
    `text`: as given.
    `similarity_score`: probability of a match 0..1; cosine -1..1 for zero-shot.
    `threshold`: similarity_score from which the pair is a match.
    `prediction`: match, mismatch or review.
    `words`: all that may be wrong, in the text's order.
    `phrases`: parts of the text of several words, as `words`.
    `named`: the words that don't fit, the worst first; none where the text fits.
    `swaps`: other words in a word's place; none without a lexicon.
    `unseen`: the end of the text that is beyond the model's context, which no score depends on.
    `texts_encoded`: passes of the text tower that it took.
    `images_encoded`: passes of the image tower that it took.
    `left_out`: variants of the text that were not tried, as there would be too many: first
        exchanges, then phrases, then words.
    `heat`: (S, S) over `picture`; > 0 speaks for the text, < 0 against it.
    `picture`: (S, S, 3), what the model sees of the image.
    """

    image_path: str
    text: str
    similarity_score: float
    threshold: float
    prediction: str
    words: tuple[Part, ...]
    phrases: tuple[Part, ...]
    named: tuple[Part, ...]
    swaps: tuple[Swap, ...]
    unseen: str
    texts_encoded: int
    images_encoded: int
    left_out: int = 0
    heat: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    picture: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without the picture. The heat map stands as the means of
        16 x 16 areas, the finest that are looked at, row by row from the top.
        """
        plain = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("heat", "picture")
        }
        for name in ("words", "phrases", "named", "swaps"):
            plain[name] = [asdict(part) for part in plain[name]]
        return plain | {
            "heat": (
                None
                if self.heat is None
                else [
                    [round(value, 5) for value in row] for row in shrunk(self.heat, FINEST).tolist()
                ]
            )
        }
