"""Texts that have slid against their images: each stands a few rows above or below its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mismatch.data.audit.findings import KEPT, Finding, ShownRow
from mismatch.data.audit.likeness import TextLikeness
from mismatch.data.audit.places import REACH, Place
from mismatch.errors import InputError
from mismatch.io.text import plural

__all__ = ["Towers", "block_lines", "shift_by_embeddings", "shift_by_pictures"]

OFFSETS = tuple(offset for offset in range(-REACH, REACH + 1) if offset)
# by pictures that stand in two rows
DIFFERENT = 0.25  # likeness of two texts below which they are of two things
ALIKE = 0.5  # likeness from which on they are of the same
MIN_GAIN = 0.3
MIN_PICTURES = 3  # that say the same
MIN_AGREEING = 0.5  # of the pictures with unlike texts
CLEAR_LEAD = 1.5  # times as many as any other offset has
# by scores
BLOCK = 32  # rows that are scored together
MAX_BLOCKS = 16  # spread over a file
MIN_SCORED = 6
MIN_COMPARED = 64  # where pictures are compared with pictures, and texts with texts
SURE = 4.0  # standard errors by which the texts of another row fit better, in two blocks
ALONE = 7.0  # in the only one
OVERALL = 6.0  # in all of them


class Towers(Protocol):
    """A backbone, as far as an audit asks it."""

    @property
    def shared_space(self) -> bool:
        """Return whether cosines between images and texts mean something."""

    def embed_images(self, paths: Sequence[str]) -> NDArray[Any]:
        """Embed N images → (N, D)."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[Any]:
        """Embed N texts → (N, E); InputError for one that can't be tokenized."""


class _Slide(NamedTuple):
    """What speaks for one offset."""

    offset: int  # rows below the image's own, above where it is negative
    rows: list[Place]  # whose own text stands there
    evidence: str


def shift_by_pictures(
    groups: Sequence[Sequence[Place]], likeness: TextLikeness
) -> Iterator[Finding]:
    """Yield a finding if pictures that stand in several rows have unlike texts there, but alike
    ones so many rows below or above.

    `groups`: the rows of each picture, with texts that are said to be of it.
    """
    votes: Counter[int] = Counter()
    rows: dict[int, list[Place]] = {offset: [] for offset in OFFSETS}
    unlike = 0
    for places in groups:
        pairs = [pair for pair in pairwise(places) if likeness(*_texts(pair)) < DIFFERENT]
        unlike += bool(pairs)
        slid = {offset: _slid(pairs, offset, likeness) for offset in OFFSETS}
        votes.update(offset for offset, moved in slid.items() if moved)
        for offset, moved in slid.items():
            rows[offset] += moved
    (offset, count), *others = votes.most_common(2) or [(0, 0)]
    is_clear = not others or count >= CLEAR_LEAD * others[0][1]
    if count >= MIN_PICTURES and count >= MIN_AGREEING * unlike and is_clear:
        evidence = (
            f"so it is with {count} of {plural(unlike, 'picture')} that"
            f" {'stands' if unlike == 1 else 'stand'} in two rows with unlike texts"
        )
        yield _finding(_Slide(offset, rows[offset], evidence))


def _texts(pair: tuple[Place, Place]) -> tuple[str, str]:
    return pair[0].text, pair[1].text


def _slid(pairs: Sequence[tuple[Place, Place]], offset: int, likeness: TextLikeness) -> list[Place]:
    """Return the rows of pairs whose texts are alike if those of one row, or of both, stand so many
    rows below.
    """
    moved = []
    for first, second in pairs:
        unmoved = likeness(first.text, second.text)
        for here, there in product((0, offset), repeat=2):
            alike = likeness(first.text_at(here), second.text_at(there))
            if alike >= max(ALIKE, unmoved + MIN_GAIN):
                moved += [first] * bool(here) + [second] * bool(there)
                break
    return moved


def block_lines(lines: Sequence[int]) -> list[list[int]]:
    """Return the rows, by line, that are scored: blocks of neighbours, spread over the file.

    `lines`: of the rows that can be scored, in order.
    """
    blocks = [list(lines[start : start + BLOCK]) for start in range(0, len(lines), BLOCK)]
    chosen = np.unique(np.linspace(0, len(blocks) - 1, MAX_BLOCKS).round().astype(int))
    return [blocks[number] for number in chosen] if blocks else []


