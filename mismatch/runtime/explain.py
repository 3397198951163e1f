"""Which words of a text don't fit its image, what other words would do, and where in the image the
evidence lies; as the model sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mismatch.data.lexicon import Found as Word
from mismatch.data.lexicon import Lexicon, exchange
from mismatch.data.rows import not_text
from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.explanation import SWAPS_SHOWN, Explanation, Part, Swap
from mismatch.runtime.occlusion import occlude
from mismatch.runtime.phrases import Pieces, Span, find_phrases, find_words, is_unbroken, without
from mismatch.runtime.pipeline import NO_NUMBER
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import ImageSource
from mismatch.runtime.row_pairs import image_name, image_source
from mismatch.runtime.scoring import log_odds, scores_from_logits
from mismatch.runtime.text_tower import TextCounts
from mismatch.runtime.tokenize import EMPTY

__all__ = ["explain"]

Array = NDArray[np.float32]
Found = TypeVar("Found")
# a word with this share of the strongest word's effect is named too: measured on validation rows,
# see benchmarks/README.md
NAMED_FROM = 1 / 3
MAX_NAMED_WORDS = 3  # words
# of the longest part's effect, which a shorter one inside has to have to be named in its place
MOST_OF_IT = 0.9
# texts an explanation, besides the text itself: words come first, then phrases, then exchanges
MAX_VARIANTS = 256
MAX_VARIANT_PIECES = 1024  # all variants of a text that is encoded in pieces have no more together
# all variants together have no more; cleaning and tokenizing takes up to 12 microseconds a letter
# of ASCII, and 30 of another one
MAX_VARIANT_LETTERS = 2**19
FOREIGN_COST = 3  # of a letter beyond ASCII
READ_LETTERS = 2**16  # the beginning of a text, in which words are looked for
# so many are tokenized and encoded between two looks at whether the work goes on
VARIANTS_TOGETHER = 64
LETTERS_TOGETHER = 2**17  # these variants have no more, if they are several


def explain(
    predictor: Predictor,
    image: ImageSource,
    text: str,
    *,
    heat_map: bool = True,
    lexicon: Lexicon | None = None,
    slice_value: object = None,
    check: Callable[[], object] = lambda: None,
) -> Explanation:
    """Return which words lower the probability that `text` describes `image`.

    Every word and phrase is left out once, and each word of a `lexicon`, if one is given, is
    exchanged for others of its class. A heat map costs about fifty passes of the image tower. At
    most `MAX_VARIANTS` of a long text are tried; `left_out` counts the others. Words, and phrases
    in scripts without blanks, are named only where the model takes the pair for no match. `check`
    is called between calls of the towers; what it raises ends the work. Raises InputError for an
    image or a text that can't be used.
    """
    source = image_source(image)
    _check_text(predictor, text)
    pixels = _usable(predictor.pipeline.pixels(source))  # (3, S, S)
    view = _View(predictor, _usable(predictor.pipeline.seen(pixels)), check)
    plan = _Plan(text, lexicon, view.most_variants(text), predictor.pipeline.tokenizer.pieces)
    logits = view.logits(plan.texts)
    base = logits[text]
    parts = _Parts(plan, logits, predictor)
    threshold = predictor.threshold_for(slice_value)
    score = float(scores_from_logits(base, predictor.score))
    covered = None
    if heat_map:
        batch_size = predictor.pipeline.batch_size
        covered = occlude(pixels, view.logits_of_pictures, base, batch_size=batch_size)
    return Explanation(
        image_path=image_name(image),
        text=text,
        similarity_score=score,
        threshold=threshold,
        prediction=_decision(predictor, score, threshold),
        words=parts.words,
        phrases=parts.phrases,
        named=() if score >= threshold else _named(parts.words, parts.phrases),
        swaps=parts.swaps(),
        unseen=_unseen(predictor, text),
        texts_encoded=len(plan.texts),
        images_encoded=1 + (covered.passes if covered else 0),
        left_out=plan.left_out,
        heat=covered and covered.heat,
        picture=predictor.pipeline.preprocess.levels(pixels) if heat_map else None,
    )


def _check_text(predictor: Predictor, text: object) -> None:
    if not isinstance(text, str):
        raise InputError(not_text("text", text))
    if predictor.pipeline.tokenizer.is_empty(text):
        raise InputError(EMPTY)


def _decision(
    predictor: Predictor, score: float, threshold: float
) -> Literal["match", "mismatch", "review"]:
    if predictor.review is not None and score in predictor.review:
        return "review"
    return "match" if score >= threshold else "mismatch"


def _unseen(predictor: Predictor, text: str) -> str:
    """Return the end of a text that lies beyond the context and is not scored."""
    if predictor.pipeline.long_text != "truncate":
        return ""
    return predictor.pipeline.tokenizer.beyond(text)[1]


def _named(words: Sequence[Part], phrases: Sequence[Part]) -> tuple[Part, ...]:
    """Return the words without which the text would fit better; a single word anyway. Where a
    script has no blanks, several letters may be the word.
    """
    if len(words) == 1:
        return tuple(words)
    longest = len(words) // 2  # or the rest would be no text
    joined = [
        part
        for part in phrases
        if is_unbroken(part.text) and sum(_is_in(word, part) for word in words) <= longest
    ]
    ranked = sorted([*words, *joined], key=lambda part: -part.effect)
    named: list[Part] = []
    for part in ranked:
        if len(named) == MAX_NAMED_WORDS or part.effect <= 0:
            break
        if part.effect < NAMED_FROM * ranked[0].effect:
            break
        if not any(part.start < other.end and other.start < part.end for other in named):
            named.append(_core(part, ranked))
    return tuple(named)


def _is_in(word: Part, phrase: Part | Span) -> bool:
    return phrase.start <= word.start < phrase.end


def _core(part: Part, ranked: Sequence[Part]) -> Part:
    """Return the shortest part inside of one that does nearly as much."""
    inside = [
        other
        for other in ranked
        if part.start <= other.start
        and other.end <= part.end
        and other.effect >= MOST_OF_IT * part.effect
    ]
    return min(inside, key=lambda other: other.end - other.start)


class _View:
    """One image, as the head sees it."""

    def __init__(self, predictor: Predictor, embedding: Array, check: Callable[[], object]) -> None:
        self.pipeline = predictor.pipeline
        self.engine = predictor.engine
        self.check = check
        self.embedding = embedding  # (image_width,)
        self.text_embeddings: list[Array] = []  # the text's own, for the pictures
        self.pieces: dict[str, Array | InputError] = {}  # embeddings so far
        self.counts = TextCounts()  # variants, which are no texts of the user's

    def most_variants(self, text: str) -> int:
        """Return how many variants of a text are tried: fewer where it is long, or in pieces."""
        [pieces] = self._split([text])
        return min(
            MAX_VARIANTS,
            MAX_VARIANT_PIECES // len(_usable(pieces)),
            MAX_VARIANT_LETTERS // _cost(text),
        )

    def logits(self, texts: Sequence[str]) -> dict[str, float]:
        """Return the logits of the image with each text. The first one's embedding is kept, and
        InputError is raised where it can't be scored; another one is left out then.
        """
        logits: dict[str, float] = {}
        size = max(1, min(VARIANTS_TOGETHER, LETTERS_TOGETHER // _cost(texts[0])))
        for start in range(0, len(texts), size):
            logits.update(self._logits(texts[start : start + size], first=start == 0))
        return logits

    def _logits(self, texts: Sequence[str], *, first: bool) -> dict[str, float]:
        embedded = self._embed(texts)
        if first:
            self.text_embeddings = _usable(embedded[0])
        usable = [
            (text, embeddings)
            for text, embeddings in zip(texts, embedded, strict=True)
            if not isinstance(embeddings, InputError)
        ]
        logits = self.pipeline.pair_logits(
            [(self.embedding, embeddings) for _, embeddings in usable]
        )
        if first:
            _usable(logits[0])
        by_text = {
            text: logit
            for (text, _), logit in zip(usable, logits, strict=True)
            if not isinstance(logit, InputError)
        }
        _finite(list(by_text.values()))
        return by_text

    def logits_of_pictures(self, pixels: Array) -> NDArray[np.float64]:
        """Return logits, (B, 3, S, S) → (B,): of each picture with the text itself."""
        self.check()
        seen = self.engine.encode_images(pixels)
        return np.array(
            _finite(self.pipeline.pooled_logits(list(seen), [self.text_embeddings] * len(seen)))
        )

    def _embed(self, texts: Sequence[str]) -> list[list[Array] | InputError]:
        """Return of each text the embeddings of its pieces, or why there are none. Pieces that were
        there before are not encoded again.
        """
        self.check()
        split = self._split(texts)
        new = [
            piece
            for pieces in split
            if not isinstance(pieces, InputError)
            for piece in pieces
            if piece not in self.pieces
        ]
        embeddings = self.pipeline.piece_embeddings(
            new, progress=lambda done: self.check(), counts=self.counts
        )
        self.pieces.update(zip(new, embeddings, strict=True))
        return [
            pieces if isinstance(pieces, InputError) else self._embeddings_of(pieces)
            for pieces in split
        ]

    def _split(self, texts: Sequence[str]) -> list[tuple[str, ...] | InputError]:
        return self.pipeline.pieces(texts, counts=self.counts)

    def _embeddings_of(self, pieces: Sequence[str]) -> list[Array] | InputError:
        embeddings: list[Array] = []
        for piece in pieces:
            value = self.pieces[piece]
            if isinstance(value, InputError):
                return value
            embeddings.append(value)
        return embeddings


def _cost(text: str) -> int:
    """Return how many letters of ASCII take as long as a text."""
    return len(text) if text.isascii() else FOREIGN_COST * len(text)


def _usable(value: Found | InputError) -> Found:
    if isinstance(value, InputError):
        raise value
    return value


def _finite(logits: list[float]) -> list[float]:
    if not np.isfinite(np.asarray(logits, np.float64)).all():
        raise CheckpointError(NO_NUMBER)
    return logits


class _Plan:
    """The texts whose logits an explanation needs, each once; the text itself first, and behind it
    at most `max_variants`. Where there are more, exchanges are left out first, then phrases, then
    the last words. `pieces`: the tokenizer's, for words of scripts without blanks.
    """

    def __init__(
        self, text: str, lexicon: Lexicon | None, max_variants: int, pieces: Pieces
    ) -> None:
        self.text = text
        read = text[:READ_LETTERS]
        words = find_words(read, pieces)
        phrases = find_phrases(read, words)
        self.words = words[:max_variants]
        self.phrases = phrases
        if len(words) + len(phrases) > max_variants:
            self.phrases = _shortest(phrases, max_variants - len(self.words))
        self.left_out = len(words) + len(phrases) - len(self.words) - len(self.phrases)
        self.exchanged: list[tuple[Word, list[tuple[str, str]]]] = []
        if lexicon is not None:
            self._exchange(lexicon, read, max_variants - len(self.words) - len(self.phrases))
        reduced = [self.without(span) for span in [*self.words, *self.phrases]]
        exchanged = [new for _, options in self.exchanged for _, new in options]
        self.texts = list(dict.fromkeys([text, *(new for new in reduced if new), *exchanged]))

    def without(self, span: Span) -> str:
        return without(self.text, [span])

    def _exchange(self, lexicon: Lexicon, read: str, room: int) -> None:
        """Note, of each word of the lexicon, the first word of each other family, with the text
        that has it; all of a word's, or none.
        """
        for word in lexicon.find(read):
            heads = [
                family[0]
                for number, family in enumerate(lexicon.families[word.kind])
                if number != word.family
            ]
            if len(heads) > room:
                self.left_out += len(heads)
                # those behind it wait their turn too, so that what is tried is the text's beginning
                room = 0
                continue
            room -= len(heads)
            self.exchanged.append(
                (word, [(head, exchange(self.text, word, head)) for head in heads])
            )


def _shortest(phrases: Sequence[Span], room: int) -> list[Span]:
    """Return the shortest phrases of scripts without blanks, where words may be several letters."""
    by_length = sorted(phrases, key=lambda phrase: phrase.end - phrase.start)
    return list(islice((phrase for phrase in by_length if is_unbroken(phrase.text)), room))


class _Parts:
    """Logits as words, phrases and swaps."""

    def __init__(self, plan: _Plan, logits: dict[str, float], predictor: Predictor) -> None:
        self.plan = plan
        self.logits = logits
        self.score = predictor.score
        self.base = self._odds(logits[plan.text])
        self.words = tuple(self._part(span) for span in plan.words)
        self.phrases = tuple(
            self._part(span, sum(word.effect for word in self.words if _is_in(word, span)))
            for span in plan.phrases
        )

    def swaps(self) -> tuple[Swap, ...]:
        """Return, of each word of the lexicon, the alternatives that raise the score, the best
        ones.
        """
        swaps = []
        base = self.logits[self.plan.text]
        for word, options in self.plan.exchanged:
            ranked = sorted(
                ((self.logits[text], new) for new, text in options if text in self.logits),
                key=lambda pair: -pair[0],
            )
            better = tuple(
                (new, self._score(logit)) for logit, new in ranked[:SWAPS_SHOWN] if logit > base
            )
            if better:
                swaps.append(
                    Swap(
                        word.start,
                        word.end,
                        self.plan.text[word.start : word.end],
                        word.kind,
                        better,
                    )
                )
        return tuple(swaps)

    def _part(self, span: Span, parts: float | None = None) -> Part:
        """Return a span with what leaving it out changes. A text without its only word is none:
        leaving that out changes nothing that could be measured.
        """
        logit = self.logits.get(self.plan.without(span), self.logits[self.plan.text])
        effect = self._odds(logit) - self.base
        return Part(*span, effect, self._score(logit), 0.0 if parts is None else effect - parts)

    def _odds(self, logit: float) -> float:
        return float(
            logit
            if self.score.calibration is None
            else log_odds(np.array(logit), self.score.calibration)
        )

    def _score(self, logit: float) -> float:
        return float(scores_from_logits(logit, self.score))
