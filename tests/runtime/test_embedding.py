"""mismatch.runtime.embedding: nothing is encoded twice, an interruption costs little, and what
can't be embedded is named.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import ImageError, ImageNotFoundError
from mismatch.runtime import embedding as module
from mismatch.runtime.cache import EmbeddingCache, hash_file
from mismatch.runtime.embedding import embed_images, embed_texts
from mismatch.runtime.pipeline import Pipeline


def test_images_are_encoded_once_by_content(colour_engine: Any, colour_images: Path) -> None:
    shutil.copy(colour_images / "red.png", colour_images / "same.png")
    paths = [
        colour_images / name
        for name in ("red.png", "blue.png", "same.png", "lie.jpg", "absent.png", "blue.png")
    ]
    engine = colour_engine()
    done: list[int] = []
    cache = EmbeddingCache(colour_images / "cache", engine.fingerprint)
    array, problems = embed_images(Pipeline(engine), paths, cache=cache, progress=done.append)
    assert sum(engine.image_batches) == 2
    np.testing.assert_allclose(
        array[[0, 1, 2, 5]], [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], atol=1e-6
    )
    assert np.isnan(array[[3, 4]]).all()
    assert sorted(problems) == [3, 4]
    assert "lie.jpg" in str(problems[3])
    assert "absent.png" in str(problems[4])
    assert sum(done) == len(paths)

    again = colour_engine()
    second, _ = embed_images(
        Pipeline(again), paths, cache=EmbeddingCache(colour_images / "cache", again.fingerprint)
    )
    np.testing.assert_array_equal(second, array)
    assert sum(again.image_batches) == 0, (
        "all from the cache; lie.jpg was tried and refused before the tower"
    )


def test_an_interruption_costs_one_segment_at_most(
    colour_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_ROWS", 2)
    engine = colour_engine()
    pipeline = Pipeline(engine)
    real, calls = pipeline.texts, []

    def texts(chosen: Any) -> Any:
        calls.append(chosen)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(chosen)

    monkeypatch.setattr(pipeline, "texts", texts)
    words = ["red", "green", "blue", "red shirt", "blue shirt", "green bag"]
    with pytest.raises(KeyboardInterrupt):
        embed_texts(pipeline, words, cache=EmbeddingCache(tmp_path, engine.fingerprint))
    assert len(EmbeddingCache(tmp_path, engine.fingerprint)) == 4


@pytest.mark.parametrize("half_filled", [False, True], ids=["cold", "half-filled"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_embeddings_are_the_same_to_the_last_digit_after_an_interruption(
    colour_engine: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    half_filled: bool,
    stop: int,
) -> None:
    """With an engine whose embeddings depend on all that is encoded together, as torch's last
    digits do.
    """
    monkeypatch.setattr(module, "SEGMENT_ROWS", 64)
    chance = np.random.default_rng(0)
    texts = [
        " ".join(chance.choice(["red", "blue", "shirt", "bag"], 1 + i % 4)) + " " * i
        for i in range(250)
    ]

    def embed(folder: Path, chosen: Any, *, stop: int = 0) -> Any:
        engine = colour_engine()
        calls = 0
        real = engine.encode_texts
        engine.encode_texts = lambda ids, mask: (
            real(ids, mask) + np.float32(len(ids) + ids.sum() / 1000)
        )
        pipeline = Pipeline(engine, batch_size=8)
        encode = pipeline.texts

        def encode_or_stop(texts: Any) -> Any:
            nonlocal calls
            if calls == stop:
                raise KeyboardInterrupt
            calls += 1
            return encode(texts)

        monkeypatch.setattr(pipeline, "texts", encode_or_stop)
        return embed_texts(pipeline, chosen, cache=EmbeddingCache(folder, "aa"))[0]

    for folder in ("once", "twice"):
        if half_filled:
            embed(tmp_path / folder, texts[::7], stop=99)
    once = embed(tmp_path / "once", texts, stop=99)
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "twice", texts, stop=stop)
    for _ in range(2):
        np.testing.assert_array_equal(embed(tmp_path / "twice", texts, stop=99), once)
    assert len(np.unique(once)) > 10, "other companions, other embeddings"


def test_texts_without_a_cache(colour_engine: Any) -> None:
    array, problems = embed_texts(Pipeline(colour_engine()), ["red", "", "blue bag", "red"])
    np.testing.assert_array_equal(array[[0, 2, 3]], [[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert list(problems) == [1]


def test_a_segment_that_another_writer_trimmed_is_encoded_anew(
    colour_engine: Any, tmp_path: Path
) -> None:
    engine = colour_engine()
    cache = EmbeddingCache(tmp_path, "aa")
    embed_texts(Pipeline(engine), ["red", "blue"], cache=cache)
    for path in cache.folder.iterdir():
        path.unlink()
    array, problems = embed_texts(Pipeline(engine), ["red", "blue", "red"], cache=cache)
    np.testing.assert_array_equal(array, [[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert problems == {}
    assert len(engine.text_shapes) == 2


def test_an_embedding_that_is_no_number_is_a_problem_and_not_stored(
    colour_engine: Any, tmp_path: Path
) -> None:
    engine = colour_engine()
    real = engine.encode_texts
    engine.encode_texts = lambda ids, mask: np.where(
        real(ids, mask)[:, :1] > 0, np.nan, real(ids, mask)
    ).astype(np.float32)
    cache = EmbeddingCache(tmp_path, "aa")
    array, problems = embed_texts(Pipeline(engine), ["red", "blue", "red"], cache=cache)
    np.testing.assert_array_equal(array, [[np.nan] * 3, [0, 0, 1], [np.nan] * 3])
    assert {i: str(problem) for i, problem in problems.items()} == dict.fromkeys(
        (0, 2), "the model gave no number"
    )
    assert len(EmbeddingCache(tmp_path, "aa")) == 1


def test_what_is_no_readable_file_is_named_and_never_waited_for(
    colour_engine: Any, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    paths = [tmp_path / name for name in ("pipe.png", "folder.png", "absent.png")]
    array, problems = embed_images(Pipeline(colour_engine()), paths)
    assert np.isnan(array).all()
    assert [type(problems[i]) for i in range(3)] == [ImageError, ImageError, ImageNotFoundError]
    assert [path.name in str(problems[i]) for i, path in enumerate(paths)] == [True] * 3
    assert all(problem.__traceback__ is None for problem in problems.values())


def test_a_file_that_changes_while_it_is_embedded_stands_for_no_other(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(colour_images / "red.png", colour_images / "same.png")
    paths = [colour_images / name for name in ("red.png", "green.png", "same.png", "same.png")]
    blue = (colour_images / "blue.png").read_bytes()

    def changing(path: Any) -> Any:
        found = hash_file(path)
        if path == paths[0]:
            path.write_bytes(blue)
        return found

    engine = colour_engine()
    cache = EmbeddingCache(colour_images / "cache", engine.fingerprint)
    with monkeypatch.context() as patch:
        patch.setattr(module, "hash_file", changing)
        array, problems = embed_images(Pipeline(engine), paths, cache=cache)
    np.testing.assert_allclose(array, [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]], atol=1e-6)
    assert not problems
    assert len(EmbeddingCache(colour_images / "cache", engine.fingerprint)) == 1, "of green alone"


def test_a_file_that_becomes_damaged_while_it_is_embedded_costs_no_other(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(colour_images / "red.png", colour_images / "same.png")
    paths = [colour_images / name for name in ("red.png", "same.png")]

    def changing(path: Any) -> Any:
        found = hash_file(path)
        if path == paths[0]:
            path.write_bytes(b"no picture")
        return found

    monkeypatch.setattr(module, "hash_file", changing)
    array, problems = embed_images(Pipeline(colour_engine()), paths)
    assert [*problems] == [0]
    np.testing.assert_allclose(array[1], [1, 0, 0], atol=1e-6)
