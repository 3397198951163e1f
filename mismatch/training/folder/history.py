"""What a run has found out: a look at the validation rows, and training_stats.json, a list per
figure and an entry per epoch.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mismatch.errors import InputError
from mismatch.evaluation.calibration import fit_calibration
from mismatch.evaluation.metrics import binary_metrics
from mismatch.evaluation.objectives import Objective
from mismatch.evaluation.threshold import choose_threshold
from mismatch.runtime.scoring import scores_from_logits
from mismatch.specs import ScoreSpec
from mismatch.training.config import TrainConfig
from mismatch.training.feeds.feeds import Feed
from mismatch.training.optim import rate_of

__all__ = [
    "FIGURES",
    "MORE_FIGURES",
    "PLAIN",
    "History",
    "Validation",
    "threshold_objective",
]

PLAIN = ScoreSpec("probability", 0.5)


@dataclass(frozen=True)
class Validation:
    """What one look at the validation rows found."""

    metrics: dict[str, Any]  # of the plain probability at 0.5
    score: ScoreSpec  # with calibration and threshold
    tuned: dict[str, Any]  # metrics of the calibrated score at the stored threshold

    @classmethod
    def of(
        cls, logits: NDArray[np.float32], labels: NDArray[np.float32], objective: str
    ) -> Validation:
        """Validate (N,) logits by (N,) labels; without both labels there is no calibration and no
        threshold. Where `objective` is a target that no threshold reaches, the one of the best
        accuracy is taken.
        """
        metrics = binary_metrics(labels, scores_from_logits(logits, PLAIN), PLAIN.default_threshold)
        # unclipped, as the training loss
        metrics["log_loss"] = float(
            np.logaddexp(0, np.where(labels == 1, -1.0, 1.0) * logits.astype(np.float64)).mean()
        )
        if len(np.unique(labels)) < 2:
            return cls(metrics, PLAIN, metrics)
        calibrated = replace(PLAIN, calibration=fit_calibration(logits, labels))
        scores = scores_from_logits(logits, calibrated)
        try:
            threshold = choose_threshold(labels, scores, objective)
        except InputError:  # a target that is out of reach as yet
            threshold = choose_threshold(labels, scores)
        score = replace(calibrated, threshold=threshold)
        return cls(metrics, score, binary_metrics(labels, scores, score.threshold_in_use))


def threshold_objective(config: TrainConfig) -> str:
    """Return what the stored threshold is chosen for; InputError for something unknown."""
    return str(
        Objective.parse(
            config.threshold_objective or ("f1" if config.best_metric == "f1" else "accuracy")
        )
    )


VALIDATION_LISTS = MappingProxyType(  # list in training_stats.json → figure of `Validation.metrics`
    {
        "val_losses": "log_loss",
        "val_accuracies": "accuracy",
        "val_precision": "precision",
        "val_recall": "recall",
        "val_f1": "f1",
        "val_auroc": "auroc",
        "confusion_matrices": "confusion_matrix",
    }
)

# keys of training_stats.json, in all versions and runs
FIGURES = ("epochs", "best_epoch", "best_metric", "train_losses", "config")
# in some
MORE_FIGURES = (
    *VALIDATION_LISTS,
    "best_validation",
    "device",
    "elapsed_seconds",
    "embedding_seconds",
    "finished",
    "head_learning_rates",
    "learning_rates",
    "long_text",
    "long_texts",
    "precision",
    "processes",
    "rows_digest",
    "rows_per_second",
    "rows_per_step",
    "seconds",
    "torch",
    "train_contrastive_losses",
    "train_rows",
    "val_rows",
    "val_seconds",
)


class History:
    """What training_stats.json says: a list per figure, an entry per epoch; the lists of validation
    are empty where there is none.
    """

    def __init__(
        self, config: TrainConfig, feed: Feed, val_feed: Feed | None, device: torch.device
    ) -> None:
        self.config = config
        self.finished = False
        self.facts: dict[str, Any] = {
            "device": str(device),
            "torch": torch.__version__,
            "train_rows": len(feed.pairs),
            "val_rows": len(val_feed.pairs) if val_feed else 0,
        }
        self.rows = len(feed.pairs)
        self.lists: dict[str, list[Any]] = {
            name: []
            for name in (
                "train_losses",
                "train_contrastive_losses",
                *VALIDATION_LISTS,
                "val_seconds",
            )
        }
        self.mark = time.perf_counter()  # up to which `elapsed_seconds` counts
        self.best_epoch = 0
        self.best_key = (-math.inf, -math.inf)
        self.best_validation: Validation | None = None

    def began(self, start: float, embedding_seconds: float) -> None:
        """Take note of when the run began, by `time.perf_counter`, and how long a frozen backbone's
        embeddings took, the cache's share included.
        """
        self.mark = start
        self.facts["embedding_seconds"] = embedding_seconds

    def add(
        self,
        epoch: int,
        losses: tuple[float, float],
        validation: Validation | None,
        seconds: float,
        optimizer: torch.optim.Optimizer,
        val_seconds: float = 0.0,
    ) -> bool:
        """Add an epoch; returns whether it is the best so far. `seconds` are those of training
        alone, `elapsed_seconds` all since the run began.
        """
        now = time.perf_counter()
        elapsed = self.last().get("elapsed_seconds", 0.0) + now - self.mark
        self.mark = now
        self._append(
            train_losses=losses[0],
            train_contrastive_losses=losses[1],
            seconds=seconds,
            rows_per_second=self.rows / seconds,
        )
        self._append(elapsed_seconds=elapsed)
        self._append(
            learning_rates=rate_of(optimizer, "backbone"),
            head_learning_rates=rate_of(optimizer, "head"),
        )
        if validation is None:
            self.best_epoch = epoch
            return True
        self._append(
            **{
                name: _number(validation.metrics[figure])
                for name, figure in VALIDATION_LISTS.items()
            },
            val_seconds=val_seconds,
        )
        key = _rank(self.config.best_metric, validation.metrics)
        if key <= self.best_key and self.best_epoch:
            return False
        self.best_epoch = epoch
        self.best_key = key
        self.best_validation = validation
        return True

    def _append(self, **values: Any) -> None:
        for name, value in values.items():
            self.lists.setdefault(name, []).append(value)

    def last(self) -> dict[str, Any]:
        """Return the last epoch's figures by the names of their lists."""
        return {name: values[-1] for name, values in self.lists.items() if values}

    def line(self, epochs: int, best: bool) -> str:
        """Return the last epoch as a line for people."""
        last = self.last()
        parts = [
            f"epoch {len(self.lists['train_losses'])}/{epochs}",
            f"train loss {last['train_losses']:.4f}",
        ]
        if "val_losses" in last:
            auroc = "none" if last["val_auroc"] is None else f"{last['val_auroc']:.4f}"
            parts += [
                f"val loss {last['val_losses']:.4f}",
                f"accuracy {last['val_accuracies']:.4f}",
                f"F1 {last['val_f1']:.4f}",
                f"AUROC {auroc}",
            ]
        return "  ".join(
            [
                *parts,
                f"{last['seconds']:.1f} s",
                f"{last['rows_per_second']:,.0f} rows/s",
                *(["best"] if best else []),
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what has been found out so far; `facts` are those of the process."""
        best = self.best_validation
        validation = (
            None
            if best is None
            else {"metrics": best.metrics, "score": best.score.to_dict(), "tuned": best.tuned}
        )
        return {
            "lists": self.lists,
            "best_epoch": self.best_epoch,
            "best_key": list(self.best_key),
            "best_validation": validation,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        validation = state_dict["best_validation"]
        self.lists = state_dict["lists"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_key = (state_dict["best_key"][0], state_dict["best_key"][1])
        self.best_validation = validation and Validation(
            validation["metrics"], ScoreSpec.from_dict(validation["score"]), validation["tuned"]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types; figures that do not exist are null."""
        best = (
            None
            if self.best_validation is None
            else {name: _number(value) for name, value in self.best_validation.tuned.items()}
        )
        return {
            "finished": self.finished,
            "epochs": len(self.lists["train_losses"]),
            "best_epoch": self.best_epoch,
            "best_metric": self.config.best_metric,
            **{name: list(values) for name, values in self.lists.items()},
            "best_validation": best,  # of best_model's calibrated score at its stored threshold
            **self.facts,
            "config": self.config.to_dict(),
        }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rank(metric: str, metrics: dict[str, Any]) -> tuple[float, float]:
    """Return what best_model is chosen by: the metric, then the lower loss. A metric that does not
    exist counts as worst.
    """
    loss = -float(metrics["log_loss"])
    value = loss if metric == "loss" else float(metrics[metric])
    return (-math.inf if math.isnan(value) else value), loss
