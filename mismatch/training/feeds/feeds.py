"""Feeds: from a batch's rows to its embeddings, stored ones or those of the towers."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.errors import ImageError
from mismatch.io.remote import Remote
from mismatch.runtime.bisection import prepare_alone
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec
from mismatch.training.detector import Detector
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import Batch, Indices, PairSet

__all__ = [
    "STORE_BYTES",
    "TEXTS",
    "EmbeddingFeed",
    "Feed",
    "PixelFeed",
    "PixelStore",
    "ProcessShare",
    "S",
    "T",
    "Tensors",
    "TowerPart",
    "ahead",
]

TEXTS = 4096  # tokenized at a time
STORE_BYTES = 2**30  # of preprocessed images that are kept in memory between epochs
T = TypeVar("T")
S = TypeVar("S")
Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class TowerPart:
    """Some of a batch's unique images, or of its unique pieces of texts, that go through their
    tower together. Of m inputs, n or n + 1, the last one may serve to keep the processes in step
    alone.
    """

    is_image: bool
    places: Indices  # (n,) into Batch.images or Batch.pieces
    inputs: Tensors  # pixel_values (m, 3, S, S); input_ids and attention_mask (m, L)


class Feed(Protocol):
    """A set of pairs that can be embedded batch by batch."""

    pairs: PairSet

    def stream(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Any]]:
        """Yield each batch with what `parts` needs for this process's share of it. It gets ready
        ahead of time where that takes time.
        """

    def embeddings_of(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Return embeddings of a batch's unique images (U', image_width) and unique pieces of texts
        (W', text_width), where they need no tower.
        """

    def parts(self, inputs: Any, count: int) -> list[TowerPart]:
        """Return images and texts of this process's share, in at most `count` parts each and in as
        many in every process. There are none where the embeddings are known.
        """

    def embed(self, detector: Detector, part: TowerPart) -> Tensor:
        """Return embeddings of a part (n, image_width) or (n, text_width)."""

    def embed_all(self, detector: Detector, size: int) -> tuple[Tensor, Tensor]:
        """Return embeddings of all unique images (U, image_width) and pieces of texts (W,
        text_width), `size` at a time.
        """


class EmbeddingFeed:
    """Pairs whose embeddings are known already: the backbone is frozen."""

    def __init__(self, pairs: PairSet, images: Tensor, pieces: Tensor) -> None:
        """Take `images` (U, image_width), `pieces` (W, text_width), on the device to train on."""
        self.pairs = pairs
        self.images = images
        self.pieces = pieces

    def stream(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, None]]:
        return ((batch, None) for batch in batches)

    def embeddings_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return (
            self.images[torch.from_numpy(batch.images)],
            self.pieces[torch.from_numpy(batch.pieces)],
        )

    def parts(self, inputs: None, count: int) -> list[TowerPart]:
        return []

    def embed(self, detector: Detector, part: TowerPart) -> Tensor:
        raise NotImplementedError("there are no parts")

    def embed_all(self, detector: Detector, size: int) -> tuple[Tensor, Tensor]:
        return self.images, self.pieces


@dataclass(frozen=True)
class ProcessShare:
    """What one process embeds of a batch, even shares of which the last item may be another
    process's.
    """

    image_places: Indices  # (u,) into Batch.images, its own
    pixel_values: Tensor  # (u or u + 1, 3, S, S)
    piece_places: Indices  # (w,) into Batch.pieces, its own, short ones first
    pieces: Indices  # (w or w + 1,) into PairSet.pieces


