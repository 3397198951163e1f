"""The one path from rows to logits, for every engine: unique images and texts once, decode on threads, short padding, order kept."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.data.audit import untraced
from mismatch.errors import ImageError, InputError
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.preprocess import ImageSource, Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec, ScoreSpec, TextSpec

__all__ = ["NO_NUMBER", "Engine", "Pair", "Pipeline", "ScoredPair", "scored_pair"]

Array = NDArray[np.float32]
WINDOW = 4096  # rows that are looked at together
HELD_BYTES = 64 * 2**20  # of encoded images handed over as bytes, after which a window ends early
HELD_IMAGES = 64  # decoded images handed over (Pillow's, arrays), after which it does too; a batch if that is more
KEY_BYTES = 16  # of BLAKE2b
NO_NUMBER = "the model gave no number"  # but nan or infinity: its weights are damaged, or it overflowed
MEMO_BYTES = 128 * 2**20  # of embeddings, per tower, that are remembered from window to window
LOOK_AHEAD = 4  # batches of decoded images that may wait for the tower


class Engine(Protocol):
    """Two towers and a head, loaded and ready: what torch and onnxruntime each provide."""

    name: str  # e.g. "onnxruntime cpu"
    image_spec: ImageSpec
    text_spec: TextSpec
    score: ScoreSpec
    image_dim: int
    text_dim: int

    @property
    def fingerprint(self) -> str:
        """Hex; of the towers' weights, specs, engine and precision."""

    def encode_images(self, pixel_values: Array) -> Array:
        """(B, 3, S, S) → (B, image_dim)."""

    def encode_texts(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Array:
        """(B, L), twice → (B, text_dim)."""

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """(B, image_dim), (B, text_dim) → (B,)."""

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


@dataclass
class Memo:
    """Embeddings by key, the oldest dropped beyond `MEMO_BYTES`; failures are remembered too."""

    values: OrderedDict[Hashable, Array | InputError] = field(default_factory=OrderedDict)
    size: int = 0  # bytes

    def add(self, key: Hashable, value: Array | InputError) -> None:
        self.values[key] = value
        self.size += _size(value)

    def trim(self) -> None:
        """Drop the oldest. Called between windows, so that a window always finds its own."""
        while self.size > MEMO_BYTES:
            self.size -= _size(self.values.popitem(last=False)[1])


def _size(value: Array | InputError) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 256


class Pipeline:
    """Rows in, logits out, in order, over any engine. Thread-safe: each call has its own state."""

    def __init__(self, engine: Engine, *, batch_size: int = 16, workers: int | None = None) -> None:
        """`batch_size`: images a tower call, and four times as many texts; `workers`: decoding threads, one per CPU by default."""
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; at least 1 is needed")
        self.engine = engine
        self.batch_size = batch_size
        self.workers = max(1, available_cpus() if workers is None else workers)
        self.preprocess = Preprocessor(engine.image_spec)
        self.tokenizer = Tokenizer(engine.text_spec)
        self.truncated = 0  # texts so far that were longer than the backbone's context and lost their end
        self._lock = threading.Lock()

    def score(self, pairs: Iterable[Pair], *, window: int = WINDOW) -> Iterator[ScoredPair]:
        """One result a pair, in order; a pair that can't be scored says why and gets no logit.

        Reads `window` pairs ahead; fewer where they carry their images, of which at most `HELD_BYTES` encoded or `HELD_IMAGES` decoded ones are held.
        """
        images, texts = Memo(), Memo()
        stream = iter(pairs)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mismatch-decode") as pool:
            while rows := self._window(stream, window):
                yield from self._score_window(rows, images, texts, pool)
                images.trim()
                texts.trim()

    def _window(self, stream: Iterator[Pair], most: int) -> list[Pair]:
        """The next rows: `most`, or as many as may be held."""
        rows: list[Pair] = []
        encoded = decoded = 0
        for pair in islice(stream, most):
            rows.append(pair)
            encoded += len(pair.image) if isinstance(pair.image, bytes) else 0
            decoded += isinstance(pair.image, (Image.Image, np.ndarray))
            if encoded >= HELD_BYTES or decoded >= max(HELD_IMAGES, self.batch_size):
                break
        return rows

    def _score_window(self, rows: list[Pair], images: Memo, texts: Memo, pool: ThreadPoolExecutor) -> list[ScoredPair]:
        usable = [row for row in rows if row.problem is None]
        keys = [_image_key(row.image) for row in rows]
        new_images = {key: row.image for key, row in zip(keys, rows, strict=True) if row.problem is None and key not in images.values}
        new_texts = list(dict.fromkeys(row.text for row in usable if row.text not in texts.values))
        decoded = self._decode_ahead(list(new_images.values()), pool)
        for text, value in zip(new_texts, self.texts(new_texts), strict=True):  # while the first images are being decoded
            texts.add(text, value)
        for key, value in zip(new_images, self._run_image_tower(decoded), strict=True):
            images.add(key, value)
        return self._join(rows, [images.values.get(key) for key in keys], [texts.values.get(row.text) for row in rows])

    def _join(self, rows: list[Pair], images: list[Array | InputError | None], texts: list[Array | InputError | None]) -> list[ScoredPair]:
        problems = [row.problem or _reason(image) or _reason(text) for row, image, text in zip(rows, images, texts, strict=True)]
        good = [i for i, problem in enumerate(problems) if problem is None]
        logits = iter(self.logits([images[i] for i in good], [texts[i] for i in good]))  # type: ignore[misc]
        return [scored_pair(next(logits)) if problem is None else ScoredPair(None, problem) for problem in problems]

    def logits(self, images: Sequence[Array], texts: Sequence[Array]) -> list[float]:
        """Embeddings of N pairs → N logits."""
        if not images:
            return []
        return [float(x) for x in self.engine.logits(np.stack(images), np.stack(texts))]

    def images(self, sources: Sequence[ImageSource], *, progress: Callable[[int], object] | None = None) -> Iterator[Array | InputError]:
        """Each source's embedding (image_dim,), or why there is none; in order, streamed."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="mismatch-decode") as pool:
            for value in self._run_image_tower(self._decode_ahead(sources, pool)):
                if progress is not None:
                    progress(1)
                yield value

    def texts(self, texts: Sequence[str], *, progress: Callable[[int], object] | None = None) -> list[Array | InputError]:
        """Each text's embedding (text_dim,), or why there is none; in order. The tower sees texts of like length together."""
        results: list[Array | InputError] = [InputError("the text is empty")] * len(texts)
        filled = [i for i, text in enumerate(texts) if text.strip()]
        ids, cut = self.tokenizer.encode([texts[i] for i in filled])
        with self._lock:
            self.truncated += sum(cut)
        by_length = sorted(range(len(filled)), key=lambda k: len(ids[k]))
        for chosen in _batches(by_length, 4 * self.batch_size):
            batch = self.tokenizer.pad([ids[k] for k in chosen])
            for k, embedding in zip(chosen, self.engine.encode_texts(batch.input_ids, batch.attention_mask), strict=True):
                results[filled[k]] = embedding
            if progress is not None:
                progress(len(chosen))
        return results

    def _decode_ahead(self, sources: Sequence[ImageSource], pool: ThreadPoolExecutor) -> Iterator[Array | ImageError]:
        """Pixel values in order; at most `LOOK_AHEAD` batches wait. The first of them start before anybody asks."""
        waiting: deque[Future[Array | ImageError]] = deque()
        rest = iter(sources)
        waiting.extend(pool.submit(self._decode, source) for source in islice(rest, LOOK_AHEAD * self.batch_size))

        def drain() -> Iterator[Array | ImageError]:
            while waiting:
                value = waiting.popleft().result()
                waiting.extend(pool.submit(self._decode, source) for source in islice(rest, 1))
                yield value

        return drain()

    def _decode(self, source: ImageSource) -> Array | ImageError:
        try:
            return self.preprocess(source)
        except ImageError as error:
            return untraced(error)

    def _run_image_tower(self, decoded: Iterator[Array | ImageError]) -> Iterator[Array | InputError]:
        for batch in iter(lambda: list(islice(decoded, self.batch_size)), []):
            pixels = [value for value in batch if isinstance(value, np.ndarray)]
            embeddings = iter(self.engine.encode_images(np.stack(pixels)) if pixels else ())
            yield from [next(embeddings) if isinstance(value, np.ndarray) else value for value in batch]


def scored_pair(logit: float) -> ScoredPair:
    """A logit as a result; one that is no number counts as none."""
    return ScoredPair(logit) if math.isfinite(logit) else ScoredPair(None, NO_NUMBER)


def _reason(value: Array | InputError | None) -> str | None:
    return str(value) if isinstance(value, InputError) else None


def _image_key(image: ImageSource) -> Hashable:
    """Paths are compared by value, encoded bytes by hash, so that no key holds them; any other image counts as new (an `id` could be handed out twice)."""
    if isinstance(image, bytes):
        return hashlib.blake2b(image, digest_size=KEY_BYTES).digest()
    return image if isinstance(image, (str, Path)) else object()


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
