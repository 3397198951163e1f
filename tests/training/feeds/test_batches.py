"""Rows as arrays, batches in a known order, images kept in memory exactly, and work done ahead of
time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mismatch.data.pairs import Row
from mismatch.errors import ImageError, ImageNotFoundError, InputError
from mismatch.runtime.preprocess import Preprocessor
from mismatch.specs import ImageSpec
from mismatch.training.config import BatchBy
from mismatch.training.feeds.batches import PairSet, hold_out, make_batches
from mismatch.training.feeds.feeds import PixelStore, ahead

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def row(line: int, image: str, text: str, label: int) -> Row:
    return Row(line, image, text, label, {}, None)


ROWS = [
    row(2, "a.png", "red", 1),
    row(3, "b.png", "blue", 1),
    row(4, "a.png", "blue", 0),
    row(5, "c.png", "red", 0),
    row(6, "b.png", "green", 0),
]


def test_rows_become_indices_into_unique_images_and_texts() -> None:
    pairs = PairSet.from_rows("t.csv", ROWS, "photos")
    assert {str(pairs.images[i]) for i in range(3)} == {
        "photos/a.png",
        "photos/b.png",
        "photos/c.png",
    }
    assert [
        (pairs.images[i].name, pairs.texts[t], label)
        for i, t, label in zip(pairs.image_of, pairs.text_of, pairs.labels, strict=True)
    ] == [(r.image_path, r.text, r.label) for r in ROWS]
    # the first row of each
    assert {path.name: line for path, line in zip(pairs.images, pairs.lines, strict=True)} == {
        "a.png": 2,
        "b.png": 3,
        "c.png": 5,
    }


def said(pairs: PairSet) -> list[tuple[str, str, float]]:
    """Each row: image, text and label."""
    return [
        (str(pairs.images[i]), pairs.texts[t], float(label))
        for i, t, label in zip(pairs.image_of, pairs.text_of, pairs.labels, strict=True)
    ]


@pytest.mark.parametrize(("fraction", "images"), [(0.1, 2), (0.5, 10), (0.001, 1), (0.99, 19)])
def test_held_out_rows_share_no_image_with_the_rest(fraction: float, images: int) -> None:
    rows = [row(i + 2, f"{i % 20}.png", f"text {i}", i % 2) for i in range(60)]
    pairs = PairSet.from_rows("t.csv", rows, "")
    train, val = hold_out(pairs, fraction, seed=0)
    assert len(val.images) == images
    assert set(val.images) & set(train.images) == set()
    assert sorted(said(train) + said(val)) == sorted((r.image_path, r.text, r.label) for r in rows)
    assert [said(part) for part in hold_out(pairs, fraction, seed=0)] == [said(train), said(val)]
    for part in (train, val):
        again = PairSet.from_rows(
            "t.csv", [r for r in rows if Path(r.image_path) in set(part.images)], ""
        )
        assert all(
            np.array_equal(getattr(part, field.name), getattr(again, field.name))
            for field in fields(PairSet)
        )


def test_another_seed_holds_out_other_images() -> None:
    pairs = PairSet.from_rows("t.csv", [row(i + 2, f"{i}.png", "x", 1) for i in range(100)], "")
    assert hold_out(pairs, 0.1, seed=0)[1].images != hold_out(pairs, 0.1, seed=1)[1].images


def test_one_image_is_too_few_to_hold_out() -> None:
    with pytest.raises(
        InputError,
        match=(
            "1 image is too few to hold some out for validation; pass `val_csv`, or"
            " `val_fraction=0`"
        ),
    ):
        hold_out(PairSet.from_rows("t.csv", ROWS[:1], ""), 0.1, seed=0)


SPELLINGS = ["a.png", "./a.png", "sub/../a.png", "link.png", "linked/a.png", "absolute"]


@pytest.fixture
def spelled(tmp_path: Path) -> list[Row]:
    """Rows that name a.png in six ways, and one each of nine other images."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    names = [str(tmp_path / "a.png") if name == "absolute" else name for name in SPELLINGS]
    return [
        row(i + 2, name, f"text {i}", i % 2)
        for i, name in enumerate([*names, *(f"{i}.png" for i in range(9))])
    ]


def test_an_image_under_several_spellings_is_one_image(spelled: list[Row], tmp_path: Path) -> None:
    pairs = PairSet.from_rows("t.csv", spelled, str(tmp_path))
    assert pairs.images == [tmp_path / "a.png", *(tmp_path / f"{i}.png" for i in range(9))]
    assert pairs.image_of.tolist() == [0] * 6 + list(range(1, 10))
    assert pairs.lines.tolist() == [2, *range(8, 17)]