class PixelFeed:
    """Pairs that are decoded on threads, tokenized once and encoded again in each epoch."""

    def __init__(
        self,
        pairs: PairSet,
        store: PixelStore,
        tokenizer: Tokenizer,
        workers: int,
        processes: Processes,
    ) -> None:
        self.pairs = pairs
        self.store = store
        self.tokenizer = tokenizer
        self.workers = workers
        self.processes = processes
        self.device = processes.device
        self.ids, self.lengths = _tokenized(pairs.pieces, tokenizer, processes)
        self.ends = np.cumsum(self.lengths)  # (W,) in `ids`

    def stream(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, ProcessShare]]:
        return ahead(lambda batch: (batch, self._share(batch)), batches, self.workers)

    def embeddings_of(self, batch: Batch) -> None:
        return None

    def parts(self, inputs: ProcessShare, count: int) -> list[TowerPart]:
        images = [
            TowerPart(True, inputs.image_places[chosen], (inputs.pixel_values[chosen],))
            for chosen in _split(len(inputs.pixel_values), count)
        ]
        chosen_pieces = _split(len(inputs.pieces), count)
        return images + [
            TowerPart(False, inputs.piece_places[chosen], self._tokens(inputs.pieces[chosen]))
            for chosen in chosen_pieces
        ]

    def embed(self, detector: Detector, part: TowerPart) -> Tensor:
        inputs = (tensor.to(self.device, non_blocking=True) for tensor in part.inputs)
        return (detector.encode_image(*inputs) if part.is_image else detector.encode_text(*inputs))[
            : len(part.places)
        ]

    def embed_all(self, detector: Detector, size: int) -> tuple[Tensor, Tensor]:
        images = np.arange(len(self.pairs.images))
        by_length = self._by_length(np.arange(len(self.lengths)))
        seen = ahead(
            lambda part: (part[0], self._pixels(part[1])), self._slices(images, size), self.workers
        )
        tokenized = (
            (chosen, self._tokens(even)) for chosen, even in self._slices(by_length, 4 * size)
        )
        image_rows = [
            (chosen, detector.encode_image(pixel_values.to(self.device))[: len(chosen)])
            for chosen, pixel_values in seen
        ]
        piece_rows = [
            (
                chosen,
                detector.encode_text(*(tensor.to(self.device) for tensor in tokens))[: len(chosen)],
            )
            for chosen, tokens in tokenized
        ]
        return self.processes.assemble(len(images), image_rows), self.processes.assemble(
            len(self.lengths), piece_rows
        )

    def _share(self, batch: Batch) -> ProcessShare:
        images = len(batch.images)
        by_length = self._by_length(batch.pieces)
        pixel_values = self._pixels(batch.images[self.processes.even_share(images)])
        pixel_values = pixel_values.pin_memory() if self.device.type == "cuda" else pixel_values
        pieces = batch.pieces[by_length[self.processes.even_share(len(by_length))]]
        return ProcessShare(
            self.processes.share(images),
            pixel_values,
            by_length[self.processes.share(len(by_length))],
            pieces,
        )

    def _slices(self, items: Indices, size: int) -> Iterator[tuple[Indices, Indices]]:
        """Yield the process's share, `size` at a time: its own items, and those with one more that
        keep the processes in step. There are as many slices in every process.
        """
        share = items[self.processes.share(len(items))]
        even = items[self.processes.even_share(len(items))]
        for start in range(0, len(even), size):
            yield share[start : start + size], even[start : start + size]

    def _by_length(self, pieces: Indices) -> Indices:
        """Map (W,) pieces → their places, short ones first."""
        return np.argsort(self.lengths[pieces], kind="stable")

    def _pixels(self, images: Indices) -> Tensor:
        """Return pixel values, (B, 3, S, S)."""
        return torch.from_numpy(self.store.load(self.pairs, images))

    def _tokens(self, pieces: Indices) -> Tensors:
        """Return ids and mask, (B, L), twice; L is the longest in the batch where the tower allows
        it.
        """
        batch = self.tokenizer.pad(
            [
                self.ids[end - length : end].tolist()
                for end, length in zip(self.ends[pieces], self.lengths[pieces], strict=True)
            ]
        )
        return torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)


def _tokenized(
    pieces: Sequence[str], tokenizer: Tokenizer, processes: Processes
) -> tuple[NDArray[np.int32], Indices]:
    """Map W pieces, of which each process takes its part → the ids of all, piece after piece (T,),
    and how many each piece has (W,).
    """
    share = pieces[processes.part(len(pieces))]
    ids = array("i")
    lengths = array("q")

    def encode() -> None:
        for start in range(0, len(share), TEXTS):
            for tokens in tokenizer.encode(list(share[start : start + TEXTS]))[0]:
                ids.extend(tokens)
                lengths.append(len(tokens))

    processes.each(encode)
    return np.concatenate(processes.gather(np.array(ids, np.int32))), np.concatenate(
        processes.gather(np.array(lengths, np.int64))
    )


def _split(size: int, count: int) -> list[slice]:
    """Split `size` items into at most `count` runs, none of them empty."""
    return [
        slice(run[0], run[-1] + 1) for run in np.array_split(np.arange(size), count) if len(run)
    ]


class PixelStore:
    """Images resized to what the tower sees, kept in memory as 8-bit RGB while they fit; shared by
    training and validation, and by threads.
    """

    def __init__(self, spec: ImageSpec, limit: int = STORE_BYTES) -> None:
        self.size = spec.size
        self.picture = Preprocessor(spec).picture
        # a stored image is resized already: there is nothing left to resize or crop
        self.normalise = Preprocessor(replace(spec, mode="shortest", resize=0))
        self.room = limit  # bytes left
        self.resized: dict[Path | Remote, NDArray[np.uint8]] = {}

    def load(self, pairs: PairSet, images: Indices) -> NDArray[np.float32]:
        """Return pixel values (B, 3, S, S) of images by their place in `pairs`; ImageError with
        file and line for one that can't be used.
        """
        pixel_values = np.empty((len(images), 3, self.size, self.size), np.float32)
        for out, image in zip(pixel_values, images, strict=True):
            self.normalise(self._resized(pairs, int(image)), out=out)
        return pixel_values

    def _resized(self, pairs: PairSet, image: int) -> NDArray[np.uint8]:
        """Return an image resized, (S, S, 3)."""
        path = pairs.images[image]
        if (stored := self.resized.get(path)) is not None:
            return stored
        picture = prepare_alone(self.picture, path)
        if isinstance(picture, ImageError):
            raise pairs.image_error(image, picture)
        pixels = np.asarray(picture)
        if pixels.nbytes <= self.room:
            self.room -= pixels.nbytes
            self.resized[path] = pixels
        return pixels


def ahead(work: Callable[[S], T], items: Iterable[S], workers: int) -> Generator[T]:
    """Yield `work` of each item, in order, done on threads while the caller is busy; at most
    workers + 1 results wait. For 0 workers it is done in the caller's thread.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mismatch-train")
    try:
        with closing(_drain(work, items, pool, workers + 1)) as results:
            yield from results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _drain(
    work: Callable[[S], T], items: Iterable[S], pool: ThreadPoolExecutor, depth: int
) -> Generator[T]:
    waiting: deque[Future[T]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
