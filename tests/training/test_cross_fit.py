"""Heads on folds: who is trained on what, that planted label errors stand out, and that only the
seed makes chance.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mismatch.errors import InputError
from mismatch.specs import HeadSpec
from mismatch.training import cross_fit
from mismatch.training.cross_fit import CrossFit, CrossFitPlan, folds_of
from mismatch.training.feeds.batches import PairSet

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = HeadSpec(
    "adapter",
    image_dim=12,
    text_dim=12,
    common_dim=12,
    hidden_dim=32,
    dropout=0.1,
    normalisation="standard",
    members=1,
)
ONCE = CrossFitPlan(folds=3, repeats=1)


def pair_set(image_of: Any, text_of: Any, labels: Any) -> PairSet:
    image_of, text_of = np.asarray(image_of, np.int64), np.asarray(text_of, np.int64)
    images, texts = int(image_of.max()) + 1, [f"text {i}" for i in range(int(text_of.max()) + 1)]
    return PairSet(
        csv_file="rows.csv",
        images=[Path(f"{i}.jpg") for i in range(images)],
        texts=texts,
        lines=np.arange(2, images + 2),
        image_of=image_of,
        text_of=text_of,
        labels=np.asarray(labels, np.float32),
        pieces=texts,
        piece_of=np.arange(len(texts)),
        starts=np.arange(len(texts) + 1),
    )


@pytest.fixture(scope="module")
def data() -> tuple[PairSet, Any, Any]:
    """240 images, each with a text of its own that describes it and one of another; both embed one
    of 12 things.
    """
    rng = np.random.default_rng(0)
    thing = np.arange(240) % 12
    images, texts = (np.eye(12)[thing] + 0.2 * rng.standard_normal((240, 12)) for _ in range(2))
    other = (np.arange(240) + 12 * rng.integers(0, 20, 240) + rng.integers(1, 12, 240)) % 240
    pairs = pair_set([*range(240), *range(240)], [*range(240), *other], [1] * 240 + [0] * 240)
    return pairs, images.astype(np.float32), texts.astype(np.float32)


@pytest.fixture(scope="module")
def planted(data: tuple[PairSet, Any, Any]) -> tuple[CrossFit, Any]:
    """The same with 24 labels turned round, and which."""
    pairs, images, texts = data
    wrong = np.random.default_rng(5).choice(480, 24, replace=False)
    labels = pairs.labels.copy()
    labels[wrong] = 1 - labels[wrong]
    return CrossFit(replace(pairs, labels=labels), images, texts, SPEC), wrong


def test_planted_errors_stand_in_front(planted: tuple[CrossFit, Any]) -> None:
    cross, wrong = planted
    done: list[int] = []
    fitted = cross.fit(CrossFitPlan(folds=4, repeats=2), advance=done.append)
    assert len(done) == 8
    assert fitted.repeats.shape == (2, 480)
    assert fitted.probabilities.min() >= 0
    assert fitted.probabilities.max() <= 1
    suspicion = np.where(cross.pairs.labels == 1, 1 - fitted.probabilities, fitted.probabilities)
    # the first tenth holds nearly all 24
    assert len(set(np.argsort(-suspicion)[:48]) & set(wrong)) >= 22


def test_a_seed_is_a_result(planted: tuple[CrossFit, Any]) -> None:
    cross, _ = planted
    first, other = cross.fit(ONCE), cross.fit(replace(ONCE, seed=1))
    torch.manual_seed(99)
    again = cross.fit(ONCE)
    assert (first.probabilities == again.probabilities).all()
    assert not (first.probabilities == other.probabilities).all()


def test_the_callers_chance_is_left_alone(planted: tuple[CrossFit, Any]) -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    planted[0].fit(ONCE)
    assert (torch.get_rng_state() == before).all()


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PairSet, PairSet]]:
    """What each head is trained on and then scores, the training itself left out."""
    seen: list[tuple[PairSet, PairSet]] = []

    class Scores:
        def __init__(self, train: PairSet) -> None:
            self.train = train

        def logits(self, pairs: PairSet, images: Any, pieces: Any) -> Any:
            seen.append((self.train, pairs))
            return np.linspace(-1, 1, len(pairs), dtype=np.float32)

    monkeypatch.setattr(cross_fit, "_trained", lambda pairs, *_: Scores(pairs))
    return seen


def test_no_image_and_no_text_is_on_both_sides(
    data: tuple[PairSet, Any, Any], trained_on: list[tuple[PairSet, PairSet]]
) -> None:
    fitted = CrossFit(*data, SPEC).fit(CrossFitPlan(folds=4, repeats=2))
    assert fitted.texts_apart
    assert len(trained_on) == 8
    for train, scored in trained_on:
        assert not set(train.image_of) & set(scored.image_of)
        assert not set(train.text_of) & set(scored.text_of)
    for repeat in (trained_on[:4], trained_on[4:]):
        assert sorted(
            i for _, scored in repeat for i in zip(scored.image_of, scored.text_of, strict=True)
        ) == sorted(zip(data[0].image_of, data[0].text_of, strict=True))
    # other folds the second time
    assert {*trained_on[0][1].image_of} != {*trained_on[4][1].image_of}


def test_one_picture_under_two_names_is_one_image(
    data: tuple[PairSet, Any, Any], trained_on: list[tuple[PairSet, PairSet]]
) -> None:
    pairs, images, texts = data
    images = images.copy()
    images[120:] = images[:120]
    CrossFit(pairs, images, texts, SPEC).fit(ONCE)
    for train, scored in trained_on:
        assert not set(train.image_of % 120) & set(scored.image_of % 120)


def test_texts_that_recur_everywhere_stay_and_it_is_said(
    trained_on: list[tuple[PairSet, PairSet]],
) -> None:
    images, texts = (
        np.random.default_rng(i).standard_normal((count, 12)).astype(np.float32)
        for i, count in enumerate((60, 2))
    )
    pairs = pair_set(
        [*range(60)] * 2,
        [0] * 60 + [1] * 60,
        [i % 2 for i in range(60)] + [1 - i % 2 for i in range(60)],
    )
    assert not CrossFit(pairs, images, texts, SPEC).fit(ONCE).texts_apart
    assert all(
        not set(train.image_of) & set(scored.image_of) and len(train) == 80
        for train, scored in trained_on
    )


def test_later_heads_don_t_learn_from_what_the_first_deny(
    data: tuple[PairSet, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Denies:
        """Row 7, of image 7 and text 7, is a match by its label and not by this."""

        def logits(self, pairs: PairSet, images: Any, pieces: Any) -> Any:
            own = (pairs.image_of == 7) & (pairs.text_of == 7)
            return np.where(own, -9, np.where(pairs.labels == 1, 3, -3)).astype(np.float32)

    def train(pairs: PairSet, *_: Any) -> Denies:
        seen.append(int(((pairs.image_of == 7) & (pairs.text_of == 7)).sum()))
        return Denies()

    monkeypatch.setattr(cross_fit, "_trained", train)
    CrossFit(*data, SPEC).fit(CrossFitPlan(folds=4, repeats=2))
    assert sum(seen[:4]) > 0
    assert sum(seen[4:]) == 0


def test_folds_share_the_groups_out_evenly() -> None:
    groups = np.repeat(np.arange(10), 3)
    fold_of = folds_of(groups, 4, (0, 0))
    assert all(len(set(fold_of[groups == group])) == 1 for group in range(10))
    assert sorted(len(set(groups[fold_of == fold])) for fold in range(4)) == [2, 2, 3, 3]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match="3 different images are too few for 5 folds"):
        folds_of(np.array([0, 1, 2, 2]), 5, (0,))


def test_labels_that_are_all_alike_without_a_fold_are_refused(
    data: tuple[PairSet, Any, Any],
) -> None:
    pairs, images, texts = data
    lone = replace(pairs, labels=np.where(pairs.image_of == 3, 1, 0).astype(np.float32))
    with pytest.raises(InputError, match="every label is alike"):
        CrossFit(lone, images, texts, SPEC).fit(ONCE)
