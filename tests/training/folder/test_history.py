"""What a run says of itself: the figures of a look at the validation rows, and the lists of
training_stats.json.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mismatch.errors import InputError
from mismatch.training.config import TrainConfig
from mismatch.training.folder.history import PLAIN, History, Validation, threshold_objective

LABELS = np.array([1, 1, 0, 0], np.float32)
LOGITS = np.array([2.0, -1.0, 0.5, -3.0], np.float32)
OPTIMIZER: Any = SimpleNamespace(
    param_groups=[{"part": "backbone", "lr": 1e-5}, {"part": "head", "lr": 1e-3}]
)


def history(validated: bool = True, **options: Any) -> History:
    feed: Any = SimpleNamespace(pairs=range(100))
    return History(
        TrainConfig(train_csv="t.csv", **options),
        feed,
        feed if validated else None,
        torch.device("cpu"),
    )


def found(logits: Any = LOGITS, labels: Any = LABELS) -> Validation:
    return Validation.of(np.array(logits, np.float32), labels, "accuracy")


def test_validation_figures_are_those_of_the_plain_probability_at_one_half() -> None:
    seen = found()
    assert seen.metrics["confusion_matrix"] == [[1, 1], [1, 1]]
    assert seen.metrics["log_loss"] == pytest.approx(
        np.mean(
            [np.log1p(np.exp(-2)), np.log1p(np.exp(1)), np.log1p(np.exp(0.5)), np.log1p(np.exp(-3))]
        )
    )
    assert seen.metrics["auroc"] == 0.75
    assert seen.tuned["accuracy"] == 0.75


def test_one_label_alone_is_not_calibrated() -> None:
    seen = found(labels=np.ones(4, np.float32))
    assert (seen.score, np.isnan(seen.metrics["auroc"])) == (PLAIN, True)


def test_an_entry_per_epoch_in_every_list() -> None:
    run = history()
    assert run.add(1, (0.7, 3.0), found(), 4.0, OPTIMIZER, val_seconds=0.5)
    assert run.add(2, (0.5, 2.0), found([2.0, 1.0, -0.5, -3.0]), 5.0, OPTIMIZER, val_seconds=0.25)
    assert not run.add(3, (0.4, 1.0), found(), 2.0, OPTIMIZER, val_seconds=0.25)
    stats = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    expected = {
        "train_losses": [0.7, 0.5, 0.4],
        "train_contrastive_losses": [3.0, 2.0, 1.0],
        "seconds": [4.0, 5.0, 2.0],
        "val_seconds": [0.5, 0.25, 0.25],
    }
    expected |= {
        "rows_per_second": [25.0, 20.0, 50.0],
        "learning_rates": [1e-5] * 3,
        "head_learning_rates": [1e-3] * 3,
    }
    expected |= {
        "val_accuracies": [0.5, 1.0, 0.5],
        "val_precision": [0.5, 1.0, 0.5],
        "val_recall": [0.5, 1.0, 0.5],
        "val_auroc": [0.75, 1.0, 0.75],
    }
    assert {name: stats[name] for name in expected} == expected
    assert stats["confusion_matrices"] == [[[1, 1], [1, 1]], [[2, 0], [0, 2]], [[1, 1], [1, 1]]]
    assert (stats["epochs"], stats["best_epoch"], stats["best_validation"]["accuracy"]) == (
        3,
        2,
        1.0,
    )
    assert run.last()["val_f1"] == 0.5
    assert run.line(5, best=False).startswith("epoch 3/5  train loss 0.4000  val loss 0.6")


def test_without_validation_its_lists_are_empty_and_the_last_epoch_is_best() -> None:
    """So that what reads `stats["val_losses"]`, as scripts do, draws nothing and does not fail."""
    run = history(validated=False)
    assert run.to_dict()["train_losses"] == []
    for epoch in (1, 2):
        assert run.add(epoch, (0.5, 1.0), None, 1.0, OPTIMIZER)
    stats = run.to_dict()
    assert {name for name, value in stats.items() if value == []} == {
        "val_losses",
        "val_accuracies",
        "val_precision",
        "val_recall",
        "val_f1",
        "val_auroc",
        "val_seconds",
        "confusion_matrices",
    }
    assert (stats["best_epoch"], stats["best_validation"], stats["train_losses"]) == (
        2,
        None,
        [0.5, 0.5],
    )
    assert run.line(2, best=True) == "epoch 2/2  train loss 0.5000  1.0 s  100 rows/s  best"


def test_elapsed_seconds_count_from_where_the_run_began(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 110.0, 117.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    run = history()
    run.began(100.0, embedding_seconds=2.5)
    run.add(1, (0.5, 1.0), None, 3.0, OPTIMIZER)
    run.add(2, (0.5, 1.0), None, 3.0, OPTIMIZER)
    stats = run.to_dict()
    assert (stats["elapsed_seconds"], stats["embedding_seconds"]) == ([10.0, 17.0], 2.5)


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, "accuracy"),
        ({"best_metric": "f1"}, "f1"),
        ({"threshold_objective": "mcc"}, "mcc"),
        ({"threshold_objective": "cost:miss=5,alarm=1.0"}, "cost:miss=5,alarm=1"),
        ({"threshold_objective": "mismatch precision>=0.95"}, "mismatch precision>=0.95"),
    ],
)
def test_what_the_threshold_is_chosen_for(options: dict[str, Any], written: str) -> None:
    assert threshold_objective(TrainConfig(train_csv="a.csv", **options)) == written


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(InputError, match="'profit' is unknown"):
        threshold_objective(TrainConfig(train_csv="a.csv", threshold_objective="profit"))


def test_a_target_is_kept_where_it_can_be_and_else_accuracy_counts() -> None:
    labels = np.array([0, 0, 1, 0, 1, 1] * 20, np.float32)
    logits = np.array([-2, -1, -0.5, 0.5, 1, 2] * 20, np.float32)
    kept = Validation.of(logits, labels, "mismatch precision>=0.95")
    assert kept.tuned["mismatch_precision"] >= 0.95
    assert kept.score.threshold is not None
    assert kept.score.threshold.objective == "mismatch precision>=0.95"
    beyond = Validation.of(-logits, labels, "mismatch precision>=0.95")
    assert beyond.score.threshold is not None
    assert beyond.score.threshold.objective == "accuracy"
