"""What one call has encoded so far: embeddings by image and by text, the oldest dropped first."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mismatch.data.embedded.names import container_of
from mismatch.errors import InputError
from mismatch.io.remote import Remote
from mismatch.runtime.cache import HashedFile, bytes_key, hash_file
from mismatch.runtime.preprocess import ImageSource, PreparedImage

__all__ = [
    "Embedded",
    "EmbeddingMemo",
    "Hashed",
    "Memo",
    "Pieces",
    "cache_key",
    "hashed_image",
    "image_digest",
    "image_key",
    "is_unchanged_image",
    "live_image_key",
]

Array = NDArray[np.float32]
KEY_BYTES = 16  # a BLAKE2b hash
ENTRY = 256  # bytes of what is remembered, its key included, besides the numbers
MEMO_BYTES = 128 * 2**20  # embeddings, per tower, that are remembered from window to window

Embedded = Array | InputError  # an embedding, or why there is none
Pieces = tuple[str, ...]  # one text's
Hashed = HashedFile | bytes  # an image in the cache: its file as it was hashed, or the key of bytes
V = TypeVar("V", Embedded, Pieces)


@dataclass
class Memo(Generic[V]):
    """What was found out, by key; failures are remembered too. The oldest are dropped beyond
    `max_bytes`.
    """

    max_bytes: int
    values: OrderedDict[Hashable, V] = field(default_factory=OrderedDict)
    size: int = 0  # bytes

    def add(self, key: Hashable, value: V) -> None:
        if key in self.values:
            self.size -= _size(key, self.values[key])
        self.values[key] = value
        self.size += _size(key, value)

    def trim(self) -> None:
        """Drop the oldest. Called between windows, so that a window always finds its own."""
        while self.size > self.max_bytes:
            self.size -= _size(*self.values.popitem(last=False))


def _size(key: Hashable, value: Embedded | Pieces) -> int:
    """Return how many bytes it takes, about. A text is its own key, and may be long."""
    long_key = max(0, sys.getsizeof(key) - ENTRY)
    if isinstance(value, tuple):
        return long_key + sum(ENTRY + 2 * len(piece) for piece in value)
    return long_key + ENTRY + (value.nbytes if isinstance(value, np.ndarray) else 0)


@dataclass
class EmbeddingMemo:
    """What earlier windows of one call have found out."""

    images: Memo[Embedded]
    texts: Memo[Embedded]  # keys: a text, or a piece of one
    pieces: Memo[Pieces]  # keys: long texts

    @classmethod
    def empty(cls, max_bytes: int | None = None) -> EmbeddingMemo:
        """Return what is known before the first window. `max_bytes` of images, as many of texts
        and of pieces, are remembered from window to window (`MEMO_BYTES`).
        """
        limit = MEMO_BYTES if max_bytes is None else max_bytes
        return cls(Memo(limit), Memo(limit), Memo(limit))

    def image(self, source: ImageSource) -> Embedded | None:
        """Return what is known of an image: its embedding (image_width,), why there is none, or
        nothing.
        """
        return self.images.values.get(image_key(source))

    def text(self, text: str) -> list[Embedded | None]:
        """Return what is known of a text, or of each of its pieces."""
        pieces = self.pieces.values.get(text, (text,))
        return [self.texts.values.get(piece) for piece in pieces]

    def trim(self) -> None:
        for memo in (self.images, self.texts, self.pieces):
            memo.trim()


def image_digest(data: bytes) -> bytes:
    """Return what an image's bytes are known by within a process."""
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()


def image_key(image: ImageSource) -> Hashable:
    """Return what an image is known by. Paths are compared by value, encoded bytes by hash, so that
    no key holds them. Any other image counts as new (an `id` could be handed out twice).
    """
    if isinstance(image, bytes):
        return image_digest(image)
    if isinstance(image, PreparedImage):
        return image.digest
    return image if isinstance(image, (str, Path, Remote)) else object()


def live_image_key(image: ImageSource) -> Hashable:
    """Return what an image of a live source is known by: of a file its version too, since whoever
    sends a row may write the same file again for the next one.
    """
    if not isinstance(image, (str, Path)):
        return image_key(image)
    try:
        status = os.stat(container_of(os.fspath(image)))
    except (OSError, ValueError):  # as reading it will say
        return image
    # copies keep the modification's time, and no program can choose the change's
    return image, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino


def hashed_image(image: ImageSource) -> Hashed | None:
    """Return the cache's key of an image, with its file's version; none of one that can't be read
    or has no bytes of its own.
    """
    if isinstance(image, bytes):
        return bytes_key(image)
    hashed = hash_file(image) if isinstance(image, (str, Path, Remote)) else None
    return hashed if isinstance(hashed, HashedFile) else None


def cache_key(image: Hashed) -> bytes:
    """Return the cache's key of an image that was hashed."""
    return image.key if isinstance(image, HashedFile) else image


def is_unchanged_image(image: Hashed) -> bool:
    """Return whether an image is still what was hashed: a file may have been replaced."""
    return not isinstance(image, HashedFile) or image.is_unchanged()
