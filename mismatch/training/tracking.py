"""Trackers by name, `track="tensorboard,wandb"`: options, each epoch's figures and, now and then, a
step's, through accelerate's classes.

A tracker that fails is a warning and is left out from there on; it never ends a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mismatch.errors import MissingExtraError
from mismatch.io.text import one_line
from mismatch.runtime.libraries import send_nothing
from mismatch.training.callbacks import warn
from mismatch.training.config import TrainConfig
from mismatch.training.folder.history import History

__all__ = ["PROJECT", "Trackers", "require_trackers"]

PROJECT = "mismatch"  # wandb's and trackio's project, mlflow's experiment
LOGS = "tensorboard"  # folder of event files in the run's own folder
PLAIN = {
    "train_losses": "train/loss",
    "train_contrastive_losses": "train/contrastive_loss",
    "seconds": "train/seconds",
    "val_losses": "val/loss",
    "val_accuracies": "val/accuracy",
    "rows_per_second": "train/rows_per_second",
    "learning_rates": "rate/backbone",
    "head_learning_rates": "rate/head",
}


def require_trackers(config: TrainConfig) -> None:
    """Refuse a tracker that isn't installed: MissingExtraError, with the line that installs it."""
    for name in config.trackers:
        if find_spec(name) is None:
            raise MissingExtraError(f"`track={name}`", package=name)


class Trackers:
    """The trackers of one run, none or several; what is logged goes to all of them."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.open: dict[str, Any] = {}  # by name, those that have not failed

    def start(self) -> None:
        """Open them and log the options; only the first of several processes does."""
        if not self.config.trackers:
            return
        from accelerate import PartialState

        # accelerate's trackers need this state
        if not PartialState(cpu=self.config.device == "cpu").is_main_process:
            return
        name = (
            self.config.run_name
            or f"{Path(self.config.output_dir).resolve().name}-{datetime.now():%Y%m%d-%H%M%S}"
        )
        self.open = {
            tracker: _MAKERS[tracker](name, self.config) for tracker in self.config.trackers
        }
        self._each(lambda tracker: tracker.start())
        options = {key: value for key, value in self.config.to_dict().items() if value is not None}
        self._each(lambda tracker: tracker.store_init_configuration(options))

    def log(self, values: Mapping[str, float | None], step: int) -> None:
        """Log figures by name at a step, counted from the run's first; those that do not exist are
        left out.
        """
        finite = {
            name: float(value)
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        }
        self._each(lambda tracker: tracker.log(finite, step=step))

    def epoch(self, history: History, step: int) -> None:
        """Log the last epoch's figures, at its last step."""
        figures = {
            PLAIN.get(name, name.replace("val_", "val/")): value
            for name, value in history.last().items()
            if not isinstance(value, list)
        }
        self.log(figures | {"epoch": len(history.lists["train_losses"])}, step)

    def finish(self) -> None:
        """Close them."""
        self._each(lambda tracker: tracker.finish())
        self.open = {}

    def _each(self, tell: Callable[[Any], object]) -> None:
        for name, tracker in list(self.open.items()):
            try:
                tell(tracker)
            # a service far away may fail in any way; the run goes on
            except (Exception, SystemExit) as error:  # noqa: BLE001
                del self.open[name]
                warn(
                    "tracker",
                    f"`track={name}` failed and is left out from here on: {one_line(error)}",
                )


def _tensorboard(name: str, config: TrainConfig) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(name, Path(config.output_dir) / LOGS)


def _wandb(name: str, config: TrainConfig) -> Any:
    send_nothing("wandb")
    from accelerate.tracking import WandBTracker

    return WandBTracker(PROJECT, name=name)


def _mlflow(name: str, config: TrainConfig) -> Any:
    send_nothing("mlflow")
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(PROJECT, run_name=name)


def _trackio(name: str, config: TrainConfig) -> Any:
    send_nothing("gradio", "huggingface_hub")
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=name)


_MAKERS: Mapping[str, Callable[[str, TrainConfig], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
