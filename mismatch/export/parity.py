"""Whether a bundle says what torch says: embeddings, scores and decisions compared on the same
pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.data.readers.memory import value_text
from mismatch.errors import InputError, ParityError
from mismatch.runtime.long_text import cutting_problem, long_texts_line
from mismatch.runtime.pipeline import Engine, Pair, Pipeline
from mismatch.runtime.scoring import scores_from_logits
from mismatch.runtime.text_tower import TextCounts
from mismatch.specs import LongText, ScoreSpec

__all__ = [
    "Outputs",
    "ParityReport",
    "Tolerance",
    "built_in_pairs",
    "check",
    "compare_outputs",
    "decisions",
]

Array = NDArray[np.float32]
Progress = Callable[[int], object]
ROUNDING = 1e-5  # of a logit, absolute and relative: two kernels in fp32 differ by less
MISMATCH, MATCH, REVIEW = range(3)


@dataclass(frozen=True)
class Tolerance:
    """How far a bundle may be from torch."""

    score: float = 1e-4  # on similarity_score
    embedding: float = 1e-3  # largest difference of an element, as a share of the embedding's norm
    flips: int = 0  # decisions that differ


@dataclass(frozen=True)
class ParityReport:
    """What was compared and how far it differs; parity.json."""

    reference: str  # engine, e.g. "torch cpu"
    candidate: str  # engine, e.g. "onnxruntime cpu"
    source: str  # where the pairs came from
    pairs: int  # compared
    unscorable: int  # pairs that neither engine could score
    long_texts: int  # different texts over the backbone's context
    context_length: int  # tokens, special ones included
    long_text: LongText  # what became of those
    max_image_embedding_difference: float  # share of the embedding's norm
    max_text_embedding_difference: float  # share of the embedding's norm
    max_logit_difference: float
    max_score_difference: float
    # of scores as they are before calibration, which is what is judged: a steep one would magnify
    # what a flat one hides
    max_uncalibrated_difference: float
    # match, mismatch or review, of both by the reference's score, thresholds of slices included
    flipped_decisions: int
    threshold: float  # of pairs whose slice has none of its own
    score_min: float
    score_max: float
    score_std: float  # parity on a constant would prove nothing
    slice_column: str | None = None  # by which the model has thresholds
    slice_pairs: int = 0  # pairs that such a threshold decided

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def summary(self) -> str:
        """Return one line for people."""
        embeddings = max(self.max_image_embedding_difference, self.max_text_embedding_difference)
        return (
            f"{self.pairs} pairs: scores differ by at most {self.max_score_difference:.1e},"
            f" {self.flipped_decisions} decisions flipped, embeddings by at most {embeddings:.1e};"
            f" scores spread from {self.score_min:.4f} to {self.score_max:.4f} (standard deviation"
            f" {self.score_std:.4f})"
            + (
                f"; {long_texts_line(self.long_texts, self.context_length, self.long_text)}"
                if self.long_texts
                else ""
            )
        )


def compare_outputs(left: Outputs, right: Outputs, *, source: str) -> ParityReport:
    """Measure how far `right` is from `left`, which `Outputs.of` made of the same pairs."""
    reference = left.engine
    candidate = right.engine
    score = reference.score
    a, b = (scores_from_logits(outputs.logits, score) for outputs in (left, right))
    plain = [
        scores_from_logits(outputs.logits, replace(score, calibration=None))
        for outputs in (left, right)
    ]
    return ParityReport(
        reference=reference.name,
        candidate=candidate.name,
        source=source,
        pairs=len(a),
        unscorable=left.asked - len(a),
        long_texts=left.long_texts,
        context_length=reference.text_spec.context_length,
        long_text=score.long_text,
        max_image_embedding_difference=_largest_difference(
            left.images, right.images, reference.image_dim
        ),
        max_text_embedding_difference=_largest_difference(
            left.texts, right.texts, reference.text_dim
        ),
        max_logit_difference=float(np.abs(left.logits - right.logits).max()),
        max_score_difference=float(np.abs(a - b).max()),
        max_uncalibrated_difference=float(np.abs(plain[0] - plain[1]).max()),
        flipped_decisions=_flipped(left, right, score),
        threshold=score.threshold_in_use,
        score_min=float(a.min()),
        score_max=float(a.max()),
        score_std=float(a.std()),
        slice_column=None if score.slices is None else score.slices.column,
        slice_pairs=int(np.isfinite(_slice_thresholds(left, score)).sum()),
    )


def decisions(outputs: Outputs, score: ScoreSpec) -> NDArray[np.int64]:
    """Return what is predicted for each scored pair by this score: MISMATCH, MATCH or REVIEW. (N,).

    As a predictor does: by the threshold of the pair's slice where it has one, else by that of all.
    """
    by_slice = _slice_thresholds(outputs, score)
    thresholds = np.where(np.isfinite(by_slice), by_slice, score.threshold_in_use)
    scores = scores_from_logits(outputs.logits, score)
    kinds = np.where(scores >= thresholds, MATCH, MISMATCH)
    if score.review is None:
        return kinds
    return np.where((scores >= score.review.low) & (scores < score.review.high), REVIEW, kinds)


def _slice_thresholds(outputs: Outputs, score: ScoreSpec) -> NDArray[np.float64]:
    """Return the threshold of each scored pair's slice; nan where it has none. (N,)."""
    if score.slices is None or not outputs.slice_values:
        return np.full(len(outputs.logits), np.nan)
    thresholds = [score.slices.threshold_of(value_text(value)) for value in outputs.slice_values]
    return np.array(thresholds, np.float64)  # None is nan


