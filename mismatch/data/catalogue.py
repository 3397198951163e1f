"""A drawn product catalogue: photos whose content is known, titles as shops write them, and rows
with known mismatches.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from mismatch.data.drawing import (
    ARTICLES,
    COLOURS,
    COUNTS,
    MATERIALS,
    PATTERNS,
    Combination,
    contact_sheet,
    draw,
)
from mismatch.io.parents import end_with_parent

__all__ = [
    "HELD_OUT",
    "ONE_ATTRIBUTE",
    "Catalogue",
    "split_combinations",
    "title",
    "title_words",
    "write_catalogue",
]

T = TypeVar("T")
Rng = np.random.Generator
Progress = Callable[[int], object]  # receives how many more photos are done
Kind = Literal["match", "article", "colour", "pattern", "count", "random"]


# --- titles

_ARTICLE_WORDS: dict[str, list[tuple[str, str]]] = {  # one piece, several pieces
    "mug": [("mug", "mugs"), ("coffee mug", "coffee mugs"), ("cup", "cups")],
    "t-shirt": [
        ("t-shirt", "t-shirts"),
        ("tee", "tees"),
        ("short-sleeved shirt", "short-sleeved shirts"),
    ],
    "handbag": [("handbag", "handbags"), ("bag", "bags"), ("tote", "totes")],
    "cushion": [("cushion", "cushions"), ("pillow", "pillows"), ("throw pillow", "throw pillows")],
    "vase": [("vase", "vases"), ("flower vase", "flower vases")],
    "umbrella": [("umbrella", "umbrellas"), ("brolly", "brollies")],
    "sock": [("sock", "socks"), ("crew sock", "crew socks"), ("ankle sock", "ankle socks")],
    "lamp": [("lamp", "lamps"), ("table lamp", "table lamps"), ("bedside lamp", "bedside lamps")],
}
_COLOUR_WORDS = {
    "red": ["red", "crimson", "scarlet"],
    "orange": ["orange", "tangerine"],
    "yellow": ["yellow", "lemon"],
    "green": ["green", "forest green"],
    "turquoise": ["turquoise", "aqua"],
    "blue": ["blue", "royal blue", "cobalt"],
    "purple": ["purple", "violet"],
    "pink": ["pink", "rose"],
    "brown": ["brown", "chocolate"],
    "black": ["black", "jet black"],
}
_PATTERN_WORDS = {
    "plain": ["plain", "solid", "unpatterned"],
    "striped": ["striped", "stripy", "stripe"],
    "dotted": ["dotted", "spotted", "polka dot"],
    "checked": ["checked", "checkered", "chequered"],
}
_COUNT_WORDS = {
    1: ["", "", "1 piece", "single"],
    2: ["set of 2", "2 pack", "two", "pair"],
    3: ["set of 3", "3 pack", "three", "trio"],
}
_HARD = ("mug", "vase", "lamp")
# matt, woven, glossy; True: hard articles
_MATERIAL_WORDS = {True: ["stoneware", "ribbed", "glazed"], False: ["cotton", "linen", "satin"]}
_BRANDS = [
    "Norvik",
    "Casa Lume",
    "Halden & Sons",
    "Birchwood",
    "Ostara",
    "Fennel",
    "Studio Quill",
    "Marlo",
]


def title(combination: Combination, rng: Rng, material: int | None = None) -> str:
    """Return what a shop might call the photo: words, their order and extras vary with `rng`;
    `material` is named where it is given.
    """
    article = _choose(_ARTICLE_WORDS[combination.article], rng)[combination.pieces > 1]
    colour = _choose(_COLOUR_WORDS[combination.colour], rng)
    pattern = _choose(_PATTERN_WORDS[combination.pattern], rng)
    stuff = "" if material is None else _MATERIAL_WORDS[combination.article in _HARD][material]
    count = _choose(_COUNT_WORDS[combination.pieces], rng)
    brand = _choose(_BRANDS, rng) if rng.random() < 0.4 else ""
    article = f"{stuff} {article}".strip()
    text = _choose(_TEMPLATES, rng)(brand, article, colour, pattern, count)
    return text[0].upper() + text[1:]


def title_words() -> list[str]:
    """Return every word and sign of which titles are made, in lower case and sorted."""
    phrases = [form for forms in _ARTICLE_WORDS.values() for pair in forms for form in pair]
    for table in (_COLOUR_WORDS, _PATTERN_WORDS, _COUNT_WORDS, _MATERIAL_WORDS):
        phrases += [phrase for words in table.values() for phrase in words]
    text = " ".join([*phrases, *_BRANDS, "in design by , -"])
    return sorted(set(re.findall(r"\w+|[^\w\s]+", text.lower())))


def _choose(choices: Sequence[T], rng: Rng) -> T:
    return choices[int(rng.integers(len(choices)))]


def _join(words: Sequence[str], separator: str = " ") -> str:
    return separator.join(word for word in words if word)


# brand, article, colour, pattern, count
_TEMPLATES: list[Callable[[str, str, str, str, str], str]] = [
    lambda b, a, c, p, n: _join([b, n, p, c, a]),
    lambda b, a, c, p, n: _join([_join([b, c, p, a]), n], ", "),
    lambda b, a, c, p, n: _join([_join([b, a]), c, p, n], ", "),
    lambda b, a, c, p, n: _join([_join([n, a, "in", c]), p, b], ", "),
    lambda b, a, c, p, n: _join([_join([b, p, a, "in", c]), n], " - "),
    lambda b, a, c, p, n: _join([_join([c, a]), _join([p, "design"]), n, b and f"by {b}"], ", "),
]


# --- rows

HELD_OUT = 1 / 7  # share of the combinations: half for validation, half for the test
# share of the mismatches in which everything fits but one attribute; in training, a batch has other
# products' titles already
ONE_ATTRIBUTE = {"train": 1.0, "val": 0.6, "test": 0.6}
EVEN = (0.25, 0.25, 0.25, 0.25)
# shares of article, colour, pattern and count among these; shapes and patterns take most learning
SHARES = {"train": (0.4, 0.06, 0.42, 0.12), "val": EVEN, "test": EVEN}


@dataclass(frozen=True)
class Catalogue:
    """Where a written catalogue lies and how much there is of it."""

    folder: Path  # image paths in the tables are relative to it
    train_csv: Path
    val_csv: Path
    test_csv: Path
    sheet: Path  # a picture of some of the articles
    combinations: dict[str, int]  # train, val, test → number of combinations
    rows: dict[str, int]  # train, val, test → number of rows


class _Item(NamedTuple):
    """One photo to draw."""

    path: Path
    combination: Combination
    material: int
    seed: tuple[int, ...]


class _Row(NamedTuple):
    image_path: str
    text: str
    label: int
    kind: Kind


def split_combinations(seed: int = 0) -> dict[str, list[Combination]]:
    """Return all combinations in three parts that share none: train, val, test."""
    everything = [Combination(*values) for values in product(ARTICLES, COLOURS, PATTERNS, COUNTS)]
    order = np.random.default_rng(seed).permutation(len(everything))
    shuffled = [everything[i] for i in order]
    held_out = math.ceil(len(shuffled) * HELD_OUT)
    val = held_out // 2
    return {"train": shuffled[held_out:], "val": shuffled[:val], "test": shuffled[val:held_out]}


def write_catalogue(
    folder: Path,
    *,
    photos: dict[str, int],
    size: int = 64,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
) -> Catalogue:
    """Draw `photos[part]` photos for train, val and test, `size` pixels square, and write two rows
    for each, one match and one mismatch.

    No combination of val or test occurs in a row of train, neither as photo nor as title. The same
    `seed` gives the same files. `workers` processes draw; `progress` receives how many more photos
    are done.
    """
    parts = split_combinations(seed)
    items = {
        part: _items(folder / "images" / part, parts[part], photos[part], (seed, number))
        for number, part in enumerate(parts)
    }
    _draw_all(
        [item for part in items.values() for item in part],
        size,
        workers,
        progress or (lambda done: None),
    )
    held_out = parts["val"] + parts["test"]
    titles = {
        "train": (parts["train"], parts["train"]),
        "val": (held_out, held_out + parts["train"]),
        "test": (held_out, held_out + parts["train"]),
    }
    for part, (preferred, allowed) in titles.items():
        _write_rows(folder, part, items[part], set(preferred), set(allowed), seed)
    contact_sheet(seed).save(folder / "catalogue.png")
    return Catalogue(
        folder=folder,
        train_csv=folder / "train.csv",
        val_csv=folder / "val.csv",
        test_csv=folder / "test.csv",
        sheet=folder / "catalogue.png",
        combinations={part: len(members) for part, members in parts.items()},
        rows={part: 2 * len(members) for part, members in items.items()},
    )


def _items(
    folder: Path, combinations: Sequence[Combination], photos: int, seed: tuple[int, ...]
) -> list[_Item]:
    """Return `photos` items that spread evenly over the combinations."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _Item(
            folder / f"{number:05}.jpg",
            combinations[number % len(combinations)],
            int(rng.integers(MATERIALS)),
            (*seed, number),
        )
        for number in range(photos)
    ]


