"""mismatch.runtime.pipeline: once each, in order, with short padding, and a reason for each pair
that can't be scored.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from mismatch.errors import ImageError, InputError
from mismatch.runtime import memo, text_tower
from mismatch.runtime import pipeline as module
from mismatch.runtime.cache import EmbeddingCache, bytes_key, hash_file, text_key
from mismatch.runtime.pipeline import Pair, Pipeline, ScoredPair
from mismatch.specs import LongText, ScoreSpec, TextSpec


def test_order_is_kept_and_equal_images_and_texts_run_once(
    colour_engine: Any, colour_images: Path
) -> None:
    engine = colour_engine()
    names, texts = ["red", "green", "blue"], ["red shirt", "green shirt", "blue bag"]
    pairs = [
        Pair(colour_images / f"{name}.png", text) for name, text in itertools.product(names, texts)
    ] * 20
    results = list(Pipeline(engine, batch_size=2, workers=2).score(pairs))
    logits: list[Any] = [result.logit for result in results]
    assert [round(logit, 4) for logit in logits] == [
        1.0 if name == text.split()[0] else -3.0 for name, text in itertools.product(names, texts)
    ] * 20
    assert engine.image_batches == [2, 1]
    assert engine.text_shapes == [(3, 4)]


@pytest.mark.parametrize("window", [1, 7, 4096])
def test_any_window_gives_the_same_logits(
    colour_engine: Any, colour_images: Path, window: int
) -> None:
    engine = colour_engine()
    pairs = [
        Pair(colour_images / f"{name}.png", "red bag" if i % 3 else "blue")
        for i, name in enumerate(["red", "green", "blue", "red"] * 5)
    ]
    logits: list[Any] = [
        result.logit for result in Pipeline(engine, batch_size=4).score(pairs, window=window)
    ]
    expected = [
        1.0 if pair.text.split()[0] in Path(str(pair.image)).name else -3.0 for pair in pairs
    ]
    np.testing.assert_allclose(logits, np.array(expected), atol=1e-5)
    assert sum(engine.image_batches) == 3, "an image of an earlier window is remembered"


def test_pairs_that_cannot_be_scored_say_why_and_disturb_no_other(
    colour_engine: Any, colour_images: Path
) -> None:
    pairs = [
        Pair(colour_images / "red.png", "red"),
        Pair(colour_images / "absent.png", "red"),
        Pair(colour_images / "lie.jpg", "red"),
        Pair(colour_images / "cut.jpg", "red"),
        Pair(colour_images / "red.png", " \n"),
        Pair("", "", problem="5 fields where the header has 3"),
        Pair(colour_images / "blue.png", "blue"),
    ]
    results = list(Pipeline(colour_engine(), batch_size=2).score(pairs))
    assert [result.logit for result in results] == [1.0, None, None, None, None, None, 1.0]
    for result, word in zip(
        results[1:6], ["absent.png", "lie.jpg", "cut.jpg", "empty", "5 fields"], strict=True
    ):
        assert word in (result.problem or "")


@pytest.mark.parametrize(
    ("padding", "expected"),
    [("longest", [(2, 3), (2, 4), (1, 6)]), ("context", [(2, 6), (2, 6), (1, 6)])],
)
def test_texts_of_like_length_go_together(
    colour_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    padding: str,
    expected: list[tuple[int, int]],
) -> None:
    engine = colour_engine(padding)
    pipeline = Pipeline(engine, batch_size=1)
    monkeypatch.setattr(
        text_tower,
        "_batches",
        lambda items, size: (items[i : i + 2] for i in range(0, len(items), 2)),
    )
    texts = ["red", "green bag shoe blue shirt", "blue bag", "green", "red shoe"]
    embeddings: list[Any] = pipeline.texts(texts)
    assert engine.text_shapes == expected
    np.testing.assert_array_equal(
        np.stack(embeddings), [[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    )
    assert pipeline.totals.truncated == 1, "of six tokens, two are special: 'shirt' was cut"


def test_rows_are_read_lazily_and_decoding_stays_bounded(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, decoded, lock = itertools.count(), [], threading.Lock()

    def rows() -> Iterator[Pair]:
        for _ in range(100):
            next(taken)
            yield Pair(Image.new("RGB", (8, 8), (255, 0, 0)), "red")

    pipeline = Pipeline(colour_engine(), batch_size=2, workers=2)
    real = pipeline._decode

    def counting(source: Any) -> Any:
        with lock:
            decoded.append(source)
        return real(source)

    monkeypatch.setattr(pipeline, "_decode", counting)
    results = pipeline.score(rows(), window=10)
    assert next(results).logit == 1.0
    assert next(taken) == 10, "one window is read ahead, no more"
    assert len(decoded) == 10
    assert len(list(results)) == 99


def test_the_memo_is_bounded(colour_engine: Any) -> None:
    most = 3 * (memo.ENTRY + 12)
    known = module.EmbeddingMemo.empty(most)
    images = {i: Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(40)}
    results = list(
        Pipeline(colour_engine(), batch_size=4).score(
            [Pair(image, "red") for image in images.values()], window=8, memo=known
        )
    )
    logits: list[Any] = [result.logit for result in results]
    expected = np.array([1 - 2 * (255 - i) / 255 for i in images])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert max(known.images.size, known.texts.size, known.pieces.size) <= most
    assert len(known.images.values) == 3


def test_an_images_embedding_streams_in_order_with_errors_in_place(
    colour_engine: Any, colour_images: Path
) -> None:
    done: list[int] = []
    values: list[Any] = list(
        Pipeline(colour_engine(), batch_size=2).images(
            [colour_images / name for name in ("blue.png", "lie.jpg", "red.png")],
            progress=done.append,
        )
    )
    np.testing.assert_allclose(values[0], [0, 0, 1], atol=1e-6)
    assert isinstance(values[1], InputError)
    np.testing.assert_allclose(values[2], [1, 0, 0], atol=1e-6)
    assert done == [1, 1, 1]


def test_a_batch_size_below_one_is_refused(colour_engine: Any) -> None:
    with pytest.raises(InputError, match="batch size is 0"):
        Pipeline(colour_engine(), batch_size=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_no_number_is_a_problem(colour_engine: Any, value: float) -> None:
    engine = colour_engine()
    real = engine.logits
    engine.logits = lambda images, texts: np.where(
        images[:, 0] > 0.5, value, real(images, texts)
    ).astype(np.float32)
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first, second = Pipeline(engine).score([Pair(red, "red"), Pair(blue, "blue")])
    assert (first.logit, first.problem) == (None, "the model gave no number")
    assert (second.logit, second.problem) == (1.0, None)


def test_a_kept_error_holds_no_frames(colour_engine: Any, colour_images: Path) -> None:
    for name in ("lie.jpg", "absent.png", "cut.jpg"):
        [error] = Pipeline(colour_engine()).images([colour_images / name])
        assert isinstance(error, ImageError)
        assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_encoded_bytes_are_known_by_their_hash_and_not_kept(
    colour_engine: Any, colour_images: Path
) -> None:
    content = (colour_images / "red.png").read_bytes()
    assert memo.image_key(content) == memo.image_key(bytes(bytearray(content)))
    assert memo.image_key(content) != memo.image_key((colour_images / "blue.png").read_bytes())
    assert len(memo.image_key(content)) == 16  # type: ignore[arg-type]
    engine = colour_engine()
    assert [
        result.logit for result in Pipeline(engine).score([Pair(content, "red")] * 5, window=2)
    ] == [1.0] * 5
    assert sum(engine.image_batches) == 1


@pytest.mark.parametrize(
    ("kind", "batch_size", "expected"),
    [("picture", 2, 3), ("array", 2, 3), ("picture", 5, 5), ("bytes", 2, 4), ("path", 2, 10)],
)
def test_a_window_ends_early_where_rows_carry_their_images(
    colour_engine: Any,
    colour_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    batch_size: int,
    expected: int,
) -> None:
    path = colour_images / "red.png"
    image: Any = {
        "path": path,
        "bytes": path.read_bytes(),
        "picture": Image.new("RGB", (8, 8), (255, 0, 0)),
        "array": np.full((8, 8, 3), (255, 0, 0), np.uint8),
    }[kind]
    monkeypatch.setattr(module, "HELD_IMAGES", 3)
    monkeypatch.setattr(module, "HELD_BYTES", 4 * path.stat().st_size)
    taken = itertools.count()
    results = Pipeline(colour_engine(), batch_size=batch_size).score(
        (Pair(image, "red") for _ in iter(lambda: next(taken), 20)), window=10
    )
    assert next(results).logit == 1.0
    assert next(taken) == expected
    assert {result.logit for result in results} == {1.0}


@pytest.mark.parametrize(
    ("long_text", "logit", "truncated", "shapes"),
    [
        (None, 1.0, 2, [(3, 6)]),
        ("truncate", 1.0, 2, [(3, 6)]),
        ("chunk", -3.0, 0, [(3, 6)]),
        ("chunk-mean", -1.0, 0, [(3, 6)]),
    ],
)
def test_a_long_texts_pieces_decide_together(
    colour_engine: Any,
    colour_images: Path,
    long_text: Any,
    logit: float,
    truncated: int,
    shapes: list[tuple[int, int]],
) -> None:
    engine = colour_engine()
    texts = ["red shirt bag shoe\nblue shirt", "red shirt bag shoe\nred bag", "red bag"]
    pipeline = Pipeline(engine, long_text=long_text)
    results: list[Any] = [
        result.logit
        for result in pipeline.score([Pair(colour_images / "red.png", text) for text in texts * 2])
    ]
    np.testing.assert_allclose(results, np.array([logit, 1.0, 1.0] * 2), atol=1e-6)
    assert engine.text_shapes == shapes, (
        "a piece that two texts share, and that is a text of its own, runs once"
    )
    assert (pipeline.totals.long_texts, pipeline.totals.truncated) == (2, truncated)


def test_the_engines_score_says_what_becomes_of_long_texts_unless_told_otherwise(
    colour_engine: Any,
) -> None:
    engine = colour_engine(score=ScoreSpec("probability", 0.5, long_text="chunk"))
    assert Pipeline(engine).long_text == "chunk"
    assert Pipeline(engine, long_text="truncate").long_text == "truncate"
    with pytest.raises(
        InputError, match="long_text is 'split'; one of truncate, chunk, chunk-mean is needed"
    ):
        Pipeline(engine, long_text="split")  # type: ignore[arg-type]


@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
@pytest.mark.parametrize("window", [1, 3, 4096])
@pytest.mark.parametrize("memo_bytes", [600, 10**6])
def test_long_and_short_texts_mix_in_any_window_and_memory(
    colour_engine: Any,
    colour_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    long_text: Any,
    window: int,
    memo_bytes: int,
) -> None:
    """Against each piece scored as a text of its own, slice by slice of the head."""
    rng = np.random.default_rng(0)
    words = ["red", "green", "blue", "shirt", "bag"]
    texts = [
        " ".join(words[i] for i in rng.integers(0, 5, rng.integers(1, 14))) for _ in range(60)
    ] + ["", "  "]
    pairs = [
        Pair(
            colour_images / f"{['red', 'green', 'blue', 'absent'][rng.integers(0, 4)]}.png",
            texts[rng.integers(0, 62)],
        )
        for _ in range(200)
    ]
    monkeypatch.setattr(memo, "MEMO_BYTES", memo_bytes)
    monkeypatch.setattr(module, "WINDOW", 7)
    pipeline, plain = Pipeline(colour_engine(), long_text=long_text), Pipeline(colour_engine())
    results = list(pipeline.score(pairs, window=window))
    for pair, result in zip(pairs, results, strict=True):
        [pieces] = pipeline.pieces([pair.text])
        if isinstance(pieces, InputError):
            assert result.logit is None
            assert str(pieces) == "the text is empty"
            continue
        parts = [Pair(pair.image, piece) for piece in pieces]
        alone: list[Any] = [one.logit for one in plain.score(parts)]
        if None in alone:
            assert result.logit is None
            assert "empty" in (result.problem or "") or "absent" in (result.problem or "")
        else:
            assert result.logit == pytest.approx(
                min(alone) if long_text == "chunk" else np.mean(alone), abs=1e-6
            )
    assert plain.totals.truncated == pipeline.totals.truncated == 0
    assert sum(result.logit is not None for result in results) > 100


def test_texts_that_fit_score_to_the_bit_as_ever(colour_engine: Any, colour_images: Path) -> None:
    pairs = [
        Pair(colour_images / f"{name}.png", text)
        for name in ("red", "green", "blue")
        for text in ("red bag", "a green shirt", "blue", "")
    ]
    scored = {
        long_text: list(Pipeline(colour_engine(), long_text=long_text).score(pairs))
        for long_text in get_args(LongText)
    }
    assert scored["truncate"] == scored["chunk"] == scored["chunk-mean"]


def test_a_piece_without_a_number_leaves_its_pair_without_one(
    colour_engine: Any, colour_images: Path
) -> None:
    engine = colour_engine()
    real = engine.encode_texts
    engine.encode_texts = lambda ids, mask: np.where(
        real(ids, mask)[:, 2:] > 0, np.nan, real(ids, mask)
    ).astype(np.float32)
    long, short = Pipeline(engine, long_text="chunk").score(
        [
            Pair(colour_images / "red.png", text)
            for text in ("red shirt bag shoe\nblue shirt", "red")
        ]
    )
    assert (long.logit, long.problem, short.logit) == (None, "the model gave no number", 1.0)


def test_a_window_ends_early_where_long_texts_carry_many_letters(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_LETTERS", 100)
    for long_text, expected in (("chunk", 4), ("truncate", 10)):
        taken = itertools.count()
        rows = (Pair(colour_images / "red.png", "red " * 7) for _ in iter(partial(next, taken), 20))
        results = Pipeline(colour_engine(), long_text=long_text).score(rows, window=10)  # type: ignore[arg-type]
        assert next(results).logit == 1.0
        assert next(taken) == expected


def test_embeddings_of_texts_are_of_their_beginning(colour_engine: Any) -> None:
    pipeline = Pipeline(colour_engine(), long_text="chunk")
    embeddings: list[Any] = pipeline.texts(["red shirt bag shoe\nblue shirt"])
    np.testing.assert_array_equal(np.stack(embeddings), [[1, 0, 0]])
    assert pipeline.pieces(["red shirt bag shoe\nblue shirt", "blue"]) == [
        ("red shirt bag shoe", "blue shirt"),
        ("blue",),
    ]
    assert (pipeline.totals.long_texts, pipeline.totals.truncated) == (2, 1)


def spaces_count(engine: Any, context_length: int) -> Any:
    """The engine with a tokenizer whose tokens are bytes, white space included, so that a text of
    nothing else may be too long.
    """
    tokenizer = Tokenizer(BPE({char: i for i, char in enumerate(sorted(ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    engine.text_spec = TextSpec(
        context_length, pad_id=0, padding="longest", tokenizer_json=tokenizer.to_str()
    )
    return engine


@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
@pytest.mark.parametrize("text", ["\n" * 50, " \t" * 30])
def test_much_white_space_is_an_empty_text_and_no_long_one(
    colour_engine: Any, long_text: Any, text: str
) -> None:
    pipeline = Pipeline(spaces_count(colour_engine(), 8), long_text=long_text)
    pieces, red_pieces = pipeline.pieces([text, "red"])
    assert red_pieces == ("red",)
    if long_text == "truncate":
        assert pieces == (text,)
    else:
        assert str(pieces) == "the text is empty"
    empty, red = pipeline.piece_embeddings([text, "red"])
    assert (str(empty), isinstance(red, np.ndarray)) == ("the text is empty", True)
    assert (pipeline.totals.long_texts, pipeline.totals.truncated) == (0, 0)


@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
@pytest.mark.parametrize("text", ["&nbsp;", "&amp;nbsp;", "&#32;", "\0" * 50, "\x1b[0m", "\ufeff"])
def test_a_text_of_which_cleaning_leaves_nothing_is_empty(
    colour_engine: Any, colour_images: Path, long_text: Any, text: str
) -> None:
    engine = colour_engine()
    engine.text_spec = replace(engine.text_spec, cleaning="clip")
    pairs = [Pair(colour_images / "red.png", one) for one in (text, "red")]
    empty, red = Pipeline(engine, long_text=long_text).score(pairs)
    assert (empty.logit, empty.problem) == (None, "the text is empty")
    assert (red.logit, red.problem) == (1.0, None)


def test_one_image_and_no_piece_beside_two_is_refused(colour_engine: Any) -> None:
    one = np.zeros(3, np.float32)
    with pytest.raises(InputError, match="pair 1 of 2 has no piece"):
        Pipeline(colour_engine(), long_text="chunk").pooled_logits([one, one], [[], [one, one]])


@pytest.mark.parametrize(
    ("long_text", "counts"), [("truncate", (1, 1)), ("chunk", (1, 2)), ("chunk-mean", (1, 2))]
)
def test_a_long_text_counts_once_though_its_letters_are_too_long_as_well(
    colour_engine: Any, long_text: Any, counts: tuple[int, int]
) -> None:
    """An emoji is four bytes, and the context two."""
    engine = spaces_count(colour_engine(), 2)
    pipeline = Pipeline(engine, long_text=long_text)
    [pieces] = pipeline.pieces(["👍👜👍"])
    assert pieces == (("👍👜👍",) if long_text == "truncate" else ("👍", "👜", "👍"))
    embeddings = pipeline.piece_embeddings(pieces)
    assert len(embeddings) == len(pieces)
    assert sum(rows for rows, _ in engine.text_shapes) == len(set(pieces)), "equal pieces run once"
    assert (pipeline.totals.long_texts, pipeline.totals.truncated) == counts


@pytest.fixture
def score_cached(colour_engine: Any, colour_images: Path) -> Any:
    """Score pairs with a fresh pipeline over one cache folder; returns results, images encoded and
    texts encoded.
    """

    def score(
        pairs: list[Pair], *, window: int = 3, **options: Any
    ) -> tuple[list[ScoredPair], int, int]:
        engine = colour_engine()
        pipeline = Pipeline(
            engine,
            batch_size=2,
            cache=EmbeddingCache(colour_images / "cache", engine.fingerprint),
            **options,
        )
        results = list(pipeline.score(pairs, window=window))
        return results, sum(engine.image_batches), sum(rows for rows, _ in engine.text_shapes)

    return score


@pytest.mark.parametrize("long_text", ["truncate", "chunk"])
def test_a_cache_encodes_only_what_is_new(
    score_cached: Any, colour_engine: Any, colour_images: Path, long_text: Any
) -> None:
    names, texts = (
        ("red", "green", "blue"),
        ("red bag", "a green shirt", "red shirt bag shoe. blue shirt"),
    )
    pairs = [Pair(colour_images / f"{name}.png", text) for name in names for text in texts]
    plain = list(Pipeline(colour_engine(), batch_size=2, long_text=long_text).score(pairs))
    pieces = 3 if long_text == "truncate" else 4
    assert score_cached(pairs, long_text=long_text) == (plain, 3, pieces)
    assert score_cached(pairs, long_text=long_text) == (plain, 0, 0)
    titles = [Pair(pair.image, "new " + pair.text) for pair in pairs[:1]]
    assert score_cached([*pairs, *titles], long_text=long_text)[1:] == (
        0,
        1,
    ), "a new title costs a text"
    Image.new("RGB", (9, 9), (0, 0, 255)).save(colour_images / "red.png")
    results, images, said = score_cached(pairs, long_text=long_text)
    assert (images, said) == (1, 0), "a new picture under an old name costs an image"
    assert results[0] != plain[0]
    assert results[3:] == plain[3:]


def test_a_cache_knows_encoded_bytes_by_their_content_and_passes_decoded_images_by(
    score_cached: Any, colour_images: Path
) -> None:
    encoded, decoded = (
        (colour_images / "red.png").read_bytes(),
        Image.new("RGB", (8, 8), (0, 0, 255)),
    )
    assert score_cached([Pair(colour_images / "red.png", "red")])[1:] == (1, 1)
    assert score_cached([Pair(encoded, "red"), Pair(str(colour_images / "red.png"), "red")])[
        1:
    ] == (0, 0)
    for _ in range(2):
        assert score_cached([Pair(decoded, "red")])[1:] == (1, 0)


def test_a_cache_keeps_no_failures_and_leaves_their_words_alone(
    score_cached: Any, colour_engine: Any, colour_images: Path
) -> None:
    pairs = [
        Pair(colour_images / name, "red")
        for name in ("absent.png", "lie.jpg", "cut.jpg", "red.png")
    ]
    pairs += [
        Pair(colour_images / "red.png", ""),
        Pair(colour_images, "red"),
        Pair("http://x/a.png", "red"),
        Pair(colour_images / "green.png", "red", "no"),
    ]
    plain = list(Pipeline(colour_engine()).score(pairs))
    for images in (1, 0):
        results, count, _ = score_cached(pairs)
        assert results == plain
        assert count == images
    Image.new("RGB", (8, 8), (255, 0, 0)).save(colour_images / "absent.png")
    results, _, _ = score_cached(pairs)
    assert results[0].logit == 1.0, "what was absent is looked for again"


def test_cached_embeddings_of_another_width_are_made_anew(
    colour_engine: Any, colour_images: Path, tmp_path: Path
) -> None:
    path = colour_images / "red.png"
    narrow = np.ones(2, np.float32)
    cache = EmbeddingCache(tmp_path / "c", "aa")
    cache.put_many({bytes_key(path.read_bytes()): narrow, text_key("red"): narrow})
    [scored] = Pipeline(colour_engine(), cache=cache).score([Pair(path, "red")])
    assert scored.logit == 1.0


def replaced_after_hashing(
    monkeypatch: pytest.MonkeyPatch, paths: list[Path], content: bytes
) -> None:
    """Let each of `paths` be written again between the look at its content and its decoding."""

    def changing(path: Any) -> Any:
        found = hash_file(path)
        if path in paths:
            path.write_bytes(content)
        return found

    monkeypatch.setattr(memo, "hash_file", changing)


@pytest.mark.parametrize("settled_ns", [-(10**12), 2 * 10**9], ids=["by-times", "by-content"])
def test_a_file_that_changes_while_it_is_scored_is_not_cached(
    score_cached: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch, settled_ns: int
) -> None:
    monkeypatch.setattr("mismatch.runtime.cache.SETTLED_NS", settled_ns)
    path, blue = colour_images / "red.png", (colour_images / "blue.png").read_bytes()
    red = path.read_bytes()
    with monkeypatch.context() as patch:
        replaced_after_hashing(patch, [path], blue + b"!")
        [changed, steady], _, _ = score_cached(
            [Pair(path, "red"), Pair(colour_images / "green.png", "green")]
        )
    assert changed.logit != steady.logit == 1.0
    path.write_bytes(red)
    results, images, _ = score_cached(
        [Pair(path, "red"), Pair(colour_images / "green.png", "green")]
    )
    assert ([result.logit for result in results], images) == (
        [1.0, 1.0],
        1,
    ), "green alone was cached"


def test_an_embedding_without_a_number_is_not_cached(
    colour_engine: Any, colour_images: Path
) -> None:
    engine = colour_engine()
    cache = EmbeddingCache(colour_images / "cache", engine.fingerprint)
    engine.encode_images = lambda pixels: np.full((len(pixels), 3), np.nan, np.float32)
    [result] = Pipeline(engine, cache=cache).score([Pair(colour_images / "red.png", "red")])
    assert (result.problem, len(cache)) == ("the model gave no number", 1)


def test_a_window_is_one_segment_of_images_and_one_of_texts(
    score_cached: Any, colour_images: Path
) -> None:
    score_cached(
        [Pair(colour_images / f"{name}.png", name) for name in ("red", "green", "blue", "red")],
        window=2,
    )
    sizes = sorted(len(np.load(path)) for path in (colour_images / "cache").glob("*/*.npy"))
    assert sizes == [1, 1, 2, 2]


class Failing:
    """An engine, or a step of a pipeline, that fails where `fails` says so."""

    def __init__(self, real: Any, fails: Any) -> None:
        self.real, self.fails = real, fails

    def __call__(self, *args: Any) -> Any:
        if self.fails(*args):
            raise KeyError("an internal name")
        return self.real(*args)


def break_step(pipeline: Pipeline, step: str, *, always: bool = False) -> None:
    """Let one step fail on what is green, or on everything."""
    engine: Any = pipeline.engine
    if step == "clean":
        pipeline.tokenizer._clean = Failing(
            pipeline.tokenizer._clean, lambda text: always or "green" in text
        )
    elif step == "text tower":
        engine.encode_texts = Failing(
            engine.encode_texts, lambda ids, mask: always or (ids == module_word("green")).any()
        )
    elif step == "image tower":
        engine.encode_images = Failing(
            engine.encode_images,
            lambda pixels: (
                always or (pixels[:, 1].mean(axis=(1, 2)) > pixels[:, 0].mean(axis=(1, 2))).any()
            ),
        )
    elif step == "prepare":
        preprocess: Any = pipeline.preprocess
        preprocess.picture = Failing(
            preprocess.picture, lambda source: always or "green" in str(source)
        )
    elif step == "head":
        engine.logits = Failing(
            engine.logits,
            lambda images, texts: always or ((images[:, 1] > 0.5) & (texts[:, 1] > 0.5)).any(),
        )
    else:
        raise ValueError(step)


def module_word(word: str) -> int:
    from tests.support.engines import WORDS

    return WORDS.index(word)


STEPS = ["clean", "text tower", "image tower", "prepare", "head"]


@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
@pytest.mark.parametrize("step", STEPS)
def test_an_error_of_a_pair_costs_that_pair_alone(
    colour_engine: Any, colour_images: Path, step: str, long_text: Any
) -> None:
    pairs = [
        Pair(colour_images / f"{name}.png", f"{name} {noun}")
        for name in ("red", "green", "blue")
        for noun in ("bag", "shoe", "bag shoe bag shoe bag")
    ]
    whole = list(Pipeline(colour_engine(), batch_size=3, long_text=long_text).score(pairs))
    pipeline = Pipeline(colour_engine(), batch_size=3, long_text=long_text)
    break_step(pipeline, step)
    found = list(pipeline.score(pairs))
    said = [one.problem for one in found]
    assert [problem is None for problem in said] == [True] * 3 + [False] * 3 + [True] * 3
    assert [one.logit for one in found if one.problem is None] == [
        one.logit for one in [*whole[:3], *whole[6:]]
    ]
    assert not any("internal" in problem or "Error" in problem for problem in said if problem)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [1, 9])
def test_a_step_that_fails_on_everything_is_no_pairs_fault(
    colour_engine: Any, colour_images: Path, step: str, count: int
) -> None:
    pipeline = Pipeline(colour_engine(), batch_size=3)
    break_step(pipeline, step, always=True)
    with pytest.raises(KeyError, match="an internal name"):
        list(
            pipeline.score(
                [Pair(colour_images / "red.png", f"red {number}") for number in range(count)]
            )
        )


def test_a_text_that_cannot_be_split_costs_its_pair_alone(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mismatch.runtime import long_text as chunks

    real = chunks.split_long_text
    monkeypatch.setattr(
        chunks, "split_long_text", Failing(real, lambda text, tokenizer: "green" in text)
    )
    texts = ["red bag shoe bag shoe bag", "green bag shoe bag shoe bag", "red"]
    pipeline = Pipeline(colour_engine(), long_text="chunk")
    first, bad, last = pipeline.score([Pair(colour_images / "red.png", text) for text in texts])
    assert (first.problem, last.problem) == (None, None)
    assert "pieces" in (bad.problem or "")
    pieces = pipeline.pieces(texts)
    assert [isinstance(own, InputError) for own in pieces] == [False, True, False]
