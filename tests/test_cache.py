"""mismatch.runtime.cache: nothing is encoded twice, nothing half-written is read, the size is bounded, writers don't disturb each other."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import CheckpointError, ImageError, ImageNotFoundError
from mismatch.runtime import cache as module
from mismatch.runtime.cache import EmbeddingCache, embed_images, embed_texts
from mismatch.runtime.pipeline import Pipeline


def key(i: int) -> bytes:
    return i.to_bytes(16, "big")


def rows(*numbers: int) -> dict[bytes, Any]:
    return {key(i): np.full(4, i, np.float32) for i in numbers}


def test_what_one_writer_wrote_another_reads(tmp_path: Path) -> None:
    first, second = EmbeddingCache(tmp_path, "aa"), EmbeddingCache(tmp_path, "aa")
    first.put_many(rows(1, 2))
    second.put_many(rows(3))
    fresh = EmbeddingCache(tmp_path, "aa")
    assert len(fresh) == 3
    found = fresh.get_many([key(3), key(2), key(9)])
    assert {k: v.tolist() for k, v in found.items()} == {key(3): [3.0] * 4, key(2): [2.0] * 4}
    assert len(EmbeddingCache(tmp_path, "bb")) == 0, "other weights, other embeddings"


@pytest.mark.parametrize("damage", ["no array", "empty array", "cut array", "cut keys", "keys only begun"])
def test_a_damaged_segment_counts_as_absent(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path, "aa")
    cache.put_many(rows(1, 2))
    [keys] = cache.folder.glob("*.keys")
    array = keys.with_suffix(".npy")
    if damage == "no array":
        array.unlink()
    elif damage == "empty array":
        array.write_bytes(b"")
    elif damage == "cut array":
        array.write_bytes(array.read_bytes()[:-8])
    elif damage == "cut keys":
        keys.write_bytes(keys.read_bytes()[:-8])
    else:
        keys.rename(keys.with_name(f".{keys.name}.part.keys.tmp"))
    again = EmbeddingCache(tmp_path, "aa")
    assert len(again) == 0
    again.put_many(rows(1, 2))
    assert len(EmbeddingCache(tmp_path, "aa")) == 2


def test_the_oldest_segments_go_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "aa", max_bytes=2 * (128 + 16))
    for i in range(4):
        cache.put_many(rows(i))
        for age, path in enumerate(sorted(cache.folder.glob("*.npy"), key=lambda p: p.stat().st_mtime_ns)):
            os.utime(path, (1000 + 10 * i + age, 1000 + 10 * i + age))
    left = EmbeddingCache(tmp_path, "aa")
    assert key(3) in left.get_many([key(i) for i in range(4)])
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.npy")) <= 2 * (128 + 16)
    assert {path.stem for path in tmp_path.glob("*/*.npy")} == {path.stem for path in tmp_path.glob("*/*.keys")}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="--cache"):
        EmbeddingCache(tmp_path / "file", "aa")


def test_images_are_encoded_once_by_content(colour_engine: Any, colour_images: Path) -> None:
    shutil.copy(colour_images / "red.png", colour_images / "same.png")
    paths = [colour_images / name for name in ("red.png", "blue.png", "same.png", "lie.jpg", "absent.png", "blue.png")]
    engine, done = colour_engine(), []
    cache = EmbeddingCache(colour_images / "cache", engine.fingerprint)
    array, problems = embed_images(Pipeline(engine), paths, cache=cache, progress=done.append)
    assert sum(engine.image_batches) == 2
    np.testing.assert_allclose(array[[0, 1, 2, 5]], [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert np.isnan(array[[3, 4]]).all()
    assert sorted(problems) == [3, 4]
    assert "lie.jpg" in str(problems[3])
    assert "absent.png" in str(problems[4])
    assert sum(done) == len(paths)

    again = colour_engine()
    second, _ = embed_images(Pipeline(again), paths, cache=EmbeddingCache(colour_images / "cache", again.fingerprint))
    np.testing.assert_array_equal(second, array)
    assert sum(again.image_batches) == 0, "all from the cache; lie.jpg was tried and refused before the tower"


def test_an_interruption_costs_one_segment_at_most(colour_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    colour_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_filled: bool, stop: int
) -> None:
    """With an engine whose embeddings depend on all that is encoded together, as torch's last digits do."""
    monkeypatch.setattr(module, "SEGMENT_ROWS", 64)
    chance = np.random.default_rng(0)
    texts = [" ".join(chance.choice(["red", "blue", "shirt", "bag"], 1 + i % 4)) + " " * i for i in range(250)]

    def embed(folder: Path, chosen: Any, *, stop: int = 0) -> Any:
        engine, calls = colour_engine(), []
        real = engine.encode_texts
        engine.encode_texts = lambda ids, mask: real(ids, mask) + np.float32(len(ids) + ids.sum() / 1000)
        pipeline = Pipeline(engine, batch_size=8)
        encode = pipeline.texts
        monkeypatch.setattr(pipeline, "texts", lambda texts: interrupted() if len(calls) == stop else calls.append(1) or encode(texts))  # type: ignore[func-returns-value]
        return embed_texts(pipeline, chosen, cache=EmbeddingCache(folder, "aa"))[0]

    def interrupted() -> None:
        raise KeyboardInterrupt

    for folder in ("once", "twice"):
        if half_filled:
            embed(tmp_path / folder, texts[::7], stop=99)
    once = embed(tmp_path / "once", texts, stop=99)
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "twice", texts, stop=stop)
    for _ in range(2):
        np.testing.assert_array_equal(embed(tmp_path / "twice", texts, stop=99), once)
    assert len(np.unique(once)) > 10, "other companions, other embeddings"