def _flipped(left: Outputs, right: Outputs, score: ScoreSpec) -> int:
    """Count other decisions. A band often ends at a row's own score, which rounding moves out of it
    or into it: that is none.
    """
    before = decisions(left, score)
    after = decisions(right, score)
    near = np.isclose(left.logits, right.logits, rtol=ROUNDING, atol=ROUNDING)
    is_rounding = near & ((before == REVIEW) | (after == REVIEW))
    return int(((before != after) & ~is_rounding).sum())


def check(report: ParityReport, tolerance: Tolerance) -> None:
    """Raise ParityError where the candidate is too far from the reference, nan included."""
    embedding = max(report.max_image_embedding_difference, report.max_text_embedding_difference)
    faults = [
        f"{name} {value:.3g} (allowed {allowed:g})"
        for name, value, allowed in [
            (
                "score difference before calibration",
                report.max_uncalibrated_difference,
                tolerance.score,
            ),
            ("embedding difference", embedding, tolerance.embedding),
            ("flipped decisions", report.flipped_decisions, tolerance.flips),
        ]
        if not value <= allowed
    ]
    if faults:
        raise ParityError(
            f"{report.candidate} differs from {report.reference} on {report.pairs} pairs of"
            f" {report.source}: {', '.join(faults)}; no bundle was written"
        )


