"""Rows as arrays, batches in an order that seed and epoch decide, and the two feeds that turn a
batch into embeddings.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.data.pairs import Row, place, resolve_image
from mismatch.data.strings import Stored
from mismatch.errors import ImageError, InputError
from mismatch.runtime.bisection import prepare_alone
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import Tokenizer
from mismatch.specs import ImageSpec
from mismatch.training.detector import Detector
from mismatch.training.distributed.processes import Processes

__all__ = [
    "Batch",
    "EmbeddingFeed",
    "Feed",
    "PairSet",
    "Part",
    "PixelFeed",
    "PixelStore",
    "file_finder",
    "first_seen",
    "hold_out",
    "make_batches",
    "same_files",
]

Indices = NDArray[np.int64]
TEXTS = 4096  # tokenized at a time
STORE_BYTES = 2**30  # of preprocessed images that are kept in memory between epochs
T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class PairSet:
    """Rows as indices into their unique images and unique texts, and the texts as pieces that the
    text tower sees: one each, unless long ones are cut.
    """

    csv_file: str
    images: Sequence[Path]  # U unique ones
    texts: Sequence[str]  # V unique ones
    lines: Indices  # (U,) of the first row that names each image
    image_of: Indices  # (N,) in 0..U
    text_of: Indices  # (N,) in 0..V
    labels: NDArray[np.float32]  # (N,) 0 or 1
    pieces: Sequence[str]  # W unique ones
    piece_of: Indices  # (P,) in 0..W, text after text
    starts: Indices  # (V + 1,) in 0..P, where each text's pieces begin

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_rows(cls, csv_file: str, rows: Sequence[Row], image_base_path: str) -> PairSet:
        """Rows that `load_pairs` has checked."""
        files = same_files((row.image_path for row in rows), image_base_path)
        first: dict[str, Row] = {}  # file → its first row
        for row in rows:
            first.setdefault(files[row.image_path], row)
        texts = list(dict.fromkeys(row.text for row in rows))
        image_at = {file: i for i, file in enumerate(first)}
        text_at = {text: i for i, text in enumerate(texts)}
        return cls(
            csv_file=csv_file,
            images=[resolve_image(image_base_path, row.image_path) for row in first.values()],
            texts=texts,
            lines=np.array([row.line for row in first.values()], np.int64),
            image_of=np.array([image_at[files[row.image_path]] for row in rows], np.int64),
            text_of=np.array([text_at[row.text] for row in rows], np.int64),
            labels=np.array([row.label for row in rows], np.float32),
            pieces=texts,
            piece_of=np.arange(len(texts)),
            starts=np.arange(len(texts) + 1),
        )

    def of_images(self, chosen: NDArray[np.bool_]) -> PairSet:
        """The rows of these images, (U,), as a set of their own. No text is cut yet."""
        rows = chosen[self.image_of]  # (N,)
        images, (first, text_of) = np.flatnonzero(chosen), first_seen(self.text_of[rows])
        texts = _take(self.texts, self.text_of[rows][first])
        return PairSet(
            csv_file=self.csv_file,
            images=_take(self.images, images),
            texts=texts,
            lines=self.lines[images],
            image_of=(np.cumsum(chosen) - 1)[self.image_of[rows]],
            text_of=text_of,
            labels=self.labels[rows],
            pieces=texts,
            piece_of=np.arange(len(texts)),
            starts=np.arange(len(texts) + 1),
        )

    def cut(self, pieces_of: Mapping[str, Sequence[str]]) -> PairSet:
        """The same rows, with these texts in pieces."""
        parts = [pieces_of.get(text, (text,)) for text in self.texts]
        at: dict[str, int] = {}
        piece_of = [at.setdefault(piece, len(at)) for pieces in parts for piece in pieces]
        starts = np.cumsum([0, *map(len, parts)])
        return replace(self, pieces=list(at), piece_of=np.array(piece_of, np.int64), starts=starts)

    def row_pieces(self, rows: Indices) -> tuple[Indices, Indices]:
        """B rows → of each of their M pieces its place in `pieces` (M,), and whose it is, in 0..B
        (M,), row after row.
        """
        # (B,)
        first = self.starts[self.text_of[rows]]
        counts = np.diff(self.starts)[self.text_of[rows]]
        row_of = np.repeat(np.arange(len(rows)), counts)  # (M,)
        # (M,) of a piece in its text
        place = np.arange(len(row_of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.piece_of[first[row_of] + place], row_of

    def row_slices(self, most: int) -> Iterator[Indices]:
        """All rows in order, as many at a time as have at most `most` pieces together; a row that
        has more stands alone.
        """
        ends = np.cumsum(np.diff(self.starts)[self.text_of])  # (N,) pieces up to and with each row
        first = 0
        while first < len(self):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
            yield np.arange(first, last)
            first = last

    def image_error(self, image: int, error: Exception) -> ImageError:
        """What is wrong with an image, with the file and line that name it."""
        kind = type(error) if isinstance(error, ImageError) else ImageError
        return kind(f"{place(self.csv_file, self.lines[image])}: {error}")


def first_seen(values: NDArray[Any]) -> tuple[Indices, Indices]:
    """N values → where each different one first stands, in that order (U,), and which of those each
    value is (N,) in 0..U.
    """
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[which]


def _take(items: Sequence[T], chosen: Indices) -> Sequence[T]:
    return items.take(chosen) if isinstance(items, Stored) else [items[i] for i in chosen]


def same_files(image_paths: Iterable[str], image_base_path: str) -> dict[str, str]:
    """Each spelling → the file that it means: `a.jpg`, `./a.jpg` and a link to it are one image."""
    file = file_finder(image_base_path)
    return {spelling: file(spelling) for spelling in dict.fromkeys(image_paths)}


def file_finder(image_base_path: str) -> Callable[[str], str]:
    """What tells the file that a spelling means. Looks a folder up once, as there are few."""
    real = cache(os.path.realpath)

    def file(spelling: str) -> str:
        folder, name = os.path.split(resolve_image(image_base_path, spelling))
        path = os.path.join(real(folder), name)
        return real(path) if name == ".." or os.path.islink(path) else path

    return file


def hold_out(pairs: PairSet, fraction: float, seed: int) -> tuple[PairSet, PairSet]:
    """Rows to train on and rows to validate on, which share no image; `fraction` of the images, at
    least one, is held out.
    """
    images = len(pairs.images)
    if images < 2:
        raise InputError(
            f"{images} image is too few to hold some out for validation; pass `val_csv`, or"
            " `val_fraction=0`"
        )
    held = np.zeros(images, np.bool_)
    held[
        np.random.default_rng(seed).choice(
            images, min(max(1, round(fraction * images)), images - 1), replace=False
        )
    ] = True
    return pairs.of_images(~held), pairs.of_images(held)


@dataclass(frozen=True)
class Batch:
    """B rows over their unique images and their texts' unique pieces; M pieces row by row, as many
    as rows where no text is cut.
    """

    images: Indices  # (U',) into PairSet.images
    pieces: Indices  # (W',) into PairSet.pieces
    image_of: Tensor  # (B,) into images
    text_of: Tensor  # (B,) into PairSet.texts: which rows say the same
    piece_of: Tensor  # (M,) into pieces, row after row
    row_of: Tensor  # (M,) in 0..B
    labels: Tensor  # (B,) float32

    def __len__(self) -> int:
        return len(self.labels)


def make_batches(
    pairs: PairSet, size: int, seed: int, epoch: int, *, skip: int = 0
) -> Iterator[Batch]:
    """Every row once, in an order that is a function of seed and epoch; without the first `skip`
    batches.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(pairs))
    for start in range(skip * size, len(pairs), size):
        rows = order[start : start + size]
        images, image_of = np.unique(pairs.image_of[rows], return_inverse=True)
        row_pieces, row_of = pairs.row_pieces(rows)
        pieces, piece_of = np.unique(row_pieces, return_inverse=True)
        yield Batch(
            images,
            pieces,
            *map(
                torch.from_numpy,
                (image_of, pairs.text_of[rows], piece_of, row_of, pairs.labels[rows]),
            ),
        )


Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Part:
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
        """Each batch with what `parts` needs for this process's share of it; gets ready ahead of
        time where that takes time.
        """

    def known(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Embeddings of a batch's unique images (U', image_width) and unique pieces of texts (W',
        text_width), where they need no tower.
        """

    def parts(self, inputs: Any, count: int) -> list[Part]:
        """Images and texts of this process's share, in at most `count` parts each and in as many in
        every process; none where the embeddings are known.
        """

    def embed(self, detector: Detector, part: Part) -> Tensor:
        """Embeddings of a part (n, image_width) or (n, text_width)."""

    def embed_all(self, detector: Detector, size: int) -> tuple[Tensor, Tensor]:
        """Embeddings of all unique images (U, image_width) and pieces of texts (W, text_width),
        `size` at a time.
        """


class EmbeddingFeed:
    """Pairs whose embeddings are known already: the backbone is frozen."""

    def __init__(self, pairs: PairSet, images: Tensor, pieces: Tensor) -> None:
        """`images`: (U, image_width), `pieces`: (W, text_width), on the device to train on."""
        self.pairs = pairs
        self.images = images
        self.pieces = pieces

    def stream(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, None]]:
        return ((batch, None) for batch in batches)

    def known(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return (
            self.images[torch.from_numpy(batch.images)],
            self.pieces[torch.from_numpy(batch.pieces)],
        )

    def parts(self, inputs: None, count: int) -> list[Part]:
        return []

    def embed(self, detector: Detector, part: Part) -> Tensor:
        raise NotImplementedError("there are no parts")

    def embed_all(self, detector: Detector, size: int) -> tuple[Tensor, Tensor]:
        return self.images, self.pieces


@dataclass(frozen=True)
class Share:
    """What one process embeds of a batch, even shares of which the last item may be another
    process's.
    """

    image_places: Indices  # (u,) into Batch.images, its own
    pixel_values: Tensor  # (u or u + 1, 3, S, S)
    piece_places: Indices  # (w,) into Batch.pieces, its own, short ones first
    pieces: Indices  # (w or w + 1,) into PairSet.pieces


class PixelFeed:
    """Pairs that are decoded on threads, tokenized once and encoded anew in each epoch."""

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

    def stream(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Share]]:
        return ahead(lambda batch: (batch, self._share(batch)), batches, self.workers)

    def known(self, batch: Batch) -> None:
        return None

    def parts(self, inputs: Share, count: int) -> list[Part]:
        images = [
            Part(True, inputs.image_places[chosen], (inputs.pixel_values[chosen],))
            for chosen in _split(len(inputs.pixel_values), count)
        ]
        chosen_pieces = _split(len(inputs.pieces), count)
        return images + [
            Part(False, inputs.piece_places[chosen], self._tokens(inputs.pieces[chosen]))
            for chosen in chosen_pieces
        ]

    def embed(self, detector: Detector, part: Part) -> Tensor:
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
        said = (
            (chosen, self._tokens(given)) for chosen, given in self._slices(by_length, 4 * size)
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
            for chosen, tokens in said
        ]
        return self.processes.assemble(len(images), image_rows), self.processes.assemble(
            len(self.lengths), piece_rows
        )

    def _share(self, batch: Batch) -> Share:
        images = len(batch.images)
        by_length = self._by_length(batch.pieces)
        pixel_values = self._pixels(batch.images[self.processes.even_share(images)])
        pixel_values = pixel_values.pin_memory() if self.device.type == "cuda" else pixel_values
        pieces = batch.pieces[by_length[self.processes.even_share(len(by_length))]]
        return Share(
            self.processes.share(images),
            pixel_values,
            by_length[self.processes.share(len(by_length))],
            pieces,
        )

    def _slices(self, items: Indices, size: int) -> Iterator[tuple[Indices, Indices]]:
        """The process's share, `size` at a time: its own items, and those with one more that keep
        the processes in step; as many slices in every process.
        """
        own = items[self.processes.share(len(items))]
        even = items[self.processes.even_share(len(items))]
        for start in range(0, len(even), size):
            yield own[start : start + size], even[start : start + size]

    def _by_length(self, pieces: Indices) -> Indices:
        """(W,) pieces → their places, short ones first."""
        return np.argsort(self.lengths[pieces], kind="stable")

    def _pixels(self, images: Indices) -> Tensor:
        """(B, 3, S, S)."""
        return torch.from_numpy(self.store.load(self.pairs, images))

    def _tokens(self, pieces: Indices) -> Tensors:
        """(B, L), twice; L is the longest in the batch where the tower allows it."""
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
    """W pieces, of which each process takes its part → the ids of all, piece after piece (T,), and
    how many each piece has (W,).
    """
    own = pieces[processes.part(len(pieces))]
    ids = array("i")
    lengths = array("q")

    def encode() -> None:
        for start in range(0, len(own), TEXTS):
            for tokens in tokenizer.encode(list(own[start : start + TEXTS]))[0]:
                ids.extend(tokens)
                lengths.append(len(tokens))

    processes.each(encode)
    return np.concatenate(processes.gather(np.array(ids, np.int32))), np.concatenate(
        processes.gather(np.array(lengths, np.int64))
    )


def _split(size: int, count: int) -> list[slice]:
    """Of `size` items at most `count` runs, none of them empty."""
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
        # of a resized image: there is nothing left to resize or crop
        self.normalise = Preprocessor(replace(spec, mode="shortest", resize=0))
        self.room = limit  # bytes left
        self.known: dict[Path, NDArray[np.uint8]] = {}

    def load(self, pairs: PairSet, images: Indices) -> NDArray[np.float32]:
        """Pixel values (B, 3, S, S) of images by their place in `pairs`; ImageError with file and
        line for one that can't be used.
        """
        pixel_values = np.empty((len(images), 3, self.size, self.size), np.float32)
        for out, image in zip(pixel_values, images, strict=True):
            self.normalise(self._resized(pairs, int(image)), out=out)
        return pixel_values

    def _resized(self, pairs: PairSet, image: int) -> NDArray[np.uint8]:
        """(S, S, 3)."""
        path = pairs.images[image]
        if (found := self.known.get(path)) is not None:
            return found
        picture = prepare_alone(self.picture, path)
        if isinstance(picture, ImageError):
            raise pairs.image_error(image, picture)
        pixels = np.asarray(picture)
        if pixels.nbytes <= self.room:
            self.room -= pixels.nbytes
            self.known[path] = pixels
        return pixels


def ahead(work: Callable[[S], T], items: Iterable[S], workers: int) -> Generator[T]:
    """`work` of each item, in order, done on threads while the caller is busy; at most workers + 1
    results wait. In the caller's thread for 0 workers.
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