def test_spellings_of_one_image_are_held_out_together(spelled: list[Row], tmp_path: Path) -> None:
    sizes = set()
    for seed in range(60):
        train, val = hold_out(PairSet.from_rows("t.csv", spelled, str(tmp_path)), 0.1, seed)
        sizes.add(len(val))
        assert len(train) + len(val) == 15
    assert sizes == {1, 6}  # of ten images, one


def listed(
    pairs: PairSet, seed: int, epoch: int, by: BatchBy = "row"
) -> list[tuple[int, int, float]]:
    return [
        (int(batch.images[i]), int(batch.pieces[t]), float(label))
        for batch in make_batches(pairs, 2, seed, epoch, by=by)
        for i, t, label in zip(batch.image_of, batch.piece_of, batch.labels, strict=True)
    ]


def test_batches_hold_every_row_once_in_an_order_that_seed_and_epoch_decide() -> None:
    pairs = PairSet.from_rows(
        "t.csv", [row(i, f"{i % 7}.png", f"{i % 5}", i % 2) for i in range(30)], ""
    )
    every = sorted(
        zip(pairs.image_of.tolist(), pairs.text_of.tolist(), pairs.labels.tolist(), strict=True)
    )
    assert sorted(listed(pairs, 0, 1)) == every
    assert listed(pairs, 0, 1) == listed(pairs, 0, 1)
    assert len({tuple(listed(pairs, seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4


def test_batches_by_image_hold_every_row_once_and_an_images_rows_together() -> None:
    pairs = PairSet.from_rows(
        "t.csv", [row(i, f"{i % 7}.png", f"{i % 5}", i % 2) for i in range(30)], ""
    )
    rows = listed(pairs, 0, 1, "image")
    assert sorted(rows) == sorted(listed(pairs, 0, 1))
    images = [image for image, _, _ in rows]
    assert sum(a != b for a, b in pairwise(images)) == 6  # each of seven images once
    assert rows != listed(pairs, 0, 2, "image")
    assert listed(pairs, 0, 1, "image") == rows
    whole = list(make_batches(pairs, 4, 0, 1, by="image"))
    [*_, last] = make_batches(pairs, 4, 0, 1, skip=len(whole) - 1, by="image")
    assert last.labels.tolist() == whole[-1].labels.tolist()
    assert last.images.tolist() == whole[-1].images.tolist()


def test_a_batch_names_each_image_and_text_once() -> None:
    [batch] = make_batches(PairSet.from_rows("t.csv", ROWS, ""), 8, 0, 1)
    assert (len(batch.images), len(batch.pieces), len(batch)) == (3, 3, 5)
    assert batch.labels.dtype == torch.float32


def test_rows_of_texts_in_pieces_carry_all_their_pieces_and_a_shared_one_once() -> None:
    pairs = PairSet.from_rows("t.csv", ROWS, "").cut({"red": ["r", "e", "d"], "green": ["e"]})
    assert (pairs.texts, pairs.pieces) == (["red", "blue", "green"], ["r", "e", "d", "blue"])
    places, row_of = pairs.row_pieces(np.arange(5))
    assert [pairs.pieces[i] for i in places] == ["r", "e", "d", "blue", "blue", "r", "e", "d", "e"]
    assert row_of.tolist() == [0, 0, 0, 1, 2, 3, 3, 3, 4]
    seen = []
    for batch in make_batches(pairs, 2, 0, 1):
        assert len(set(batch.pieces)) == len(batch.pieces)
        for row in range(len(batch)):
            said = [
                pairs.pieces[batch.pieces[i]]
                for i, of in zip(batch.piece_of, batch.row_of, strict=True)
                if of == row
            ]
            seen.append(
                (
                    pairs.images[batch.images[batch.image_of[row]]].name,
                    pairs.texts[int(batch.text_of[row])],
                    said,
                )
            )
    assert sorted(seen) == sorted(
        (r.image_path, r.text, {"red": ["r", "e", "d"], "green": ["e"]}.get(r.text, [r.text]))
        for r in ROWS
    )


def test_whole_texts_are_one_piece_each() -> None:
    pairs = PairSet.from_rows("t.csv", ROWS, "")
    rows = np.array([4, 0, 2])
    places, row_of = pairs.row_pieces(rows)
    assert (places.tolist(), row_of.tolist()) == (pairs.text_of[rows].tolist(), [0, 1, 2])
    assert pairs.cut({}).pieces == pairs.pieces == pairs.texts


@pytest.mark.parametrize(
    ("most", "slices"),
    [
        (1, [[0], [1], [2], [3], [4]]),
        (3, [[0], [1, 2], [3], [4]]),
        (4, [[0, 1], [2, 3], [4]]),
        (5, [[0, 1, 2], [3, 4]]),
        (9, [[0, 1, 2, 3, 4]]),
    ],
)
def test_rows_come_in_slices_of_so_many_pieces(most: int, slices: list[list[int]]) -> None:
    """Rows of 3, 1, 1, 3 and 1 pieces; one that has more than are wanted stands alone."""
    pairs = PairSet.from_rows("t.csv", ROWS, "")
    assert [rows.tolist() for rows in pairs.row_slices(2)] == [
        [0, 1],
        [2, 3],
        [4],
    ], "of whole texts so many rows"
    assert [
        rows.tolist() for rows in pairs.cut({"red": ["r", "e", "d"]}).row_slices(most)
    ] == slices


@pytest.fixture
def photos(tmp_path: Path) -> PairSet:
    """Five photos of odd sizes, one absent, one cut short."""
    noise = np.random.default_rng(0)
    for name, size in (
        ("a", (40, 90)),
        ("b", (90, 40)),
        ("c", (31, 31)),
        ("d", (7, 5)),
        ("e", (200, 64)),
    ):
        Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    (tmp_path / "cut.png").write_bytes((tmp_path / "e.png").read_bytes()[:500])
    names = ["a", "b", "c", "d", "e", "absent", "cut"]
    return PairSet.from_rows(
        "rows.csv",
        [row(i + 2, f"{name}.png", "x", 1) for i, name in enumerate(names)],
        str(tmp_path),
    )


SPECS = [
    ImageSpec(size=32, mean=MEAN, std=STD),
    ImageSpec(size=28, resize=32, mean=MEAN, std=STD, crop_rounding="floor"),
    ImageSpec(size=32, mean=MEAN, std=STD, mode="squash"),
    ImageSpec(size=32, mean=MEAN, std=STD, mode="longest", interpolation="bilinear"),
]


@pytest.mark.parametrize("spec", SPECS, ids=["shortest", "crop", "squash", "longest"])
@pytest.mark.parametrize("limit", [0, 2**20])
def test_pixel_values_are_exactly_the_runtimes_fresh_and_from_memory(
    photos: PairSet, spec: ImageSpec, limit: int
) -> None:
    store, preprocess = PixelStore(spec, limit), Preprocessor(spec)
    index = np.array(
        [
            photos.images.index(path)
            for path in photos.images
            if path.name.partition(".")[0] in "abcde"
        ]
    )
    expected = np.stack([preprocess(photos.images[i]) for i in index])
    for _ in range(2):
        assert np.array_equal(store.load(photos, index), expected)
    assert len(store.resized) == (5 if limit else 0)


def test_the_store_stays_within_its_limit(photos: PairSet) -> None:
    store = PixelStore(SPECS[0], limit=3 * 32 * 32 * 2 + 10)
    store.load(photos, np.arange(5))
    assert (len(store.resized), store.room) == (2, 10)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [("absent", ImageNotFoundError, "not found"), ("cut", ImageError, "damaged or cut short")],
)
def test_an_image_that_cant_be_used_is_named_with_file_and_line(
    photos: PairSet, name: str, kind: type[ImageError], says: str
) -> None:
    index = next(i for i, path in enumerate(photos.images) if path.name.partition(".")[0] == name)
    with pytest.raises(
        kind, match=rf"rows.csv:{photos.lines[index]}: image '.*{name}.png'.*{says}"
    ):
        PixelStore(SPECS[0]).load(photos, np.array([index]))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_work_ahead_keeps_order_and_raises_in_its_place(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return 10 // (7 - item)

    got: list[int] = []
    with pytest.raises(ZeroDivisionError):
        got.extend(ahead(work, range(20), workers))
    assert got == [10 // (7 - item) for item in range(7)]


def test_work_ahead_runs_on_threads_and_at_most_workers_plus_one_results_wait() -> None:
    started: list[str] = []

    def work(item: int) -> int:
        started.append(threading.current_thread().name)
        return item

    stream = ahead(work, range(50), 2)
    assert next(stream) == 0
    time.sleep(0.05)
    assert 1 <= len(started) <= 4
    assert all(name.startswith("mismatch-train") for name in started)
    stream.close()
    time.sleep(0.05)
    assert len(started) <= 4
