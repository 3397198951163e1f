"""Rows as arrays, batches in an order that seed and epoch decide, and the two feeds that turn a
batch into embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.data.columns import file_finder
from mismatch.data.pairs import Row, format_location, resolve_image
from mismatch.errors import ImageError, InputError
from mismatch.io.remote import Remote

if TYPE_CHECKING:
    from mismatch.training.config import BatchBy

__all__ = [
    "Batch",
    "PairSet",
    "Selected",
    "first_seen",
    "hold_out",
    "make_batches",
    "same_files",
]

T = TypeVar("T", covariant=True)
Indices = NDArray[np.int64]


class Selected(Sequence[T], Generic[T]):
    """Items of a store, each made when it is asked for."""

    def __init__(self, make: Callable[[int], T], places: Indices) -> None:
        """Take what makes an item of its place in the store, and the (N,) places."""
        self.make = make
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Selected[T]: ...

    def __getitem__(self, index: int | slice) -> T | Selected[T]:
        places = self.places[index]
        return Selected(self.make, places) if isinstance(index, slice) else self.make(int(places))

    def take(self, chosen: Indices) -> Selected[T]:
        """Return those at these places, (n,) in 0..N."""
        return Selected(self.make, self.places[chosen])


@dataclass(frozen=True)
class PairSet:
    """Rows as indices into their unique images and unique texts. A text has the pieces that the
    text tower sees: one, unless long ones are cut.
    """

    csv_file: str
    images: Sequence[Path | Remote]  # U unique ones
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
        """Make a set of rows that `load_pairs` has checked."""
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
        """Return the rows of these images, (U,), as a set of their own. No text is cut yet."""
        rows = chosen[self.image_of]  # (N,)
        images = np.flatnonzero(chosen)
        first, text_of = first_seen(self.text_of[rows])
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
        """Return the same rows, with these texts in pieces."""
        parts = [pieces_of.get(text, (text,)) for text in self.texts]
        numbers: dict[str, int] = {}
        piece_of = [numbers.setdefault(piece, len(numbers)) for pieces in parts for piece in pieces]
        starts = np.cumsum([0, *map(len, parts)])
        return replace(
            self, pieces=list(numbers), piece_of=np.array(piece_of, np.int64), starts=starts
        )

    def row_pieces(self, rows: Indices) -> tuple[Indices, Indices]:
        """Map B rows → of each of their M pieces its place in `pieces` (M,), and whose it is, in
        0..B (M,), row after row.
        """
        # (B,)
        first = self.starts[self.text_of[rows]]
        counts = np.diff(self.starts)[self.text_of[rows]]
        row_of = np.repeat(np.arange(len(rows)), counts)  # (M,)
        # (M,) of a piece in its text
        place = np.arange(len(row_of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.piece_of[first[row_of] + place], row_of

    def row_slices(self, max_pieces: int) -> Iterator[Indices]:
        """Yield all rows in order, as many at a time as have at most `max_pieces` together. A row
        that has more stands alone.
        """
        ends = np.cumsum(np.diff(self.starts)[self.text_of])  # (N,) pieces up to and with each row
        first = 0
        while first < len(self):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + max_pieces, side="right")))
            yield np.arange(first, last)
            first = last

    def image_error(self, image: int, error: Exception) -> ImageError:
        """Return what is wrong with an image, with the file and line that name it."""
        kind = type(error) if isinstance(error, ImageError) else ImageError
        return kind(f"{format_location(self.csv_file, self.lines[image])}: {error}")


def first_seen(values: NDArray[Any]) -> tuple[Indices, Indices]:
    """Map N values → where each different one first stands, in that order (U,), and which of those
    each value is (N,) in 0..U.
    """
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[which]


def _take(items: Sequence[T], chosen: Indices) -> Sequence[T]:
    return items.take(chosen) if isinstance(items, Selected) else [items[i] for i in chosen]


def same_files(image_paths: Iterable[str], image_base_path: str) -> dict[str, str]:
    """Map each spelling → the file that it means: `a.jpg`, `./a.jpg` and a link to it are one
    image.
    """
    file = file_finder(image_base_path)
    return {spelling: file(spelling) for spelling in dict.fromkeys(image_paths)}


def hold_out(pairs: PairSet, fraction: float, seed: int) -> tuple[PairSet, PairSet]:
    """Return rows to train on and rows to validate on, which share no image. `fraction` of the
    images, at least one, is held out.
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
    pairs: PairSet, size: int, seed: int, epoch: int, *, skip: int = 0, by: BatchBy = "row"
) -> Iterator[Batch]:
    """Yield every row once, in an order that is a function of seed and epoch; without the first
    `skip` batches. With `by="image"` the rows of an image follow one another.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(pairs))
    if by == "image":
        place = rng.permutation(len(pairs.images))
        order = order[np.argsort(place[pairs.image_of[order]], kind="stable")]
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
