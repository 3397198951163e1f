"""The drawn catalogue: what is held out stays out, labels are true, kinds are what they say, and a
seed is a catalogue.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mismatch.data.catalogue import (
    _ARTICLE_WORDS,
    _COLOUR_WORDS,
    _COUNT_WORDS,
    _PATTERN_WORDS,
    ONE_ATTRIBUTE,
    SHARES,
    Catalogue,
    split_combinations,
    title,
    title_words,
    write_catalogue,
)
from mismatch.data.drawing import ARTICLES, COLOURS, COUNTS, PATTERNS, Combination
from mismatch.data.pairs import load_pairs

PHOTOS = {"train": 400, "val": 60, "test": 120}
PARTS = ("train", "val", "test")


def read(text: str) -> Combination:
    """What a title says, from its words alone."""
    text = f" {re.sub(r'[^a-z0-9-]+', ' ', text.lower())} "

    def find(words: dict[str, list[str]]) -> str:
        [found] = {key for key, names in words.items() for name in names if f" {name} " in text}
        return found

    pieces = [
        count
        for count, names in _COUNT_WORDS.items()
        if count > 1
        for name in names
        if f" {name} " in text
    ]
    articles = {
        key: [form for forms in names for form in forms] for key, names in _ARTICLE_WORDS.items()
    }
    return Combination(
        find(articles), find(_COLOUR_WORDS), find(_PATTERN_WORDS), max(pieces, default=1)
    )


def rows_of(catalogue: Catalogue, part: str) -> list[dict[str, str]]:
    with open(catalogue.folder / f"{part}.csv", newline="") as file:
        return list(csv.DictReader(file))


def photographed(part: str, row: dict[str, str]) -> Combination:
    members = split_combinations()[part]
    return members[int(Path(row["image_path"]).stem) % len(members)]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return write_catalogue(tmp_path_factory.mktemp("catalogue"), photos=PHOTOS, workers=1)


def test_a_seventh_of_the_combinations_is_held_out_and_no_part_shares_one() -> None:
    parts = split_combinations()
    everything = [combination for part in parts.values() for combination in part]
    assert (
        len(everything)
        == len(set(everything))
        == len(ARTICLES) * len(COLOURS) * len(PATTERNS) * len(COUNTS)
        >= 960
    )
    assert len(parts["val"]) + len(parts["test"]) == -(-len(everything) // 7)
    assert len(parts["test"]) == len(parts["val"])
    assert split_combinations(1) != parts == split_combinations(0)


def test_training_has_seen_every_value_of_every_attribute() -> None:
    for values, seen in zip(
        (ARTICLES, COLOURS, PATTERNS, COUNTS),
        zip(*split_combinations()["train"], strict=True),
        strict=True,
    ):
        assert set(values) == set(seen)


@pytest.mark.parametrize("pieces", COUNTS)
def test_a_title_says_what_is_on_the_photo(pieces: int) -> None:
    rng = np.random.default_rng(0)
    for combination in (
        combination for combination in split_combinations()["train"] if combination.pieces == pieces
    ):
        for material in (None, 0, 1, 2):
            assert read(title(combination, rng, material)) == combination


def test_the_words_of_titles_are_known() -> None:
    rng = np.random.default_rng(0)
    words = title_words()
    used = set()
    for number in range(3000):
        members = split_combinations()["train"]
        text = title(members[number % len(members)], rng, number % 3).lower()
        used |= set(re.findall(r"\w+|[^\w\s]+", text))
    assert used == set(words)
    assert words == sorted(set(words))


def test_titles_vary() -> None:
    rng = np.random.default_rng(0)
    titles = {title(Combination("mug", "red", "striped", 2), rng) for _ in range(300)}
    assert len(titles) > 200
    assert all(text[0].isupper() or text[0].isdigit() for text in titles)
    assert not any(
        "  " in text or ", ," in text or text.endswith((",", "-", " ")) for text in titles
    )


@pytest.mark.parametrize("part", PARTS)
def test_labels_and_kinds_are_true(catalogue: Catalogue, part: str) -> None:
    rows = rows_of(catalogue, part)
    for row in rows:
        on_photo, in_title = photographed(part, row), read(row["text"])
        differing = [
            name
            for name, a, b in zip(
                ("article", "colour", "pattern", "count"), on_photo, in_title, strict=True
            )
            if a != b
        ]
        assert (row["label"] == "1") == (row["kind"] == "match") == (not differing)
        if row["kind"] not in ("match", "random"):
            assert differing == [row["kind"]]


def test_no_held_out_combination_occurs_in_training(catalogue: Catalogue) -> None:
    parts = split_combinations()
    rows = rows_of(catalogue, "train")
    in_training = {photographed("train", row) for row in rows} | {read(row["text"]) for row in rows}
    assert len(in_training) > 500
    assert in_training.isdisjoint(parts["val"] + parts["test"])


@pytest.mark.parametrize("part", PARTS)
def test_labels_are_balanced_and_most_mismatches_differ_in_one_attribute(
    catalogue: Catalogue, part: str
) -> None:
    kinds = Counter(row["kind"] for row in rows_of(catalogue, part))
    mismatches = PHOTOS[part]
    assert kinds["match"] == mismatches == kinds.total() - mismatches
    share = ONE_ATTRIBUTE[part]
    assert share >= 0.6
    deviation = (share * (1 - share) / mismatches) ** 0.5
    # a few photos have no neighbour in one attribute that the part may name
    assert abs(1 - kinds["random"] / mismatches - share) < 3 * deviation + 0.02
    for kind, kind_share in zip(
        ("article", "colour", "pattern", "count"), SHARES[part], strict=True
    ):
        assert kinds[kind] > 0.27 * kind_share * mismatches


def test_a_catalogue_can_be_trained_on(catalogue: Catalogue) -> None:
    for part, file in zip(
        PARTS, (catalogue.train_csv, catalogue.val_csv, catalogue.test_csv), strict=True
    ):
        rows = load_pairs(file, catalogue.folder)
        assert len(rows) == catalogue.rows[part] == 2 * PHOTOS[part]
        assert len({row.image_path for row in rows}) == PHOTOS[part]
    assert catalogue.combinations == {"train": 822, "val": 69, "test": 69}
    with Image.open(catalogue.sheet) as sheet:
        assert sheet.size == (12 * 128, len(ARTICLES) * 128)


def test_the_same_seed_gives_the_same_files_however_many_processes_draw(tmp_path: Path) -> None:
    photos = {"train": 9, "val": 3, "test": 3}
    told: list[int] = []
    write_catalogue(tmp_path / "a", photos=photos, workers=1, progress=told.append)
    write_catalogue(tmp_path / "b", photos=photos, workers=2, progress=told.append)
    write_catalogue(tmp_path / "c", photos=photos, workers=1, seed=1)
    a, b, c = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "c")
    )
    assert len(a) == 15 + 4
    assert sum(told) == 30
    assert a == b
    assert not any(a[name] == c[name] for name in a if name.suffix != ".png")
