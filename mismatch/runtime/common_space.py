"""Images and texts in the head's common space, and the scores of each with each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import InputError
from mismatch.runtime.engines import Engine
from mismatch.runtime.pipeline import Pipeline
from mismatch.runtime.scoring import pool_pieces

__all__ = ["logit_matrix", "project"]

Array = NDArray[np.float32]
PAIRS = 4096  # that go through the head together


def project(engine: Engine, rows: Array, side: Literal["image", "text"]) -> Array:
    """Map (N, image_width) or (N, text_width) → (N, D), of length 1, in the space where the head
    compares them by their cosine.

    InputError for an engine that gives no such embeddings: a bundle whose head is an adapter.
    """
    name = "common_images" if side == "image" else "common_texts"
    projection = getattr(engine, name, None)
    if projection is not None:
        return np.asarray(projection(rows), np.float32)
    width = engine.image_dim if side == "image" else engine.text_dim
    if _head_kind(engine) in ("cosine", "zero-shot"):
        return _normalised(rows[:, :width])
    raise InputError(
        "this model's head gives scores of pairs only, not embeddings in a common space; load the"
        " checkpoint that the bundle was made of, or use score_matrix"
    )


def logit_matrix(
    pipeline: Pipeline, images: Array, pieces: Array, counts: Sequence[int]
) -> NDArray[np.float64]:
    """Map (N, image_width), (P, text_width) → (N, M) logits, given how many of the P pieces each of
    M texts has.
    """
    engine = pipeline.engine
    if hasattr(engine, "logits_of_cosines"):
        cosines = project(engine, images, "image") @ project(engine, pieces, "text").T  # (N, P)
        logits = np.asarray(engine.logits_of_cosines(cosines), np.float64)
    else:
        logits = _logits_of_pairs(engine, images, pieces)
    matrix = np.empty((len(images), len(counts)))
    for row, values in enumerate(logits):
        matrix[row] = pool_pieces(values, counts, pipeline.long_text)
    return matrix


def _logits_of_pairs(engine: Engine, images: Array, pieces: Array) -> NDArray[np.float64]:
    """Map (N, image_width), (P, text_width) → (N, P), each pair by the head."""
    logits = np.empty(len(images) * len(pieces))
    for start in range(0, len(logits), PAIRS):
        pairs = np.arange(start, min(start + PAIRS, len(logits)))
        first, second = np.divmod(pairs, len(pieces))
        logits[pairs] = engine.logits(images[first], pieces[second])
    return logits.reshape(len(images), len(pieces))


def _head_kind(engine: Any) -> str | None:
    head = getattr(getattr(engine, "manifest", None), "head", None)
    return getattr(head, "kind", None)


def _normalised(rows: Array) -> Array:
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True) + 1e-12)  # (N, 1)
    return np.asarray(rows / lengths, np.float32)
