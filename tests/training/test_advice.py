"""Warnings in words: when each is said, that it is said once, and that a run that goes well hears
none.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mismatch.training.advice import Adviser, warn_of_balance, warn_of_rate
from mismatch.training.callbacks import Callback, TrainWarning, heard_by
from mismatch.training.config import TrainConfig

FINE, ALL_MISMATCH, ALL_MATCH = [[8, 2], [1, 9]], [[10, 0], [10, 0]], [[0, 10], [0, 10]]


def heard(
    val: list[float], train: list[float], matrices: list[Any] | None = None, **options: Any
) -> list[tuple[int, str]]:
    """The warnings by the epoch after which they were said."""
    warnings: list[tuple[int, str]] = []
    epoch = 0

    class Hearing(Callback):
        def on_warning(self, warning: TrainWarning) -> None:
            warnings.append((epoch, warning.message))

    adviser = Adviser(TrainConfig(train_csv="t.csv", **{"epochs": 10} | options))
    matrices = matrices or [FINE] * len(train)
    for epoch in range(1, len(train) + 1):
        lists = {
            "val_losses": val[:epoch],
            "train_losses": train[:epoch],
            "confusion_matrices": matrices[:epoch] if val else [],
        }
        history: Any = SimpleNamespace(lists=lists)
        with heard_by([Hearing()]):
            adviser.look(history)
    return warnings


def test_overfitting_is_said_three_epochs_after_the_best_one_and_once() -> None:
    [(epoch, line)] = heard(
        [0.5, 0.4, 0.41, 0.42, 0.45, 0.5, 0.6], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    )
    assert epoch == 5
    assert (
        line == "validation loss was best at epoch 2 (0.4000) and has risen to 0.4500, while"
        " training loss fell from 0.5000 to 0.2000: the rows are being learnt by heart"
        " (overfitting); `early_stopping=3` or `epochs=2` stops in time, more rows help"
    )
    [(_, line)] = heard([0.4, 0.5, 0.5, 0.5], [0.6, 0.5, 0.4, 0.3], early_stopping=5)
    assert "(overfitting); `epochs=1` stops in time" in line


@pytest.mark.parametrize(
    ("val", "train"),
    [
        ([0.5, 0.4, 0.41, 0.42], [0.6, 0.5, 0.4, 0.3]),  # two epochs since
        # a new best one in between
        ([0.5, 0.4, 0.41, 0.42, 0.39, 0.4, 0.4], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]),
        ([0.4, 0.5, 0.5, 0.5, 0.6], [0.3, 0.4, 0.5, 0.6, 0.7]),  # training loss rises as well
        # a rise of 2 %, which is chance
        ([0.5, 0.4, 0.4, 0.405, 0.407], [0.6, 0.5, 0.4, 0.3, 0.2]),
        # a rate that is too high, whose harm wears off
        ([0.7, 0.4, 0.9, 0.8, 0.6], [0.5, 3.0, 2.0, 1.0, 0.6]),
        ([], [0.6, 0.5, 0.4, 0.3, 0.2]),
    ],
)
def test_no_overfitting(val: list[float], train: list[float]) -> None:
    assert heard(val, train) == []


@pytest.mark.parametrize(
    ("matrix", "side", "called"),
    [(ALL_MISMATCH, "below", "a mismatch"), (ALL_MATCH, "at or above", "a match")],
)
def test_scores_on_one_side_are_said_when_two_epochs_have_them(
    matrix: Any, side: str, called: str
) -> None:
    [(epoch, line)] = heard([0.5] * 5, [0.5] * 5, [matrix, FINE, matrix, matrix, matrix])
    assert epoch == 4
    assert line.startswith(
        f"every validation score is {side} 0.5 after epoch 4, so at 0.5 every row would be"
        f" called {called}; the threshold"
    )


def test_scores_on_one_side_are_said_after_the_last_epoch_too() -> None:
    assert [epoch for epoch, _ in heard([0.5], [0.5], [ALL_MATCH], epochs=1)] == [1]
    assert heard([0.5], [0.5], [ALL_MATCH], epochs=2) == []
    assert heard([0.5] * 3, [0.5] * 3, [ALL_MATCH, ALL_MISMATCH, FINE]) == []


def test_validation_rows_of_one_label_lie_on_one_side_rightly() -> None:
    assert heard([0.5] * 3, [0.5] * 3, [[[0, 0], [0, 10]]] * 3) == []


@pytest.mark.parametrize(
    ("matches", "line"),
    [
        (
            19,
            (
                "warning: training: only 19.0% of the rows are labelled 1 (match); roughly equal"
                " numbers work best"
            ),
        ),
        (20, None),
        (80, None),
        (
            81,
            (
                "warning: training: only 19.0% of the rows are labelled 0 (mismatch); roughly equal"
                " numbers work best"
            ),
        ),
    ],
)
def test_labels_out_of_balance(logged: list[str], matches: int, line: str | None) -> None:
    warn_of_balance(np.array([1.0] * matches + [0.0] * (100 - matches), np.float32))
    assert logged == ([] if line is None else [line])


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (9e-7, "--learning-rate 9e-07 is below 1e-06: a backbone hardly moves"),
        (1e-6, None),
        (None, None),
        (1e-4, None),
        (
            2e-4,
            (
                "--learning-rate 0.0002 is above 1e-04: a pretrained backbone tends to break,"
                " random weights may need it"
            ),
        ),
    ],
)
def test_a_rate_that_rarely_works(logged: list[str], rate: float | None, words: str | None) -> None:
    warn_of_rate(TrainConfig(train_csv="t.csv", learning_rate=rate))
    assert logged == (
        []
        if words is None
        else [f"warning: {words}; 1e-5 to 5e-5 is a good start for a pretrained one"]
    )
    warn_of_rate(TrainConfig(train_csv="t.csv", tune="head", head_learning_rate=0.1))
    assert len(logged) == (words is not None)