@dataclass(frozen=True)
class Outputs:
    """What one engine made of some pairs."""

    engine: Engine
    asked: int  # pairs, scored or not
    images: Array  # (unique images, image_width)
    texts: Array  # (unique texts or pieces of them, text_width)
    good: list[int]  # positions of the pairs with a logit
    logits: NDArray[np.float64]  # of those
    long_texts: int
    slice_values: Sequence[object] = ()  # of those, in the model's slice column; (): there is none

    @classmethod
    def of(
        cls,
        engine: Engine,
        pairs: Sequence[Pair],
        *,
        source: str,
        progress: Progress | None = None,
        like: Outputs | None = None,
    ) -> Outputs:
        """Embed each image and text once, then join. `like`: what another engine made of them,
        which must have scored the same pairs, and long texts as its score says.

        Raises InputError where no pair can be scored, ParityError where the engines disagree.
        """
        pipeline = Pipeline(engine, long_text=(like.engine if like else engine).score.long_text)
        usable = _usable(pairs, cut=pipeline.long_text != "truncate")
        sources = {_image_key(pair): pair.image for _, pair in usable}
        texts = list(dict.fromkeys(pair.text for _, pair in usable))
        counts = TextCounts()
        split = zip(texts, pipeline.pieces(texts, counts=counts), strict=True)
        pieces_of = {text: parts for text, parts in split if not isinstance(parts, InputError)}
        usable = [(i, pair) for i, pair in usable if pair.text in pieces_of]
        pieces = list(dict.fromkeys(piece for parts in pieces_of.values() for piece in parts))
        image_of = dict(
            zip(sources, pipeline.images(list(sources.values()), progress=progress), strict=True)
        )
        embeddings = pipeline.piece_embeddings(pieces, progress=progress, counts=counts)
        piece_of = dict(zip(pieces, embeddings, strict=True))
        # position → embeddings of its image and of its text's pieces
        joined: dict[int, tuple[Any, list[Any]]] = {}
        for i, pair in usable:
            image = image_of[_image_key(pair)]
            text_rows = [piece_of[piece] for piece in pieces_of[pair.text]]
            if all(isinstance(value, np.ndarray) for value in (image, *text_rows)):
                joined[i] = (image, text_rows)
        logits = pipeline.pooled_logits(
            [image for image, _ in joined.values()], [text_rows for _, text_rows in joined.values()]
        )
        outputs = cls(
            engine,
            asked=len(pairs),
            images=_arrays(image_of.values()),
            texts=_arrays(piece_of.values()),
            good=list(joined),
            logits=np.array(logits, np.float64),
            long_texts=counts.long_texts,
            slice_values=[pairs[i].slice_value for i in joined],
        )
        outputs._check(source, like)
        return outputs

    def _check(self, source: str, like: Outputs | None) -> None:
        """Refuse outputs that can't be compared; see `of`."""
        if like is not None and like.good != self.good:
            both = f"{like.engine.name} and {self.engine.name}"
            raise ParityError(
                f"{both} disagree on which pairs can be scored; this is a bug: please report it"
                f" with the rows of {source}"
            )
        if not self.good:
            raise InputError(
                f"{source}: none of the {self.asked} pairs can be scored, so the export can't be"
                " verified; check the paths with mismatch validate"
            )


def _usable(pairs: Sequence[Pair], *, cut: bool) -> list[tuple[int, Pair]]:
    """Return the pairs without a problem, with their positions; `cut`: texts go in pieces."""
    return [
        (i, pair)
        for i, pair in enumerate(pairs)
        if pair.problem is None and not (cut and cutting_problem(pair.text))
    ]


def _image_key(pair: Pair) -> Any:
    """Return what tells a pair's image from others: a picture in memory by its identity."""
    return id(pair.image) if isinstance(pair.image, Image.Image) else pair.image


def _arrays(values: Any) -> Array:
    rows = [value for value in values if isinstance(value, np.ndarray)]
    return np.stack(rows) if rows else np.empty((0, 1), np.float32)


def _largest_difference(a: Array, b: Array, dim: int) -> float:
    """Map (N, width), twice → the larger of the embeddings' (`dim` wide) and the features'
    difference, each as a share of its own norm.
    """
    return max(
        _relative_difference(a[:, :dim], b[:, :dim]), _relative_difference(a[:, dim:], b[:, dim:])
    )


def _relative_difference(a: Array, b: Array) -> float:
    if not a.size:
        return 0.0
    norms = np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12)
    return float((np.abs(a - b) / norms).max())


# width, height; pixels
SIZES = [(224, 224), (640, 480), (17, 640), (640, 17), (3, 5), (1, 1), (225, 301)]
TEXTS = [
    "red leather handbag with gold hardware",
    "a",
    "42",
    "Ärmelloses Kleid, 100 % Baumwolle – größe M",
    "黒いスニーカー 👟",
    "three striped blue mugs &amp; a plate",
    "photo of a dog on a beach at sunset with people in the background",
    " ".join(["very long description of a product that nobody reads to its end"] * 12),
]


def built_in_pairs(seed: int = 0) -> list[Pair]:
    """Pair every drawn image with every text: odd shapes, noise and gradients, short, long and
    non-English texts.
    """
    rng = np.random.default_rng(seed)
    images = [_drawn(rng, width, height) for width, height in SIZES]
    return [Pair(image, text) for image in images for text in TEXTS]


def _drawn(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw a colour gradient with coarse and fine noise."""
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x / width, y / height, (x + y) / (width + height)], axis=-1)  # (H, W, 3)
    coarse = (
        rng.random((height // 32 + 1, width // 32 + 1, 3))
        .repeat(32, axis=0)
        .repeat(32, axis=1)[:height, :width]
    )
    pixels = (ramp + coarse + 0.3 * rng.random((height, width, 3))) / 2.3 * 255
    return Image.fromarray(pixels.astype(np.uint8))
