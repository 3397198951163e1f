"""Near-duplicate images: the same picture encoded, scaled or saved again. The same article in
another colour is another picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import InputError, MissingExtraError
from mismatch.io.threads import map_ahead

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Fingerprint", "fingerprint", "fingerprint_images", "groups_of", "near_duplicate_groups"]

# Measured on 7,031 product photos: pictures encoded again (JPEG 30 to 95, WebP 60, half and double
# size) are at most 6 bits and 4 levels away, and different articles or colours with hashes as near
# at least 11 levels. A crop of 3 % moves edges by 9 levels on average, so it is not told from
# another article.
BITS = 7  # so many of the hash's 64 may differ; one of its 8 bands of 8 bits is equal then
LEVELS = 7  # any of the 8 x 8 x 3 means may differ by so many of 255
THUMB = 8  # pixels a side

Source = TypeVar("Source")


class Fingerprint(NamedTuple):
    """200 bytes that stand for an image."""

    hash: int  # perceptual, 64 bits
    thumb: bytes  # means of 8 x 8 parts, RGB


def fingerprint(image: Image) -> Fingerprint:
    """Return the fingerprint of a decoded RGB image. MissingExtraError without the ImageHash
    library.
    """
    try:
        from imagehash import phash
    except ImportError as error:
        raise MissingExtraError("finding near-duplicate images", "audit") from error
    from PIL.Image import Resampling

    bits = np.packbits(phash(image).hash.reshape(-1))  # (8,)
    return Fingerprint(
        int.from_bytes(bits.tobytes(), "big"),
        image.resize((THUMB, THUMB), Resampling.BOX).convert("RGB").tobytes(),
    )


def fingerprint_images(
    sources: Iterable[Source],
    open_image: Callable[[Source], Image],
    *,
    workers: int,
    advance: Callable[[int], object] = lambda done: None,
) -> Iterator[Fingerprint | Exception]:
    """Yield each source's fingerprint, in order, or what `open_image` raised for it (an
    InputError); on `workers` threads, a few ahead.

    `advance` receives 1 for each one that is done.
    """

    def work(source: Source) -> Fingerprint | Exception:
        try:
            return fingerprint(open_image(source))
        except InputError as error:
            return error

    return map_ahead(work, sources, workers=workers, advance=advance)


def near_duplicate_groups(prints: Sequence[Fingerprint | None]) -> list[int]:
    """Return a group's number for each image, counted from 0 in order of first appearance; None
    stands alone.

    Images are in one group if a chain of near-duplicates joins them. Memory grows with the images,
    not with their pairs.
    """
    fingerprinted = [i for i, made in enumerate(prints) if made is not None]
    if not fingerprinted:
        return list(range(len(prints)))
    hashes = np.array([made.hash for made in prints if made is not None], np.uint64)
    thumbs = np.frombuffer(
        b"".join(made.thumb for made in prints if made is not None), np.uint8
    ).reshape(len(fingerprinted), THUMB * THUMB * 3)
    pairs = ((fingerprinted[a], fingerprinted[b]) for a, b in _near(hashes, thumbs))
    return groups_of(len(prints), pairs)


def groups_of(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Find connected components: a number for each of 0..count-1, counted in order of first
    appearance.
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in pairs:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(node), len(numbers)) for node in range(count)]


def _near(hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield pairs of near-duplicates, each at least once."""
    first = _first_of_equals(hashes, thumbs)
    yield from ((i, int(other)) for i, other in enumerate(first) if i != other)
    distinct = np.unique(first)
    for band in range(8):
        keys = (hashes[distinct] >> np.uint64(8 * band)) & np.uint64(255)
        order = np.argsort(keys, kind="stable")
        _, starts = np.unique(keys[order], return_index=True)
        for bucket in np.split(distinct[order], starts[1:]):
            yield from _near_in(bucket, hashes, thumbs)


def _first_of_equals(hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each image the first one with the same fingerprint, so that thousands of blank
    pictures are one.
    """
    # (N, 200)
    rows = np.concatenate([hashes[:, None].view(np.uint8).reshape(len(hashes), 8), thumbs], axis=1)
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), i) for i, row in enumerate(rows)], np.int64)


def _near_in(
    bucket: NDArray[np.int64], hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of one bucket."""
    for position in range(len(bucket) - 1):
        rest = bucket[position + 1 :]
        rest = rest[np.bitwise_count(hashes[rest] ^ hashes[bucket[position]]) <= BITS]
        if len(rest):
            apart = np.abs(thumbs[rest].astype(np.int16) - thumbs[bucket[position]]).max(1)
            yield from ((int(bucket[position]), int(other)) for other in rest[apart <= LEVELS])
