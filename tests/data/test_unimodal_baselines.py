"""mismatch.data.unimodal_baselines: planted leaks are found, clean sets are at chance."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mismatch.data.unimodal_baselines import blind_image_auroc, blind_text_auroc, telltales
from mismatch.errors import InputError, MissingExtraError

WORDS = (
    "red",
    "blue",
    "green",
    "shirt",
    "shoe",
    "bag",
    "cotton",
    "summer",
    "large",
    "small",
    "striped",
    "plain",
)


def drawn(count: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.random.Generator]:
    random = np.random.default_rng(seed)
    texts = [
        " ".join([*random.choice(WORDS, 4), f"n{number % (count // 2)}"]) for number in range(count)
    ]
    return texts, random.integers(0, 2, count), random


def test_texts_without_a_leak_are_at_chance() -> None:
    texts, labels, _ = drawn(2000)
    assert blind_text_auroc(texts, labels) == pytest.approx(0.5, abs=0.03)


def test_a_word_that_only_mismatches_have_is_found_and_named() -> None:
    texts, labels, random = drawn(2000)
    leaking = [
        f"{text} fake" if not label and random.random() < 0.9 else text
        for text, label in zip(texts, labels, strict=True)
    ]
    assert blind_text_auroc(leaking, labels) > 0.9
    [told, *_] = telltales(leaking, labels)
    assert (told.word, told.mismatches) == ("fake", 1.0)
    assert told.rows == sum("fake" in text for text in leaking)


def test_texts_that_are_match_and_mismatch_are_not_learnt_by_heart_the_wrong_way() -> None:
    texts, *_ = drawn(800)
    unique = list(dict.fromkeys(texts))
    twice, labels = unique * 2, [1] * len(unique) + [0] * len(unique)
    assert blind_text_auroc(twice, labels) == pytest.approx(0.5, abs=1e-6)
    images = [*range(len(unique)), *np.random.default_rng(0).permutation(len(unique)).tolist()]
    assert blind_text_auroc(twice, labels, images) == pytest.approx(0.5, abs=0.04)


def test_images_alone() -> None:
    _, labels, random = drawn(1000)
    features = random.standard_normal((1000, 8))
    images = [number // 2 for number in range(1000)]
    assert blind_image_auroc(features, labels, images) == pytest.approx(0.5, abs=0.05)
    features[:, 3] += 2 * labels
    assert blind_image_auroc(features * 100 + 7, labels, images) > 0.85


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels, _ = drawn(3000)
    monkeypatch.setattr("mismatch.data.unimodal_baselines.MAX_BASELINE_ROWS", 500)
    assert blind_text_auroc(texts, labels, seed=1) != blind_text_auroc(texts, labels, seed=2)
    assert blind_text_auroc(texts, labels, seed=1) == blind_text_auroc(texts, labels, seed=1)


def test_labels_of_one_kind_are_refused() -> None:
    with pytest.raises(InputError, match="rows of both labels"):
        blind_text_auroc(["a", "b"], [1, 1])


def test_without_the_library_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(
        MissingExtraError,
        match=r'a blind baseline needs the extra \[audit\]: pip install "mismatch-clip\[audit\]"',
    ):
        blind_text_auroc(["a", "b"], [0, 1])
