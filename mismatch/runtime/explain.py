"""Which words of a text don't fit its image, what other words would do, and where in the image the evidence lies; as the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.data.lexicon import Found, Lexicon, exchange
from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.occlusion import occlude
from mismatch.runtime.phrases import Span, find_phrases, find_words, without
from mismatch.runtime.pipeline import EMPTY, NO_NUMBER
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import ImageSource
from mismatch.runtime.scoring import log_odds, scores_from_logits

__all__ = ["Explanation", "Part", "Swap", "explain"]

Array = NDArray[np.float32]
NAMED_FROM = 1 / 3  # of the strongest word's effect, from which a word is named too: measured on validation rows, see benchmarks/README.md
MOST_NAMED = 3  # words
FINEST = 16  # areas a side of a heat map in JSON
MOST_VARIANTS = 256  # texts an explanation; of a longer text phrases are left out first, then its last words
SWAPS_SHOWN = 3  # alternatives of one word


@dataclass(frozen=True)
class Part:
    """A word or a phrase, and what leaving it out does."""

    start: int  # characters of the text
    end: int
    text: str
    effect: float  # change of the log-odds (zero-shot: of the cosine) without it; > 0: it lowers the probability
    score_without: float  # similarity_score without it
    interaction: float = 0.0  # of a phrase: its effect beyond the sum of its words'


@dataclass(frozen=True)
class Swap:
    """A word of the lexicon, and the one in its place that the model likes best."""

    start: int  # characters of the text
    end: int
    text: str
    kind: str  # colour, material, …
    alternatives: tuple[tuple[str, float], ...]  # words and the similarity_score with them, the highest first


@dataclass(frozen=True)
class Explanation:
    """What the model says of a pair, and what that hangs on. All of it is the model's view, which may be wrong."""

    image_path: str  # as given; empty for an image that has no path
    text: str
    similarity_score: float
    threshold: float
    prediction: str  # match, mismatch or review
    words: tuple[Part, ...]  # all that may be wrong, in the text's order
    phrases: tuple[Part, ...]
    named: tuple[Part, ...]  # the words that don't fit, the worst first; none where the text fits
    swaps: tuple[Swap, ...]  # none without a lexicon
    unseen: str  # the end of the text that is beyond the model's context, which no score depends on
    texts_encoded: int
    images_encoded: int
    heat: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)  # (S, S) over `picture`; > 0 speaks for the text, < 0 against it
    picture: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)  # (S, S, 3), what the model sees of the image

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the picture; of the heat map the means of 16 x 16 areas, the finest that are looked at, row by row from the top."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("heat", "picture")}
        for name in ("words", "phrases", "named", "swaps"):
            plain[name] = [asdict(part) for part in plain[name]]
        return plain | {"heat": None if self.heat is None else [[round(value, 5) for value in row] for row in _shrunk(self.heat).tolist()]}


def explain(
    predictor: Predictor,
    image: ImageSource,
    text: str,
    *,
    heat_map: bool = True,
    lexicon: Lexicon | None = None,
    slice_value: object = None,
) -> Explanation:
    """Which words lower the probability that `text` describes `image`.

    Every word and phrase is left out once, and where a `lexicon` is given each of its words is exchanged for others of its class; all these texts are encoded
    together, the image once (a heat map covers parts of it, about fifty times more). Words are named only where the model takes the pair for no match. Works
    the same for a checkpoint and a bundle. Raises for an image or text that can't be used.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(EMPTY if isinstance(text, str) else f"the text is {text!r}, not a string")
    pixels = predictor.pipeline.preprocess(image)  # (3, S, S)
    view = _View(predictor, predictor.engine.encode_images(pixels[None])[0])
    words = find_words(text)
    plan = _Plan(text, words, find_phrases(text, words), lexicon)
    logits = view.logits(plan.texts)
    parts = _Parts(plan, dict(zip(plan.texts, logits, strict=True)), predictor)
    base = float(logits[0])
    said = predictor.threshold_for(slice_value)
    score = float(scores_from_logits(base, predictor.score))
    in_review = predictor.review is not None and score in predictor.review
    found = parts.words()
    covered = occlude(pixels, view.logits_of_pictures, base, batch_size=predictor.pipeline.batch_size) if heat_map else None
    return Explanation(
        image_path=str(image) if isinstance(image, (str, Path)) else "",
        text=text,
        similarity_score=score,
        threshold=said,
        prediction="review" if in_review else "match" if score >= said else "mismatch",
        words=found,
        phrases=parts.phrases(found),
        named=() if score >= said else _named(found),
        swaps=parts.swaps(),
        unseen=predictor.pipeline.tokenizer.beyond(text)[1] if predictor.pipeline.long_text == "truncate" else "",
        texts_encoded=len(plan.texts),
        images_encoded=1 + (covered.passes if covered else 0),
        heat=covered and covered.heat,
        picture=np.asarray(predictor.pipeline.preprocess.picture(image)) if heat_map else None,
    )


def _shrunk(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) → (16, 16), or less where there are fewer pixels: means of areas."""
    for axis in (0, 1):
        edges = np.linspace(0, heat.shape[axis], min(FINEST, heat.shape[axis]) + 1).astype(int)
        sizes = np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
        heat = np.add.reduceat(heat, edges[:-1], axis=axis) / sizes
    return heat


