"""The one path from rows to logits, for every engine: unique images and texts once, decode on
threads, short padding, long texts in pieces, order kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import ImageError, InputError
from mismatch.io.web_images import WebImage, fetch_ahead
from mismatch.runtime.bisection import prepare_alone, run_bisected, sample_image
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.engines import Engine
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.long_text import estimated_pieces
from mismatch.runtime.memo import (
    Embedded,
    EmbeddingMemo,
    Hashed,
    Pieces,
    cache_key,
    hashed_image,
    image_digest,
    image_key,
    is_unchanged_image,
    live_image_key,
)
from mismatch.runtime.preprocess import Decoder, ImageSource, Preprocessor
from mismatch.runtime.row_pairs import Pair
from mismatch.runtime.scoring import pool_pieces
from mismatch.runtime.text_tower import TextCounts, TextTower, store_embeddings
from mismatch.runtime.windows import (
    HELD_BYTES,
    HELD_IMAGES,
    HELD_LETTERS,
    WINDOW,
    WindowLimits,
    live_windows,
    windows,
)
from mismatch.specs import LongText

__all__ = [
    "HELD_IMAGES",
    "NO_NUMBER",
    "WINDOW",
    "Embedded",
    "EmbeddingMemo",
    "Engine",
    "Pair",
    "Pipeline",
    "ScoredPair",
    "image_digest",
    "scored_pair",
]

Array = NDArray[np.float32]
# but nan or infinity: its weights are damaged, or it overflowed
NO_NUMBER = "the model gave no number"
LOOK_AHEAD = 4  # batches of decoded images that may wait for the tower


@dataclass(frozen=True)
class ScoredPair:
    """The logit of a pair, or the reason why there is none."""

    logit: float | None
    problem: str | None = None


class Pipeline:
    """Rows in, logits out, in order, over any engine. Thread-safe: each call has its own state."""

    def __init__(
        self,
        engine: Engine,
        *,
        batch_size: int = 16,
        workers: int | None = None,
        long_text: LongText | None = None,
        cache: EmbeddingCache | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """Make a pipeline. `batch_size`: images a tower call, and four times as many texts.
        `workers`: decoding threads, one per CPU by default. `long_text`: what becomes of texts over
        the context, by default what the engine's score says. `cache`: what `score` need not encode,
        and where it leaves what it has encoded, a window at a time. `decoder`: who decodes images
        in place of this process.
        """
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; at least 1 is needed")
        if long_text not in (None, *get_args(LongText)):
            raise InputError(
                f"long_text is {long_text!r}; one of {', '.join(get_args(LongText))} is needed"
            )
        self.engine = engine
        self.cache = cache
        self.batch_size = batch_size
        self.workers = max(1, available_cpus() if workers is None else workers)
        self.preprocess = Preprocessor(engine.image_spec, decoder)
        self.long_text: LongText = long_text or engine.score.long_text
        self._texts = TextTower(
            engine, batch_size=4 * batch_size, long_text=self.long_text, cache=cache
        )
        self.tokenizer = self._texts.tokenizer
        self.totals = TextCounts()  # all calls that have no counts of their own

    def score(
        self,
        pairs: Iterable[Pair],
        *,
        window: int = WINDOW,
        memo: EmbeddingMemo | None = None,
        counts: TextCounts | None = None,
        live: bool = False,
    ) -> Iterator[ScoredPair]:
        """Yield one result a pair, in order; without a logit where it can't be scored.

        Reads `window` pairs ahead; fewer where they carry their images, of which at most
        `HELD_BYTES` encoded or `HELD_IMAGES` decoded ones are held, or where they carry more than
        `HELD_LETTERS` that are scored in pieces. `memo`: what other calls have found out, to which
        this one adds; `counts`: of this call's texts, the totals by default; `live`: score pairs as
        they come.
        """
        memo = EmbeddingMemo.empty() if memo is None else memo
        counts = self.totals if counts is None else counts
        limits = WindowLimits(
            rows=window,
            encoded=HELD_BYTES,
            decoded=max(HELD_IMAGES, self.batch_size),
            letters=math.inf if self.long_text == "truncate" else HELD_LETTERS,
        )
        cut = live_windows if live else windows
        key_of = live_image_key if live else image_key
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mismatch-decode") as pool:
            for rows in cut(pairs, limits):
                keys = [key_of(row.image) for row in rows]
                yield from self._score_window(rows, keys, memo, pool, counts)
                memo.trim()

    def _score_window(
        self,
        rows: list[Pair],
        keys: Sequence[Hashable],
        memo: EmbeddingMemo,
        pool: ThreadPoolExecutor,
        counts: TextCounts,
    ) -> list[ScoredPair]:
        """Score rows whose images are known by `keys`."""
        new_images = {
            key: row.image
            for key, row in zip(keys, rows, strict=True)
            if row.problem is None and key not in memo.images.values
        }
        new_texts = list(
            dict.fromkeys(
                row.text
                for row in rows
                if row.problem is None and row.text not in memo.texts.values
            )
        )
        fetch_ahead([image.store for image in new_images.values() if isinstance(image, WebImage)])
        hashed = self._recall_images(new_images, memo, pool)
        unseen = {key: image for key, image in new_images.items() if key not in memo.images.values}
        decoded = self._decode_ahead(list(unseen.values()), pool)
        # while the first images are being decoded
        self._texts.embed_new(new_texts, memo, counts)
        for key, value in zip(unseen, self._run_image_tower(decoded), strict=True):
            memo.images.add(key, value)
        self._store_images(
            {hashed[key]: memo.images.values[key] for key in unseen if key in hashed}, pool
        )
        return self._join(rows, [memo.images.values.get(key) for key in keys], memo)

    def _recall_images(
        self, images: Mapping[Hashable, ImageSource], memo: EmbeddingMemo, pool: ThreadPoolExecutor
    ) -> dict[Hashable, Hashed]:
        """Note what the cache has of new images; returns the cache's keys, where an image has one:
        not where its file can't be read, which decoding explains, nor of what is decoded already.
        """
        if self.cache is None:
            return {}
        every = zip(images, pool.map(hashed_image, images.values()), strict=True)
        hashed = {key: digest for key, digest in every if digest is not None}
        cached = self.cache.get_many(map(cache_key, hashed.values()), self.engine.image_width)
        for key, digest in hashed.items():
            if cache_key(digest) in cached:
                memo.images.add(key, cached[cache_key(digest)])
        return hashed

    def _store_images(self, fresh: Mapping[Hashed, Embedded], pool: ThreadPoolExecutor) -> None:
        """Hand the cache the embeddings of images, but for those of files that have changed since
        they were hashed: what was decoded may be another picture.
        """
        unchanged = zip(fresh.items(), pool.map(is_unchanged_image, fresh), strict=True)
        store_embeddings(
            self.cache, {cache_key(digest): value for (digest, value), same in unchanged if same}
        )

    def _join(
        self, rows: list[Pair], images: list[Embedded | None], memo: EmbeddingMemo
    ) -> list[ScoredPair]:
        texts = [memo.text(row.text) for row in rows]
        problems = [
            row.problem or _reason([image, *embeddings])
            for row, image, embeddings in zip(rows, images, texts, strict=True)
        ]
        good = [i for i, problem in enumerate(problems) if problem is None]
        logits = iter(self.pair_logits([(images[i], texts[i]) for i in good]))  # type: ignore[misc]
        return [
            ScoredPair(None, problem) if problem is not None else _scored(next(logits))
            for problem in problems
        ]

    def pair_logits(
        self, pairs: Sequence[tuple[Array, Sequence[Array]]]
    ) -> list[float | InputError]:
        """Score embeddings of N images, each with those of the pieces of its text → N logits, or
        why there is none.
        """
        return run_bisected(
            lambda chosen: self.pooled_logits(
                [image for image, _ in chosen], [pieces for _, pieces in chosen]
            ),
            pairs,
            sample=lambda: (
                np.zeros(self.engine.image_width, np.float32),
                [np.zeros(self.engine.text_width, np.float32)],
            ),
            problem=lambda: InputError(
                "the pair can't be scored: the model's head fails on it; change its text or its"
                " image, or drop the row"
            ),
        )

    def logits(self, images: Sequence[Array], texts: Sequence[Array]) -> list[float]:
        """Score embeddings of N pairs → N logits."""
        if not images:
            return []
        return [float(x) for x in self.engine.logits(np.stack(images), np.stack(texts))]

    def pooled_logits(
        self, images: Sequence[Array], texts: Sequence[Sequence[Array]]
    ) -> list[float]:
        """Score embeddings of N images, and of the pieces of each one's text → N logits, pooled as
        `long_text` says.
        """
        counts = [len(pieces) for pieces in texts]
        if all(count == 1 for count in counts):
            return self.logits(images, [piece for [piece] in texts])
        pairs = (
            (image, piece) for image, pieces in zip(images, texts, strict=True) for piece in pieces
        )
        values: list[float] = []
        # a slice at a time: pieces may be many
        for chosen in iter(lambda: list(islice(pairs, WINDOW)), []):
            values += self.logits(*zip(*chosen, strict=True))
        return [float(x) for x in pool_pieces(values, counts, self.long_text)]

    def pieces(
        self, texts: Sequence[str], *, counts: TextCounts | None = None
    ) -> list[Pieces | InputError]:
        """Return what of each text goes through the text tower on its own: all of it, or the pieces
        of a long one where `long_text` asks for them; or why nothing of it can.

        InputError for a text that is empty, or has too many letters to be cut. `counts`: of this
        call; the totals by default.
        """
        return self._texts.pieces(texts, self.totals if counts is None else counts)

    def estimated_pieces(self, text: str) -> int:
        """Return how many passes of the text tower a text takes, about."""
        if self.long_text == "truncate":
            return 1
        return estimated_pieces(text, self.tokenizer.context_length)

    def texts(
        self, texts: Sequence[str], *, progress: Callable[[int], object] | None = None
    ) -> list[Embedded]:
        """Return each text's embedding with its features (text_width,), of its beginning where it
        is long, or why there is none; in order.
        """
        return self._texts.embed(texts, self.totals, progress)

    def piece_embeddings(
        self,
        pieces: Sequence[str],
        *,
        progress: Callable[[int], object] | None = None,
        counts: TextCounts | None = None,
    ) -> list[Embedded]:
        """Embed, as `texts`, what `pieces` gave: equal ones run once, and the long texts that it
        has counted are not counted again.
        """
        unique = list(dict.fromkeys(pieces))
        are_pieces = self.long_text != "truncate"
        embeddings = self._texts.embed(
            unique, self.totals if counts is None else counts, progress, are_pieces=are_pieces
        )
        by_piece = dict(zip(unique, embeddings, strict=True))
        return [by_piece[piece] for piece in pieces]

    def images(
        self, sources: Iterable[ImageSource], *, progress: Callable[[int], object] | None = None
    ) -> Iterator[Embedded]:
        """Yield each source's embedding with its features (image_width,), or why there is none; in
        order, streamed.
        """
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mismatch-decode") as pool:
            for value in self._run_image_tower(self._decode_ahead(sources, pool)):
                if progress is not None:
                    progress(1)
                yield value

    def _decode_ahead(
        self, sources: Iterable[ImageSource], pool: ThreadPoolExecutor
    ) -> Iterator[Array | ImageError]:
        """Return an iterator of pixel values, in order; at most `LOOK_AHEAD` batches wait. The
        first of them start before anybody asks.
        """
        waiting: deque[Future[Array | ImageError]] = deque()
        rest = iter(sources)
        waiting.extend(
            pool.submit(self._decode, source)
            for source in islice(rest, LOOK_AHEAD * self.batch_size)
        )

        def drain() -> Iterator[Array | ImageError]:
            while waiting:
                value = waiting.popleft().result()
                waiting.extend(pool.submit(self._decode, source) for source in islice(rest, 1))
                yield value

        return drain()

    def _decode(self, source: ImageSource) -> Array | ImageError:
        return prepare_alone(self.preprocess, source)

    def image(self, source: ImageSource) -> Embedded:
        """Return one image's embedding with its features (image_width,), or why there is none; no
        thread is started.
        """
        return self.seen(self._decode(source))

    def pixels(self, source: ImageSource) -> Array | ImageError:
        """Return one image's pixel values (3, S, S), or why there are none."""
        return self._decode(source)

    def seen(self, pixels: Array | ImageError) -> Embedded:
        """Return the embedding (image_width,) of what `pixels` gave."""
        [value] = self._run_image_tower(iter([pixels]))
        return value

    def _run_image_tower(self, decoded: Iterator[Array | ImageError]) -> Iterator[Embedded]:
        for batch in iter(lambda: list(islice(decoded, self.batch_size)), []):
            pixels = [value for value in batch if isinstance(value, np.ndarray)]
            embeddings = iter(
                run_bisected(
                    self._encode_images,
                    pixels,
                    sample=lambda: self.preprocess(sample_image()),
                    problem=_no_image_embedding,
                )
            )
            yield from [
                next(embeddings) if isinstance(value, np.ndarray) else value for value in batch
            ]

    def _encode_images(self, pixels: Sequence[Array]) -> list[Array]:
        return list(self.engine.encode_images(np.stack(pixels)))


def _no_image_embedding() -> ImageError:
    return ImageError(
        "the model's image tower fails on the image; replace the file or drop the row"
    )


def scored_pair(logit: float) -> ScoredPair:
    """Return a logit as a result; one that is no number counts as none."""
    return ScoredPair(logit) if math.isfinite(logit) else ScoredPair(None, NO_NUMBER)


def _scored(logit: float | InputError) -> ScoredPair:
    return ScoredPair(None, str(logit)) if isinstance(logit, InputError) else scored_pair(logit)


def _reason(values: Iterable[Embedded | None]) -> str | None:
    """Return the first of the reasons among embeddings; None where there is none."""
    return next((str(value) for value in values if isinstance(value, InputError)), None)
