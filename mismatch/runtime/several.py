"""Images and texts to embeddings and logits by position, or the first error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import InputError
from mismatch.runtime.arguments import check_several
from mismatch.runtime.common_space import logit_matrix
from mismatch.runtime.pipeline import Pipeline
from mismatch.runtime.preprocess import ImageSource
from mismatch.runtime.row_pairs import Pair, image_source, text_problem
from mismatch.runtime.text_tower import TextCounts
from mismatch.runtime.tokenize import shown

__all__ = [
    "embed_images",
    "embed_texts",
    "logit_of_pair",
    "logits_of_all",
    "logits_of_pairs",
    "stack",
]

Array = NDArray[np.float32]


def embed_images(pipeline: Pipeline, images: Iterable[Any]) -> Array:
    """Embed N images → (N, image_width), all that the head sees of them."""
    embedded: Iterable[Any]
    if isinstance(images, (list, tuple)) and len(images) == 1:  # needs no threads
        embedded = [pipeline.image(image_source(images[0]))]
    else:
        embedded = pipeline.images(_sources(images))
    return stack(embedded, pipeline.engine.image_width)


def embed_texts(pipeline: Pipeline, texts: Iterable[Any]) -> Array:
    """Embed N texts → (N, text_width), all that the head sees of them; of a long one, of its
    beginning.
    """
    chosen = _texts(texts)
    embeddings = pipeline.texts(chosen)
    for text, value in zip(chosen, embeddings, strict=True):
        if isinstance(value, InputError):
            raise _named(text, value)
    return stack(embeddings, pipeline.engine.text_width)


def logit_of_pair(
    pipeline: Pipeline, image: ImageSource, text: str, counts: TextCounts | None = None
) -> float:
    """Return the logit of one pair; no thread is started. `counts`: of this call's text."""
    problem = text_problem(text)
    if problem is not None:
        raise InputError(problem)
    [embedding] = stack([pipeline.image(image)], pipeline.engine.image_width)
    [pieces] = pipeline.pieces([text], counts=counts)
    if isinstance(pieces, InputError):
        raise pieces
    embeddings = pipeline.piece_embeddings(pieces, counts=counts)
    embedded = stack(embeddings, pipeline.engine.text_width)
    [logit] = pipeline.pair_logits([(embedding, list(embedded))])
    if isinstance(logit, InputError):
        raise logit
    return logit


def logits_of_pairs(
    pipeline: Pipeline, images: Iterable[Any], texts: Iterable[Any]
) -> NDArray[np.float64]:
    """Score N images, N texts → (N,) logits, pair by pair."""
    chosen = list(check_several(texts, "texts"))
    sources = list(_sources(images))
    if len(sources) != len(chosen):
        raise InputError(
            f"there are {len(sources):,} images and {len(chosen):,} texts; as many of both are"
            " needed, and score_matrix takes each with each"
        )
    pairs = [
        Pair(source, str(text), text_problem(text))
        for source, text in zip(sources, chosen, strict=True)
    ]
    logits = np.empty(len(pairs))
    for i, scored in enumerate(pipeline.score(pairs)):
        if scored.logit is None:
            raise InputError(f"pair {i + 1}: {scored.problem}")
        logits[i] = scored.logit
    return logits


def logits_of_all(
    pipeline: Pipeline, images: Iterable[Any], texts: Iterable[Any]
) -> NDArray[np.float64]:
    """Score N images, M texts → (N, M) logits, of each with each; long texts as the pipeline has
    them.
    """
    chosen = _texts(texts)
    split = []
    for text, pieces in zip(chosen, pipeline.pieces(chosen), strict=True):
        if isinstance(pieces, InputError):
            raise _named(text, pieces)
        split.append(pieces)
    every = list(chain.from_iterable(split))
    embedded = stack(pipeline.piece_embeddings(every), pipeline.engine.text_width)
    counts = [len(pieces) for pieces in split]
    return logit_matrix(pipeline, embed_images(pipeline, images), embedded, counts)


def stack(values: Iterable[Array | InputError], width: int) -> Array:
    """Stack N embeddings → (N, width). Raise the first of the errors among them."""
    rows = []
    for value in values:
        if isinstance(value, InputError):
            raise value
        rows.append(value)
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def _sources(images: Iterable[Any]) -> Iterator[ImageSource]:
    is_stable = isinstance(images, (list, tuple))
    for image in check_several(images, "images"):
        yield image_source(image, copy=not is_stable)


def _texts(texts: Iterable[Any]) -> list[str]:
    """Return texts as a list, in the order in which they stand; InputError for what is none."""
    chosen = list(check_several(texts, "texts"))
    for text in chosen:
        problem = text_problem(text)
        if problem is not None:
            raise InputError(problem)
    return chosen


def _named(text: str, error: InputError) -> InputError:
    return InputError(f"text {shown(text)!r}: {error}")