def shift_by_embeddings(
    blocks: Sequence[Sequence[Place]], images: Mapping[int, str], towers: Towers
) -> Iterator[Finding]:
    """Yield a finding if images fit the texts of other rows better than their own, all by the same
    number of rows.

    `blocks`: rows with texts that are said to be of their images. `images`: where the image of each
    row lies, by line.
    """
    blocks = [block for block in blocks if len(block) >= MIN_SCORED]
    rows = [place for block in blocks for place in block]
    if len(rows) < (MIN_SCORED if towers.shared_space else MIN_COMPARED):
        return
    names = list(dict.fromkeys(text for place in rows for text in place.texts if text))
    try:
        texts = dict(zip(names, _unit(towers.embed_texts(names)), strict=True))
        pictures = _unit(towers.embed_images([images[place.line] for place in rows]))
    except InputError:  # a text that can't be tokenized, which is a finding of its own
        return
    score = _cosines if towers.shared_space else _agreement
    columns = [score(pictures, *_texts_at(offset, rows, texts)) for offset in range(2 * REACH + 1)]
    ends = np.cumsum([len(block) for block in blocks])[:-1]
    parts = np.split(np.stack(columns, axis=1), ends)
    slide = _best_slide(list(zip(blocks, parts, strict=True)))
    if slide is not None:
        yield _finding(slide)


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(np.asarray(vectors, np.float64), axis=1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-12)
    return unit


def _texts_at(
    position: int, rows: Sequence[Place], texts: Mapping[str, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (N, D) embeddings of the texts so many places from the first around each row, and
    where there is one (N,) other than the row's own.
    """
    chosen = [place.texts[position] for place in rows]
    there = np.array([bool(text) for text in chosen])
    other = np.array([text != place.text for text, place in zip(chosen, rows, strict=True)])
    nothing = np.zeros_like(next(iter(texts.values())))
    vectors = np.stack([texts[text] if text else nothing for text in chosen])
    return vectors, there & (other if position != REACH else there)


def _cosines(
    pictures: NDArray[np.float64], texts: NDArray[np.float64], there: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (N,) scores of each picture with its text; NaN where there is none."""
    return np.where(there, (pictures * texts).sum(1), np.nan)


def _agreement(
    pictures: NDArray[np.float64], texts: NDArray[np.float64], there: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (N,) how well alike pictures have alike texts, for towers that share no space: the
    rows of their kernels' inner product. NaN where there is no text.
    """
    kernels = [centred @ centred.T for centred in (_centred(pictures), _centred(texts))]
    product = kernels[0] * kernels[1]
    np.fill_diagonal(product, 0)
    return np.where(there, product.sum(1), np.nan)


def _centred(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return _unit(vectors - vectors.mean(0))


def _best_slide(scored: Sequence[tuple[Sequence[Place], NDArray[np.float64]]]) -> _Slide | None:
    best: tuple[float, _Slide] | None = None
    for offset in OFFSETS:
        gains = [scores[:, REACH + offset] - scores[:, REACH] for _, scores in scored]
        sure = [_certainty(gain) for gain in gains]
        slid = [number for number, value in enumerate(sure) if value > SURE]
        overall = _certainty(np.concatenate(gains)) if gains else 0.0
        if overall > OVERALL:
            slid = [number for number, value in enumerate(sure) if value > 0]
        elif len(slid) < 2 and not (slid and sure[slid[0]] > ALONE):
            slid = []
        gain = float(np.nanmean(np.concatenate([gains[number] for number in slid]))) if slid else 0
        if slid and (best is None or gain > best[0]):
            rows = [place for number in slid for place in scored[number][0]]
            evidence = (
                f"so say the backbone's embeddings in {len(slid)} of {len(scored)} places that were"
                " looked at"
            )
            best = gain, _Slide(offset, rows, evidence)
    return None if best is None else best[1]


def _certainty(gains: NDArray[np.float64]) -> float:
    """Return by how many standard errors the mean gain is above 0; 0 for too few rows."""
    gains = gains[~np.isnan(gains)]
    if len(gains) < MIN_SCORED:
        return 0.0
    return float(gains.mean() / (gains.std(ddof=1) / len(gains) ** 0.5 + 1e-9))


def _finding(slide: _Slide) -> Finding:
    rows = sorted({place.line: place for place in slide.rows}.values())
    lines = [place.line for place in rows]
    where = "below" if slide.offset > 0 else "above"
    message = (
        "texts have slid against the images: the text of an image stands"
        f" {plural(abs(slide.offset), 'row')} {where} it, somewhere from line {lines[0]} to"
        f" {lines[-1]}; {slide.evidence}; put the texts back before anything else"
    )
    groups = [
        [ShownRow(place.line, place.image, place.text_at(offset)) for offset in (0, slide.offset)]
        for place in rows[:KEPT]
    ]
    return Finding("shift", message, len(lines), lines[:KEPT], groups)
