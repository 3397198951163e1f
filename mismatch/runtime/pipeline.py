"""The one path from rows to logits, for every engine: unique images and texts once, decode on
threads, short padding, long texts in pieces, order kept.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.errors import ImageError, InputError
from mismatch.remote import Remote
from mismatch.runtime.bisection import prepare_alone, run_bisected, sample_image
from mismatch.runtime.cache import EmbeddingCache, HashedFile, bytes_key, hash_file, text_key
from mismatch.runtime.chunks import cutting_problem, split_each
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.preprocess import Decoder, ImageSource, PreparedImage, Preprocessor
from mismatch.runtime.scoring import pool_pieces
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec, LongText, ScoreSpec, TextSpec

__all__ = [
    "HELD_IMAGES",
    "NO_NUMBER",
    "Engine",
    "Known",
    "Pair",
    "Pipeline",
    "ScoredPair",
    "image_digest",
    "scored_pair",
]

Array = NDArray[np.float32]
WINDOW = 4096  # rows that are looked at together
HELD_BYTES = 64 * 2**20  # of encoded images handed over as bytes, after which a window ends early
# decoded images handed over (Pillow's, arrays), after which it does too; a batch if that is more
HELD_IMAGES = 64
# of texts, after which it does too where long ones go in pieces: 44,000 of Chinese, 90 MB of 512
# numbers each; fewer of English
HELD_LETTERS = 2**20
KEY_BYTES = 16  # of BLAKE2b
# but nan or infinity: its weights are damaged, or it overflowed
NO_NUMBER = "the model gave no number"
ENTRY = 256  # bytes of what is remembered, its key included, beside the numbers
MEMO_BYTES = 128 * 2**20  # of embeddings, per tower, that are remembered from window to window
LOOK_AHEAD = 4  # batches of decoded images that may wait for the tower


class Engine(Protocol):
    """Two towers and a head, loaded and ready: what torch and onnxruntime each provide."""

    name: str  # e.g. "onnxruntime cpu"
    image_spec: ImageSpec
    text_spec: TextSpec
    score: ScoreSpec
    image_dim: int  # of an image embedding
    # of what the head sees of an image: the embedding and, behind it, further features if it takes
    # any
    image_width: int
    text_dim: int
    text_width: int  # likewise of a text
    # whether an embedding never depends on what else is in its batch, not in the last digit either
    independent: bool
    # 1, or, where a text's embedding depends on how long its batch is, the lengths that there are:
    # multiples of this, texts of one together
    length_step: int

    @property
    def fingerprint(self) -> str:
        """Hex; of the towers' weights, specs, engine, precision and the features that the head
        takes.
        """

    def encode_images(self, pixel_values: Array) -> Array:
        """(B, 3, S, S) → (B, image_width)."""

    def encode_texts(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Array:
        """(B, L), twice → (B, text_width)."""

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """(B, image_width), (B, text_width) → (B,)."""

    def describe(self) -> dict[str, Any]:
        """What runs and where, for people and logs."""


@dataclass(frozen=True)
class Pair:
    """An image, a text, and, where the row is known to be unusable, why."""

    image: ImageSource
    text: str
    problem: str | None = None


@dataclass(frozen=True)
class ScoredPair:
    """The logit of a pair, or the reason why there is none."""

    logit: float | None
    problem: str | None = None


Embedded = Array | InputError  # an embedding, or why there is none
Pieces = tuple[str, ...]  # of one text
Hashed = HashedFile | bytes  # an image in the cache: its file as it was hashed, or the key of bytes
V = TypeVar("V", Embedded, Pieces)


@dataclass
class Memo(Generic[V]):
    """What was found out, by key, the oldest dropped beyond `most` bytes; failures are remembered
    too.
    """

    most: int
    values: OrderedDict[Hashable, V] = field(default_factory=OrderedDict)
    size: int = 0  # bytes

    def add(self, key: Hashable, value: V) -> None:
        self.values[key] = value
        self.size += _size(value)

    def trim(self) -> None:
        """Drop the oldest. Called between windows, so that a window always finds its own."""
        while self.size > self.most:
            self.size -= _size(self.values.popitem(last=False)[1])


def _size(value: Embedded | Pieces) -> int:
    """Bytes, about."""
    if isinstance(value, tuple):
        return sum(ENTRY + 2 * len(piece) for piece in value)
    return ENTRY + (value.nbytes if isinstance(value, np.ndarray) else 0)


@dataclass
class Known:
    """What earlier windows of one call have found out."""

    images: Memo[Embedded]
    texts: Memo[Embedded]  # by text, or piece of one
    pieces: Memo[Pieces]  # by text, of long ones

    @classmethod
    def nothing(cls, most: int | None = None) -> Known:
        """Before the first window; `most` bytes of images, as many of texts and of pieces, are
        remembered from window to window (`MEMO_BYTES`).
        """
        limit = MEMO_BYTES if most is None else most
        return cls(Memo(limit), Memo(limit), Memo(limit))

    def image(self, source: ImageSource) -> Embedded | None:
        """What is known of an image: its embedding (image_width,), why there is
        none, or nothing.
        """
        return self.images.values.get(_image_key(source))

    def said(self, text: str) -> list[Embedded | None]:
        """What is known of a text, or of each of its pieces."""
        pieces = self.pieces.values.get(text, (text,))
        return [self.texts.values.get(piece) for piece in pieces]

    def trim(self) -> None:
        for memo in (self.images, self.texts, self.pieces):
            memo.trim()


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
        """`batch_size`: images a tower call, and four times as many texts; `workers`: decoding
        threads, one per CPU by default; `long_text`: what becomes of texts over the context, by
        default what the engine's score says; `cache`: what `score` need not encode, and where it
        leaves what it has encoded, a window at a time; `decoder`: who decodes images in place of
        this process.
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
        self.tokenizer = Tokenizer(engine.text_spec)
        self.long_text: LongText = long_text or engine.score.long_text
        self.long_texts = 0  # texts so far that were longer than the backbone's context
        # texts so far that lost their end: long ones that were not scored in pieces
        self.truncated = 0
        self._lock = threading.Lock()

    def score(
        self, pairs: Iterable[Pair], *, window: int = WINDOW, known: Known | None = None
    ) -> Iterator[ScoredPair]:
        """One result a pair, in order; a pair that can't be scored says why and gets no logit.

        Reads `window` pairs ahead; fewer where they carry their images, of which at most
        `HELD_BYTES` encoded or `HELD_IMAGES` decoded ones are held, or where they carry more than
        `HELD_LETTERS` that are scored in pieces. `known`: what other calls have found out, to which
        this one adds.
        """
        known = Known.nothing() if known is None else known
        stream = iter(pairs)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mismatch-decode") as pool:
            while rows := self._window(stream, window):
                yield from self._score_window(rows, known, pool)
                known.trim()

    def _window(self, stream: Iterator[Pair], most: int) -> list[Pair]:
        """The next rows: `most`, or as many as may be held."""
        rows: list[Pair] = []
        encoded = decoded = letters = 0
        held_letters = math.inf if self.long_text == "truncate" else HELD_LETTERS
        for pair in islice(stream, most):
            rows.append(pair)
            letters += len(pair.text)
            encoded += len(pair.image) if isinstance(pair.image, bytes) else 0
            decoded += isinstance(pair.image, (Image.Image, np.ndarray, PreparedImage))
            if (
                encoded >= HELD_BYTES
                or decoded >= max(HELD_IMAGES, self.batch_size)
                or letters >= held_letters
            ):
                break
        return rows

    def _score_window(
        self, rows: list[Pair], known: Known, pool: ThreadPoolExecutor
    ) -> list[ScoredPair]:
        usable = [row for row in rows if row.problem is None]
        keys = [_image_key(row.image) for row in rows]
        new_images = {
            key: row.image
            for key, row in zip(keys, rows, strict=True)
            if row.problem is None and key not in known.images.values
        }
        new_texts = list(
            dict.fromkeys(row.text for row in usable if row.text not in known.texts.values)
        )
        hashed = self._recall_images(new_images, known, pool)
        unseen = {key: image for key, image in new_images.items() if key not in known.images.values}
        decoded = self._decode_ahead(list(unseen.values()), pool)
        self._embed_texts(new_texts, known)  # while the first images are being decoded
        for key, value in zip(unseen, self._run_image_tower(decoded), strict=True):
            known.images.add(key, value)
        self._store_images(
            {hashed[key]: known.images.values[key] for key in unseen if key in hashed}, pool
        )
        return self._join(rows, [known.images.values.get(key) for key in keys], known)

    def _recall_images(
        self, images: Mapping[Hashable, ImageSource], known: Known, pool: ThreadPoolExecutor
    ) -> dict[Hashable, Hashed]:
        """Note what the cache has of new images; returns the cache's keys, where an image has one:
        not where its file can't be read, which decoding explains, nor of what is decoded already.
        """
        if self.cache is None:
            return {}
        every = zip(images, pool.map(_hashed, images.values()), strict=True)
        hashed = {key: one for key, one in every if one is not None}
        found = self.cache.get_many(map(_cache_key, hashed.values()), self.engine.image_width)
        for key, one in hashed.items():
            if _cache_key(one) in found:
                known.images.add(key, found[_cache_key(one)])
        return hashed

    def _store_images(self, fresh: Mapping[Hashed, Embedded], pool: ThreadPoolExecutor) -> None:
        """Hand the cache the embeddings of images, but for those of files that have changed since
        they were hashed: what was decoded may be another picture.
        """
        unchanged = zip(fresh.items(), pool.map(_is_unchanged, fresh), strict=True)
        self._store({_cache_key(one): value for (one, value), same in unchanged if same})

    def _store(self, fresh: Mapping[bytes, Embedded]) -> None:
        """Hand the cache what has been encoded; failures are none of its."""
        if self.cache is not None:
            self.cache.put_many(
                {
                    key: value
                    for key, value in fresh.items()
                    if isinstance(value, np.ndarray) and np.isfinite(value).all()
                }
            )

    def _embed_texts(self, texts: list[str], known: Known) -> None:
        """Embed texts that are new, long ones in pieces; what they share runs once."""
        if self.long_text == "truncate":
            for text, value in zip(
                texts,
                self._text_embeddings(texts, None, long=True, tower=self._recall_texts),
                strict=True,
            ):
                known.texts.add(text, value)
            return
        unseen = [text for text in texts if text not in known.pieces.values]
        fitting = self._split(unseen, known)
        parts = (part for text in texts for part in known.pieces.values.get(text, ()))
        pieces = list(
            dict.fromkeys(
                part for part in parts if part not in known.texts.values and part not in fitting
            )
        )
        for piece, encoded in zip(pieces, self.tokenizer.encode_each(pieces), strict=True):
            if isinstance(encoded, InputError):
                known.texts.add(piece, encoded)
            else:
                fitting[piece] = encoded.ids
                self._count(truncated=int(encoded.cut))  # a letter that is longer than the context
        embeddings = self._recall_texts(list(fitting), list(fitting.values()))
        for text, embedding in zip(fitting, embeddings, strict=True):
            known.texts.add(text, embedding)

    def _recall_texts(self, texts: Sequence[str], ids: Sequence[list[int]]) -> list[Embedded]:
        """Each text's embedding, in order: the cache's, else the tower's."""
        if self.cache is None:
            return self._run_text_tower(ids)
        keys = [text_key(text) for text in texts]
        found = self.cache.get_many(keys, self.engine.text_width)
        unseen = [i for i, key in enumerate(keys) if key not in found]
        fresh = {
            keys[i]: value
            for i, value in zip(unseen, self._run_text_tower([ids[i] for i in unseen]), strict=True)
        }
        self._store(fresh)
        return [found[key] if key in found else fresh[key] for key in keys]

    def _split(self, texts: list[str], known: Known) -> dict[str, list[int]]:
        """The ids of the texts that fit; for the others, their pieces are noted."""
        problems = {text: cutting_problem(text) for text in texts}
        for text, problem in problems.items():
            if problem is not None:
                known.texts.add(text, InputError(problem))
        usable = [text for text, problem in problems.items() if problem is None]
        fitting = dict[str, list[int]]()
        too_long = list[str]()
        for text, encoded in zip(usable, self.tokenizer.encode_each(usable), strict=True):
            if isinstance(encoded, InputError):
                known.texts.add(text, encoded)
            elif encoded.cut:
                too_long.append(text)
            else:
                fitting[text] = encoded.ids
        self._count(long_texts=len(too_long))
        for text, pieces in zip(too_long, split_each(too_long, self.tokenizer), strict=True):
            if isinstance(pieces, InputError):
                known.texts.add(text, pieces)
            else:
                known.pieces.add(text, pieces)
        return fitting

    def _join(
        self, rows: list[Pair], images: list[Embedded | None], known: Known
    ) -> list[ScoredPair]:
        texts = [known.said(row.text) for row in rows]
        problems = [
            row.problem or _reason([image, *said])
            for row, image, said in zip(rows, images, texts, strict=True)
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
        """Embeddings of N images, each with those of the pieces of its text → N logits, or why
        there is none.
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
        """Embeddings of N pairs → N logits."""
        if not images:
            return []
        return [float(x) for x in self.engine.logits(np.stack(images), np.stack(texts))]

    def pooled_logits(
        self, images: Sequence[Array], texts: Sequence[Sequence[Array]]
    ) -> list[float]:
        """Embeddings of N images, and of the pieces of each one's text → N logits, pooled as
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

    def pieces(self, texts: Sequence[str]) -> list[Pieces | InputError]:
        """What of each text goes through the text tower on its own: all of it, or the pieces of a
        long one where `long_text` asks for them; or why nothing of it can.

        InputError for a text that is empty, or has too many letters to be cut.
        """
        if self.long_text == "truncate":
            return [(text,) for text in texts]
        problems = {
            text: problem for text in texts if (problem := cutting_problem(text)) is not None
        }
        usable = [text for text in texts if text not in problems]
        encoded = dict(zip(usable, self.tokenizer.encode_each(usable), strict=True))
        long = [
            text for text, one in encoded.items() if not isinstance(one, InputError) and one.cut
        ]
        self._count(long_texts=len(long))
        found: dict[str, Pieces | InputError] = {
            text: InputError(problem) for text, problem in problems.items()
        }
        found |= {
            text: one if isinstance(one, InputError) else (text,) for text, one in encoded.items()
        }
        found |= zip(long, split_each(long, self.tokenizer), strict=True)
        return [found[text] for text in texts]

    def _count(self, *, long_texts: int = 0, truncated: int = 0) -> None:
        with self._lock:
            self.long_texts += long_texts
            self.truncated += truncated

    def images(
        self, sources: Sequence[ImageSource], *, progress: Callable[[int], object] | None = None
    ) -> Iterator[Embedded]:
        """Each source's embedding with its features (image_width,), or why there is none; in order,
        streamed.
        """
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mismatch-decode") as pool:
            for value in self._run_image_tower(self._decode_ahead(sources, pool)):
                if progress is not None:
                    progress(1)
                yield value

    def texts(
        self, texts: Sequence[str], *, progress: Callable[[int], object] | None = None
    ) -> list[Embedded]:
        """Each text's embedding with its features (text_width,), of its beginning where it is long,
        or why there is none; in order.
        """
        return self._text_embeddings(texts, progress, long=True)

    def piece_embeddings(
        self, pieces: Sequence[str], *, progress: Callable[[int], object] | None = None
    ) -> list[Embedded]:
        """As `texts`, of what `pieces` gave: equal ones run once, and the long texts that it has
        counted are not counted again.
        """
        unique = list(dict.fromkeys(pieces))
        found = dict(
            zip(
                unique,
                self._text_embeddings(unique, progress, long=self.long_text == "truncate"),
                strict=True,
            )
        )
        return [found[piece] for piece in pieces]

    def _text_embeddings(
        self,
        texts: Sequence[str],
        progress: Callable[[int], object] | None,
        *,
        long: bool,
        tower: Callable[[Sequence[str], Sequence[list[int]]], list[Embedded]] | None = None,
    ) -> list[Embedded]:
        """`long`: whether those over the context count as long texts, they lose their end in any
        case; `tower`: of texts and their ids.
        """
        results: list[Any] = [None] * len(texts)
        usable = list[int]()
        ids = list[list[int]]()
        cut = 0
        for i, encoded in enumerate(self.tokenizer.encode_each(texts)):
            if isinstance(encoded, InputError):
                results[i] = encoded
            else:
                usable.append(i)
                ids.append(encoded.ids)
                cut += encoded.cut
        self._count(long_texts=cut if long else 0, truncated=cut)
        if progress is not None and len(usable) < len(texts):
            progress(len(texts) - len(usable))
        embeddings = (
            self._run_text_tower(ids, progress)
            if tower is None
            else tower([texts[i] for i in usable], ids)
        )
        for i, embedding in zip(usable, embeddings, strict=True):
            results[i] = embedding
        return results

    def _run_text_tower(
        self, ids: Sequence[list[int]], progress: Callable[[int], object] | None = None
    ) -> list[Embedded]:
        """Each text's embedding, in order, or why there is none; the tower sees texts of like
        length together.
        """
        results: list[Any] = [None] * len(ids)
        for chosen in self._of_like_length(ids):
            embeddings = run_bisected(
                self._encode_texts,
                [ids[k] for k in chosen],
                sample=self._sample_ids,
                problem=_no_text_embedding,
            )
            for k, embedding in zip(chosen, embeddings, strict=True):
                results[k] = embedding
            if progress is not None:
                progress(len(chosen))
        return results

    def _encode_texts(self, ids: Sequence[list[int]]) -> list[Array]:
        batch = self.tokenizer.pad(ids, step=self.engine.length_step)
        return list(self.engine.encode_texts(batch.input_ids, batch.attention_mask))

    def _sample_ids(self) -> list[int]:
        [ids], _ = self.tokenizer.encode(["a"])
        return ids

    def _of_like_length(self, ids: Sequence[list[int]]) -> Iterator[list[int]]:
        """Positions in batches; with a `length_step`, all of a batch become equally long, so that
        no text depends on its neighbours.
        """
        by_length = sorted(range(len(ids)), key=lambda k: len(ids[k]))
        step = self.engine.length_step
        if step == 1 or self.tokenizer.spec.padding == "context":
            yield from _batches(by_length, 4 * self.batch_size)
            return
        for _, group in groupby(by_length, key=lambda k: self.tokenizer.padded(len(ids[k]), step)):
            yield from _batches(list(group), 4 * self.batch_size)

    def _decode_ahead(
        self, sources: Sequence[ImageSource], pool: ThreadPoolExecutor
    ) -> Iterator[Array | ImageError]:
        """Pixel values in order; at most `LOOK_AHEAD` batches wait. The first of them start before
        anybody asks.
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
        """One image's embedding with its features (image_width,), or why there is none; no thread
        is started.
        """
        return self.seen(self._decode(source))

    def pixels(self, source: ImageSource) -> Array | ImageError:
        """One image's pixel values (3, S, S), or why there are none."""
        return self._decode(source)

    def seen(self, pixels: Array | ImageError) -> Embedded:
        """The embedding (image_width,) of what `pixels` gave."""
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


def _no_text_embedding() -> InputError:
    return InputError("the model's text tower fails on the text; change it, or drop the row")


def scored_pair(logit: float) -> ScoredPair:
    """A logit as a result; one that is no number counts as none."""
    return ScoredPair(logit) if math.isfinite(logit) else ScoredPair(None, NO_NUMBER)


def _scored(logit: float | InputError) -> ScoredPair:
    return ScoredPair(None, str(logit)) if isinstance(logit, InputError) else scored_pair(logit)


def _reason(values: Iterable[Embedded | None]) -> str | None:
    """The first of the reasons among embeddings."""
    return next((str(value) for value in values if isinstance(value, InputError)), None)


def image_digest(data: bytes) -> bytes:
    """By which an image's bytes are known within a process."""
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()


def _image_key(image: ImageSource) -> Hashable:
    """Paths are compared by value, encoded bytes by hash, so that no key holds them; any other
    image counts as new (an `id` could be handed out twice).
    """
    if isinstance(image, bytes):
        return image_digest(image)
    if isinstance(image, PreparedImage):
        return image.digest
    return image if isinstance(image, (str, Path, Remote)) else object()


def _hashed(image: ImageSource) -> Hashed | None:
    """The cache's key of an image, with its file's version; none of one that can't be read or has
    no bytes of its own.
    """
    if isinstance(image, bytes):
        return bytes_key(image)
    found = hash_file(image) if isinstance(image, (str, Path, Remote)) else None
    return found if isinstance(found, HashedFile) else None


def _cache_key(image: Hashed) -> bytes:
    return image.key if isinstance(image, HashedFile) else image


def _is_unchanged(image: Hashed) -> bool:
    return not isinstance(image, HashedFile) or image.is_unchanged()


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
