"""Embeddings in the head's common space agree with the scores of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.runtime.common_space import logit_matrix
from mismatch.runtime.pipeline import Pipeline

TEXTS = ["a red shirt", "a blue bag", "a green shoe with a sole"]


@pytest.fixture
def images(colour_images: Path) -> list[Path]:
    return [colour_images / f"{name}.png" for name in ("red", "green")]


def test_a_matrix_has_the_scores_of_its_pairs(
    tiny_checkpoints: dict[str, Path], images: list[Path]
) -> None:
    predictor = mismatch.load(tiny_checkpoints["openclip"], "cpu")
    matrix = predictor.score_matrix(images, TEXTS)
    pairs = [(image, text) for image in images for text in TEXTS]
    scores = predictor.scores([image for image, _ in pairs], [text for _, text in pairs])
    np.testing.assert_allclose(matrix.ravel(), scores, atol=1e-5)
    first, second = predictor.embed_images(images), predictor.embed_texts(TEXTS)
    assert first.shape[1] == second.shape[1]
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-4)
    order = np.argsort((first @ second.T).ravel())
    assert (np.diff(matrix.ravel()[order]) >= -1e-6).all(), "the cosine ranks as the score does"


def test_a_bundle_gives_a_matrix_too(tiny_bundles: dict[str, Path], images: list[Path]) -> None:
    predictor = mismatch.load(tiny_bundles["openclip"], "cpu", threads=1)
    matrix = predictor.score_matrix(images, TEXTS)
    alone = [[predictor.predict(one, text).similarity_score for text in TEXTS] for one in images]
    np.testing.assert_allclose(matrix, np.array(alone, float), atol=1e-5)
    head = predictor.engine.manifest.head  # type: ignore[attr-defined]
    if head.kind == "adapter":
        with pytest.raises(InputError, match="score_matrix"):
            predictor.embed_images(images)


@pytest.mark.parametrize("kind", ["cosine", "zero-shot"])
def test_a_plain_heads_bundle_gives_its_towers_embeddings(colour_engine: Any, kind: str) -> None:
    from types import SimpleNamespace

    from mismatch.runtime.common_space import project

    engine = colour_engine()
    engine.manifest = SimpleNamespace(head=SimpleNamespace(kind=kind))
    found = project(engine, np.array([[3, 4, 0]], np.float32), "image")
    np.testing.assert_allclose(found, [[0.6, 0.8, 0]], atol=1e-6)


def test_pieces_are_pooled_and_nothing_is_a_matrix_too(colour_engine: Any) -> None:
    pipeline = Pipeline(colour_engine(), long_text="chunk")
    images = np.eye(3, dtype=np.float32)
    pieces = np.eye(3, dtype=np.float32)
    found = logit_matrix(pipeline, images, pieces, [2, 1])
    np.testing.assert_allclose(found, [[-3, -3], [-3, -3], [-3, 1]])
    assert logit_matrix(pipeline, images, pieces[:0], []).shape == (3, 0)
