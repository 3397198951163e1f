"""Options of training that don't go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.training.config import TrainConfig

from dataclasses import fields

from mismatch.errors import InputError
from mismatch.specs import FEATURES
from mismatch.training.tuning.modes import MODES

__all__ = ["TRACKERS", "check_combinations", "check_names"]

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def check_names(config: TrainConfig) -> None:
    """Refuse names in options that hold several, or a number."""
    if config.mode not in MODES or config.tune == "last-N":
        raise InputError(
            f"`tune` is {config.tune!r}; one of {', '.join(MODES)} (last-1, last-2, …) is needed",
            option="tune",
        )
    unknown = [name for name in config.trackers if name not in TRACKERS]
    if unknown:
        raise InputError(
            f"`track` {config.track}: {unknown[0]!r} is unknown; {', '.join(TRACKERS)} are known",
            option="track",
        )
    unknown = [name for name in config.feature_names or () if name not in FEATURES]
    if unknown:
        raise InputError(
            f"`features` names {unknown[0]!r}; auto, none, or some of {','.join(FEATURES)} is"
            " needed",
            option="features",
        )
    if not str(config.output_dir).strip():
        raise InputError("`output_dir` is empty; name a folder", option="output_dir")


def check_combinations(config: TrainConfig) -> None:
    """Refuse options that don't go together."""
    if config.feature_names and config.head != "adapter":
        raise InputError(
            f"`features` {config.features} needs `head='adapter'`; {config.head} compares the"
            " embeddings alone"
        )
    if config.tune == "head" and config.learning_rate is not None:
        raise InputError(
            "`learning_rate` is the backbone's, which `tune='head'` freezes; use"
            " `head_learning_rate`"
        )
    if config.fsdp and config.tune == "head":
        raise InputError(
            "`fsdp` spreads a backbone in training, and `tune='head'` trains none; leave it out"
        )
    if config.fsdp and config.compile:
        raise InputError("`fsdp` and `compile` don't go together; leave one of them out")
    for option in fields(config):
        modes = option.metadata.get("modes", MODES)
        if getattr(config, option.name) is not None and config.mode not in modes:
            needed = " and ".join([f"`tune='{modes[0]}'`", *modes[1:]])
            raise InputError(
                f"`{option.name}` is for {needed}; leave it out with `tune='{config.tune}'`"
            )
    if config.early_stopping is not None and config.val_csv is None and config.val_fraction == 0:
        raise InputError(
            "`early_stopping` needs validation rows; pass `val_csv`, a `val_fraction` above 0, or"
            " leave it out"
        )
