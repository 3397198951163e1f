"""What `train` returns."""

from __future__ import annotations

import json
from pathlib import Path

from mismatch.training.result import TrainResult

STATS = {
    "best_epoch": 2,
    "train_losses": [0.7, 0.5],
    "val_losses": [0.6, 0.4],
    "best_validation": {"accuracy": 0.9},
    "config": {"epochs": 2},
}


def test_the_lists_of_the_statistics_are_its_history() -> None:
    result = TrainResult.of(Path("run/best_model"), Path("run/final_model"), STATS)
    assert result.best_epoch == 2
    assert result.history == {"train_losses": [0.7, 0.5], "val_losses": [0.6, 0.4]}
    assert result.best_validation == {"accuracy": 0.9}
    assert result.stats == STATS


def test_it_is_json_and_its_repr_is_short() -> None:
    result = TrainResult.of(Path("run/best_model"), Path("run/final_model"), STATS)
    data = json.loads(json.dumps(result.to_dict()))
    assert data == {"best_model": "run/best_model", "final_model": "run/final_model"} | STATS
    assert "train_losses" not in repr(result)
