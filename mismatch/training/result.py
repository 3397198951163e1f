"""What a run leaves: folders of models, and its figures by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["TrainResult"]


@dataclass(frozen=True)
class TrainResult:
    """Where a run's models lie, and what training_stats.json says.

    `best_model`: checkpoint of the best epoch; takes mismatch.load and export.
    `final_model`: checkpoint of the last epoch.
    `best_epoch`: number of the best epoch, counted from 1.
    `history`: figure → its value after each epoch: train_losses, val_losses (nats), val_auroc
        (0..1) …; lists of validation are empty where there were no rows for it.
    `best_validation`: best_model's figures at its stored threshold; None without validation rows.
    `stats`: all of training_stats.json.
    """

    best_model: Path
    final_model: Path
    best_epoch: int
    history: dict[str, list[Any]] = field(repr=False)
    best_validation: dict[str, Any] | None = field(repr=False)
    stats: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, best_model: Path, final_model: Path, stats: Mapping[str, Any]) -> TrainResult:
        """Make it of the run's statistics."""
        lists = {name: list(values) for name, values in stats.items() if isinstance(values, list)}
        return cls(
            best_model=best_model,
            final_model=final_model,
            best_epoch=int(stats.get("best_epoch", 0)),
            history=lists,
            best_validation=stats.get("best_validation"),
            stats=dict(stats),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only: both folders, and what training_stats.json says."""
        folders = {"best_model": str(self.best_model), "final_model": str(self.final_model)}
        return folders | self.stats
