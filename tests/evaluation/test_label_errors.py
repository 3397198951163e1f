"""Suspicion, neighbours and the share of wrong labels: small cases worked out by hand, and flips
whose number is known.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError, MissingExtraError
from mismatch.evaluation import label_errors
from mismatch.evaluation.label_errors import (
    NEAREST_WEIGHT,
    Share,
    estimate_shares,
    find_label_errors,
    nearest_pairs,
    reason,
    require_cleanlab,
)


def test_suspicion_is_the_belief_in_the_other_label() -> None:
    found = find_label_errors([1, 1, 0, 0], [0.9, 0.03, 0.2, 0.6])
    assert found.scores == pytest.approx([0.1, 0.97, 0.2, 0.6])
    assert found.order.tolist() == [1, 3, 2, 0]


def test_the_nearest_pairs_have_their_say() -> None:
    found = find_label_errors([1, 1], [0.4, 0.4], [1.0, 0.1])
    assert found.scores == pytest.approx(
        [1 - (0.4 * (1 - NEAREST_WEIGHT) + NEAREST_WEIGHT * share) for share in (1.0, 0.1)]
    )
    assert found.order.tolist() == [1, 0]


def test_ties_stand_in_the_rows_order() -> None:
    assert find_label_errors([0, 1, 1, 0, 1], [0.5] * 5).order.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [[0.2, float("nan")], [0.2, 1.2], [-0.1, 0.5]])
def test_what_is_no_probability_is_refused(wrong: list[float]) -> None:
    with pytest.raises(InputError, match=r"numbers from 0 to 1|no score nan"):
        find_label_errors([1, 0], wrong)


def test_the_nearest_pairs_are_alike_on_both_sides() -> None:
    images = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
    texts = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [0, 0.1, 0.9]], np.float32)
    image_of, text_of = np.array([0, 1, 2, 3, 0, 1]), np.array([0, 1, 2, 3, 2, 3])
    found = nearest_pairs(images, texts, image_of, text_of, nearest=1)[:, 0]
    assert found.tolist() == [1, 0, 3, 2, 5, 4]


def test_half_of_a_pair_is_no_neighbour_and_the_same_pair_is_the_nearest() -> None:
    rng = np.random.default_rng(0)
    images, texts = (
        rng.standard_normal((4, 8)).astype(np.float32),
        rng.standard_normal((4, 8)).astype(np.float32),
    )
    image_of, text_of = np.array([0, 0, 1, 2, 0]), np.array([0, 1, 0, 2, 0])
    found = nearest_pairs(images, texts, image_of, text_of, nearest=2)
    assert found[0].tolist() == [4, 3]  # the same pair, then another pair; not (0, 1) and (1, 0)
    assert not (found == np.arange(5)[:, None]).any()


def test_neighbours_are_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    images, texts = (
        rng.standard_normal((30, 5)).astype(np.float32),
        rng.standard_normal((20, 4)).astype(np.float32),
    )
    image_of, text_of = rng.integers(0, 30, 60), rng.integers(0, 20, 60)
    whole = nearest_pairs(images, texts, image_of, text_of)
    monkeypatch.setattr(label_errors, "BLOCK", 60 * 7)
    assert whole.shape == (60, 10)
    assert (nearest_pairs(images, texts, image_of, text_of) == whole).all()


def test_few_rows_have_few_neighbours() -> None:
    one = np.ones((1, 2), np.float32)
    assert nearest_pairs(one, one, np.array([0]), np.array([0])).shape == (1, 0)


def flipped(share: float, rows: int = 4000) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Labels of which a share is wrong, and probabilities that know the truth nearly always."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, rows)
    wrong = rng.random(rows) < share
    return np.where(wrong, 1 - truth, truth), np.clip(
        np.where(truth == 1, 0.95, 0.05) + rng.normal(0, 0.02, rows), 0, 1
    )


def kinds_of(labels: np.ndarray[Any, Any]) -> list[str]:
    return ["match" if label else "mismatch" for label in labels]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_the_share_of_wrong_labels_is_found_with_its_range(share: float) -> None:
    labels, probabilities = flipped(share)
    found = estimate_shares(labels, probabilities, kinds_of(labels)).all_rows
    assert found.low <= share <= found.high
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.12
    assert found.confident == pytest.approx(share, abs=0.01)
    assert found.rows == 4000


def test_the_share_is_said_in_words() -> None:
    labels, probabilities = flipped(0.03)
    said = estimate_shares(labels, probabilities, kinds_of(labels)).all_rows.words()
    assert re.fullmatch(
        r"about \d\.\d % of 4,000 labels look wrong \(\d+\), \d\.\d to \d\.\d % with a certainty of"
        r" nine in ten",
        said,
    )


def test_a_share_that_can_not_be_known_is_said_in_words() -> None:
    said = Share(0.1, 0.02, 0.31, 0.2, 400, "heads guess").words()
    assert said.startswith("how many of 400 labels are wrong can't be told, as heads guess")
    assert "2.0 to 31.0 %" in said


def test_one_label_has_no_share() -> None:
    with pytest.raises(InputError, match="both labels"):
        estimate_shares([1, 1, 1], [0.2, 0.9, 0.8], ["match"] * 3)


@pytest.mark.parametrize(
    ("label", "probability", "nearest", "words"),
    [
        (
            1,
            0.031,
            [0] * 8 + [1] * 2,
            (
                "labelled match, but heads trained without it give 0.03; 8 of its 10 nearest pairs"
                " are mismatches"
            ),
        ),
        (
            0,
            0.9,
            [1, 0, 0],
            (
                "labelled mismatch, but heads trained without it give 0.90; 1 of its 3 nearest"
                " pairs are matches"
            ),
        ),
        (1, 0.7, [], "labelled match, and heads trained without it give 0.70"),
    ],
)
def test_the_reason_is_words(
    label: int, probability: float, nearest: list[int], words: str
) -> None:
    assert reason(label, probability, nearest) == words


def test_a_missing_cleanlab_is_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cleanlab", "cleanlab.rank"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r'pip install "mismatch-clip\[audit\]"'):
        require_cleanlab()