def test_of_two_embeddings_of_one_content_the_older_counts_and_a_new_one_replaces_one_that_is_gone(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        EmbeddingCache(tmp_path, "aa").put_many({key(1): np.full(4, value, np.float32)})
    first, second = sorted((tmp_path / "aa").glob("*.keys"), key=lambda path: float(np.load(path.with_suffix(".npy"))[0, 0]))
    for age, path in enumerate((first, second)):
        os.utime(path, (1000 + age, 1000 + age))
    assert EmbeddingCache(tmp_path, "aa").get_many([key(1)])[key(1)].tolist() == [1.0] * 4
    os.utime(first, (2000, 2000))
    assert EmbeddingCache(tmp_path, "aa").get_many([key(1)])[key(1)].tolist() == [2.0] * 4


def test_texts_without_a_cache(colour_engine: Any) -> None:
    array, problems = embed_texts(Pipeline(colour_engine()), ["red", "", "blue bag", "red"])
    np.testing.assert_array_equal(array[[0, 2, 3]], [[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert list(problems) == [1]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_many_segments_hold_no_descriptors(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    cache = EmbeddingCache(tmp_path, "aa")
    for i in range(100):
        cache.put_many(rows(i))
    again = EmbeddingCache(tmp_path, "aa")
    found = again.get_many([key(i) for i in range(120)])
    assert {k: v.tolist() for k, v in found.items()} == {key(i): [float(i)] * 4 for i in range(100)}
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_shortage_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    EmbeddingCache(tmp_path, "aa").put_many(rows(1))

    def load(path: Path, **options: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(np, "load", load)
    with pytest.raises(CheckpointError, match=os.strerror(number)):
        EmbeddingCache(tmp_path, "aa")


def test_a_segment_that_another_writer_trimmed_is_encoded_anew(colour_engine: Any, tmp_path: Path) -> None:
    engine = colour_engine()
    cache = EmbeddingCache(tmp_path, "aa")
    embed_texts(Pipeline(engine), ["red", "blue"], cache=cache)
    for path in cache.folder.iterdir():
        path.unlink()
    array, problems = embed_texts(Pipeline(engine), ["red", "blue", "red"], cache=cache)
    np.testing.assert_array_equal(array, [[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert problems == {}
    assert len(engine.text_shapes) == 2


def test_a_file_in_use_stays_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EmbeddingCache(tmp_path, "aa", max_bytes=144)
    cache.put_many(rows(1))

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "in use", str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    cache.put_many(rows(2))
    assert len(cache.get_many([key(1), key(2)])) == 2


def test_an_embedding_that_is_no_number_is_a_problem_and_not_stored(colour_engine: Any, tmp_path: Path) -> None:
    engine = colour_engine()
    real = engine.encode_texts
    engine.encode_texts = lambda ids, mask: np.where(real(ids, mask)[:, :1] > 0, np.nan, real(ids, mask)).astype(np.float32)
    cache = EmbeddingCache(tmp_path, "aa")
    array, problems = embed_texts(Pipeline(engine), ["red", "blue", "red"], cache=cache)
    np.testing.assert_array_equal(array, [[np.nan] * 3, [0, 0, 1], [np.nan] * 3])
    assert {i: str(problem) for i, problem in problems.items()} == dict.fromkeys((0, 2), "the model gave no number")
    assert len(EmbeddingCache(tmp_path, "aa")) == 1


def test_what_is_no_readable_file_is_named_and_never_waited_for(colour_engine: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    paths = [tmp_path / name for name in ("pipe.png", "folder.png", "absent.png")]
    array, problems = embed_images(Pipeline(colour_engine()), paths)
    assert np.isnan(array).all()
    assert [type(problems[i]) for i in range(3)] == [ImageError, ImageError, ImageNotFoundError]
    assert [path.name in str(problems[i]) for i, path in enumerate(paths)] == [True] * 3
    assert all(problem.__traceback__ is None for problem in problems.values())


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 4096])
def test_a_files_hash_is_its_contents(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert module._hash_file(tmp_path / "a") == module._hash(b"image", content)
