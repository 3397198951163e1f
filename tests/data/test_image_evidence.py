"""Embeddings say which texts fit an image, and nothing where they know nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.data.image_evidence import ImageEvidence

ROWS = 400


def embedded(noise: float) -> tuple[ImageEvidence, list[int]]:
    """Return evidence of towers that share no space, of twenty scenes with twenty rows each."""
    random = np.random.default_rng(0)
    scenes = [row % 20 for row in range(ROWS)]
    meaning = random.normal(size=(20, 8))[scenes]  # (ROWS, 8)
    images = meaning @ random.normal(size=(8, 24)) + noise * random.normal(size=(ROWS, 24))
    texts = meaning @ random.normal(size=(8, 16)) + noise * random.normal(size=(ROWS, 16))
    images[7] = np.nan
    return ImageEvidence(images.astype(np.float32), texts.astype(np.float32), range(ROWS)), scenes


def test_texts_of_the_same_scene_fit_as_well() -> None:
    evidence, scenes = embedded(0.3)
    same = [evidence(0, row) for row in range(20, ROWS, 20)]
    other = [evidence(0, row) for row in range(1, 20)]
    assert np.mean([fits for _, fits in same]) > 0.2
    assert np.median([ratio for ratio, _ in same]) > 3
    assert np.median([ratio for ratio, _ in other]) < 0.2
    assert not any(fits for _, fits in other)
    assert len(set(scenes)) == 20


def test_towers_that_know_nothing_change_nothing() -> None:
    evidence, _ = embedded(1000.0)
    ratios = np.array([evidence(0, row)[0] for row in range(1, ROWS)])
    assert not any(evidence(0, row)[1] for row in range(1, ROWS))
    assert ratios.min() > 0.4
    assert ratios.max() < 2.5


def test_an_image_that_has_no_embedding_says_nothing() -> None:
    evidence, _ = embedded(0.3)
    assert {evidence(7, row) for row in range(20)} == {(1.0, False)}


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows(rows: int) -> None:
    random = np.random.default_rng(1)
    images, texts = random.normal(size=(2, rows, 4)).astype(np.float32)
    ratio, _ = ImageEvidence(images, texts, range(rows))(0, rows - 1)
    assert 0 < ratio <= 50
