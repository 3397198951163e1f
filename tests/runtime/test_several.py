"""Images and texts by position: logits of pairs, of each with each, and the first error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import ImageNotFoundError, InputError
from mismatch.runtime.pipeline import Pipeline
from mismatch.runtime.several import (
    embed_images,
    embed_texts,
    logit_of_pair,
    logits_of_all,
    logits_of_pairs,
    stack,
)

LONG = "red shirt bag shoe\nblue shirt"


@pytest.fixture
def pipeline(colour_engine: Any) -> Pipeline:
    return Pipeline(colour_engine(), batch_size=2, long_text="chunk")


def test_a_pair_a_list_of_pairs_and_a_matrix_agree(pipeline: Pipeline, colour_images: Path) -> None:
    images = [colour_images / f"{name}.png" for name in ("red", "blue")]
    texts = ["red", LONG]
    alone = [[logit_of_pair(pipeline, image, text) for text in texts] for image in images]
    np.testing.assert_allclose(logits_of_all(pipeline, images, texts), alone, atol=1e-6)
    pairs = logits_of_pairs(pipeline, (image for image in images), texts)
    np.testing.assert_allclose(pairs, np.diag(alone), atol=1e-6)


def test_the_first_error_is_raised(pipeline: Pipeline, colour_images: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"gone\.png"):
        embed_images(pipeline, [colour_images / "red.png", colour_images / "gone.png"])
    with pytest.raises(InputError, match="empty"):
        embed_texts(pipeline, ["red", " "])
    with pytest.raises(InputError, match="empty"):
        logits_of_all(pipeline, [colour_images / "red.png"], ["red", ""])


def test_an_array_that_is_used_again_is_embedded_as_it_came(pipeline: Pipeline) -> None:
    buffer = np.zeros((8, 8, 3), np.uint8)

    def frames() -> Any:
        for channel in range(3):
            buffer[:] = 0
            buffer[..., channel] = 255
            yield buffer

    np.testing.assert_allclose(embed_images(pipeline, frames()), np.eye(3), atol=1e-6)


def test_of_none_there_are_none() -> None:
    assert stack([], 3).shape == (0, 3)
