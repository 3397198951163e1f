"""The nearest other texts, by common words or by embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.data.text_words import text_words
from mismatch.errors import MissingExtraError

__all__ = ["Neighbours", "by_embeddings", "by_words", "nearest", "word_features"]

BLOCK_ROWS = 1000  # rows of similarities that are held at a time
# texts, count → (N, count) numbers of the nearest others, nearest first
Neighbours = Callable[[Sequence[str], int], NDArray[np.int64]]


def by_words(texts: Sequence[str], count: int) -> NDArray[np.int64]:
    """Return (N, count) numbers of the texts with the most similar words (tf-idf, cosine), nearest
    first. MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise MissingExtraError("finding hard mismatches", "audit") from error
    seen = TfidfVectorizer(analyzer=word_features, sublinear_tf=True).fit_transform(texts)
    starts = range(0, len(texts), BLOCK_ROWS)
    return nearest((seen[start : start + BLOCK_ROWS] @ seen.T for start in starts), count)


def by_embeddings(rows: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return what `by_words` does, of (N, D) embeddings of the texts."""
    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
    starts = range(0, len(unit), BLOCK_ROWS)
    return nearest((unit[start : start + BLOCK_ROWS] @ unit.T for start in starts), count)


def word_features(text: str) -> list[str]:
    """Return the words of a text, and pairs of those that no blank parts, as in Chinese."""
    words = text_words(text)
    pairs = [first.text + second.text for first, second in pairwise(words) if second.joined]
    # a text of signs alone has no words
    return [word.text for word in words] + pairs or [text]


def nearest(similarities: Iterator[Any], count: int) -> NDArray[np.int64]:
    """Return (N, count) numbers from blocks of rows of an (N, N) matrix of similarities, dense or
    sparse; nothing is its own neighbour.
    """
    neighbours = []
    start = 0
    for block in similarities:
        dense = np.array(block.toarray() if hasattr(block, "toarray") else block, np.float32)
        dense[np.arange(len(dense)), start + np.arange(len(dense))] = -np.inf
        best = (
            np.argpartition(-dense, count - 1, axis=1)[:, :count]
            if count < dense.shape[1]
            else np.argsort(-dense, axis=1)[:, :count]
        )
        order = np.lexsort((best, -np.take_along_axis(dense, best, 1)), axis=1)
        neighbours.append(np.take_along_axis(best, order, 1))
        start += len(dense)
    return np.concatenate(neighbours).astype(np.int64)
