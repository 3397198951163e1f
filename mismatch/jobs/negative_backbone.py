"""What a backbone says of rows that mismatches are made of: which texts are alike, and which fit
another row's image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.data.image_evidence import ImageEvidence
from mismatch.data.pairs import resolve_image
from mismatch.data.similar_texts import by_embeddings
from mismatch.progress import progress
from mismatch.runtime.predictor import Predictor, load

__all__ = ["NegativeBackbone"]


class NegativeBackbone:
    """Embeds texts and images of rows, each once."""

    def __init__(self, backbone: str | Predictor) -> None:
        """Load the backbone, unless it is loaded already."""
        if isinstance(backbone, Predictor):
            self._predictor = backbone
        else:
            self._predictor = load(backbone if ":" in backbone else f"{backbone}:", "auto")
        self._texts: dict[str, NDArray[np.float32]] = {}

    def neighbours(self, texts: Sequence[str], count: int) -> NDArray[np.int64]:
        """Return (N, count) numbers of the nearest other texts, nearest first."""
        return by_embeddings(self._embedded_texts(texts), count)

    def evidence(
        self, texts: Sequence[str], paths: Sequence[str], base: str, groups: Sequence[int]
    ) -> ImageEvidence:
        """Compare texts and images of matched rows. `groups`: a number a row, the same for
        near-duplicates. An image that can't be read says nothing.
        """
        return ImageEvidence(
            self._embedded_images(paths, base), self._embedded_texts(texts), groups
        )

    def _embedded_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, text_dim) embeddings."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            self._texts.update(zip(new, self._predictor.encode_texts(new), strict=True))
        return np.stack([self._texts[text] for text in texts])

    def _embedded_images(self, paths: Sequence[str], base: str) -> NDArray[np.float32]:
        """Return (N, image_width) embeddings; nan for an image that can't be read."""
        unique = list(dict.fromkeys(paths))
        files = [resolve_image(base, path) for path in unique]
        nothing = np.full(self._predictor.engine.image_width, np.nan, np.float32)
        with progress("images", len(files), "image") as advance:
            values = list(self._predictor.pipeline.images(files, progress=advance))
        rows: dict[str, Any] = {
            path: value if isinstance(value, np.ndarray) else nothing
            for path, value in zip(unique, values, strict=True)
        }
        return np.stack([rows[path] for path in paths])