def _draw_all(items: Sequence[_Item], size: int, workers: int, progress: Progress) -> None:
    if workers < 2:
        for item in items:
            _draw_one(item, size)
            progress(1)
        return
    pool_of = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
    with pool_of(workers, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        for _ in pool.map(partial(_draw_one, size=size), items, chunksize=64):
            progress(1)


def _draw_one(item: _Item, size: int) -> None:
    draw(item.combination, np.random.default_rng(item.seed), size, item.material).save(
        item.path, quality=95, subsampling=0
    )


def _write_rows(
    folder: Path,
    part: str,
    items: Sequence[_Item],
    preferred: set[Combination],
    allowed: set[Combination],
    seed: int,
) -> None:
    rng = np.random.default_rng((seed, len(items), 1))
    rows: list[_Row] = []
    for item in items:
        path = item.path.relative_to(folder).as_posix()
        kind, other = _other(item.combination, preferred, allowed, part, rng)
        rows.append(_Row(path, _title(item.combination, item.material, rng), 1, "match"))
        rows.append(_Row(path, _title(other, item.material, rng), 0, kind))
    with open(folder / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_Row._fields)
        writer.writerows(rows[i] for i in rng.permutation(len(rows)))


def _title(combination: Combination, material: int, rng: Rng) -> str:
    """Return a title, with its material in a third of the cases: always the true one, so that it
    gives nothing away.
    """
    return title(combination, rng, material if rng.random() < 0.33 else None)


def _other(
    combination: Combination,
    preferred: set[Combination],
    allowed: set[Combination],
    part: str,
    rng: Rng,
) -> tuple[Kind, Combination]:
    """Return a combination that does not fit the photo, and in what; one of `preferred` where there
    is one. The part decides how often it differs in one attribute only, and in which.
    """
    if rng.random() < ONE_ATTRIBUTE[part]:
        for place in rng.choice(len(_ATTRIBUTES), len(_ATTRIBUTES), replace=False, p=SHARES[part]):
            kind, values = _ATTRIBUTES[place]
            near = [
                Combination._make((*combination[:place], value, *combination[place + 1 :]))
                for value in values
                if value != combination[place]
            ]
            choices = [other for other in near if other in preferred]
            choices = choices or [other for other in near if other in allowed]
            if choices:
                return kind, _choose(choices, rng)
    return "random", _choose(sorted(preferred - {combination}), rng)


# Combination's order
_ATTRIBUTES: list[tuple[Kind, Sequence[Any]]] = [
    ("article", ARTICLES),
    ("colour", COLOURS),
    ("pattern", PATTERNS),
    ("count", COUNTS),
]