def _named(words: Sequence[Part]) -> tuple[Part, ...]:
    """The words without which the text would fit better, but none that matters much less than the worst; a single word anyway, as there is no other."""
    ranked = sorted(words, key=lambda word: -word.effect)
    if len(ranked) == 1:
        return tuple(ranked)
    return tuple(word for word in ranked[:MOST_NAMED] if word.effect > 0 and word.effect >= NAMED_FROM * ranked[0].effect)


class _View:
    """One image, as the head sees it."""

    def __init__(self, predictor: Predictor, embedding: Array) -> None:
        self.pipeline, self.engine = predictor.pipeline, predictor.engine
        self.embedding = embedding  # (image_width,)
        self.own: list[Array] = []  # of the text itself, for the pictures

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(N,): of the image with each text; the first one's embedding is kept."""
        before = self.pipeline.long_texts, self.pipeline.truncated
        pieces = self.pipeline.pieces(texts)
        embeddings = iter(self.pipeline.piece_embeddings([piece for own in pieces for piece in own]))
        said = [[_usable(next(embeddings)) for _ in own] for own in pieces]
        self.pipeline.long_texts, self.pipeline.truncated = before  # variants of one text are no texts of the user's
        self.own = said[0]
        return _finite(self.pipeline.pooled_logits([self.embedding] * len(texts), said))

    def logits_of_pictures(self, pixels: Array) -> NDArray[np.float64]:
        """(B, 3, S, S) → (B,): of each picture with the text itself."""
        seen = self.engine.encode_images(pixels)
        return _finite(self.pipeline.pooled_logits(list(seen), [self.own] * len(seen)))


def _usable(value: Array | InputError) -> Array:
    if isinstance(value, InputError):
        raise value
    return value


def _finite(logits: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(logits, np.float64)
    if not np.isfinite(values).all():
        raise CheckpointError(NO_NUMBER)
    return values


class _Plan:
    """The texts whose logits an explanation needs, each once; the text itself first."""

    def __init__(self, text: str, words: Sequence[Span], phrases: Sequence[Span], lexicon: Lexicon | None) -> None:
        self.text = text
        self.words = list(words[:MOST_VARIANTS])
        self.phrases = list(phrases) if len(words) + len(phrases) <= MOST_VARIANTS else []
        self.exchanged: list[tuple[Found, list[tuple[str, str]]]] = [] if lexicon is None else list(map(self._exchange(lexicon), lexicon.find(text)))
        reduced = (self.without(span) for span in [*self.words, *self.phrases])
        exchanged = (new for _, options in self.exchanged for _, new in options)
        self.texts = list(dict.fromkeys([text, *(new for new in reduced if new), *exchanged]))

    def without(self, span: Span) -> str:
        return without(self.text, [span])

    def _exchange(self, lexicon: Lexicon) -> Any:
        """Of a word: the first word of each other family, with the text that has it."""

        def one(found: Found) -> tuple[Found, list[tuple[str, str]]]:
            heads = [family[0] for number, family in enumerate(lexicon.families[found.kind]) if number != found.family]
            return found, [(head, exchange(self.text, found, head)) for head in heads]

        return one


class _Parts:
    """Logits as words, phrases and swaps."""

    def __init__(self, plan: _Plan, logits: dict[str, float], predictor: Predictor) -> None:
        self.plan, self.logits, self.score = plan, logits, predictor.score
        self.base = self._odds(logits[plan.text])

    def words(self) -> tuple[Part, ...]:
        return tuple(self._part(span) for span in self.plan.words)

    def phrases(self, words: Sequence[Part]) -> tuple[Part, ...]:
        return tuple(self._part(span, sum(word.effect for word in words if span.start <= word.start < span.end)) for span in self.plan.phrases)

    def swaps(self) -> tuple[Swap, ...]:
        """Of each word of the lexicon, the alternatives that raise the score, the best ones."""
        found = []
        own = self.logits[self.plan.text]
        for word, options in self.plan.exchanged:
            ranked = sorted(((self.logits[text], new) for new, text in options), key=lambda pair: -pair[0])
            better = tuple((new, self._score(logit)) for logit, new in ranked[:SWAPS_SHOWN] if logit > own)
            if better:
                found.append(Swap(word.start, word.end, self.plan.text[word.start : word.end], word.kind, better))
        return tuple(found)

    def _part(self, span: Span, parts: float | None = None) -> Part:
        """A text without its only word is none: leaving that out changes nothing that could be measured."""
        logit = self.logits.get(self.plan.without(span), self.logits[self.plan.text])
        effect = self._odds(logit) - self.base
        return Part(*span, effect, self._score(logit), 0.0 if parts is None else effect - parts)

    def _odds(self, logit: float) -> float:
        return float(logit if self.score.calibration is None else log_odds(np.array(logit), self.score.calibration))

    def _score(self, logit: float) -> float:
        return float(scores_from_logits(logit, self.score))
