"""Every option of training, with its default and its help, once: the API, the command line and the README read it from here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, get_args

from mismatch.errors import InputError
from mismatch.specs import LongText

__all__ = ["BEST_METRICS", "HEADS", "MODES", "TrainConfig", "default_text", "help_text"]

HEADS = ("adapter", "cosine")
BEST_METRICS = ("accuracy", "loss", "auroc", "f1")
MODES: Mapping[str, Mapping[str, Any]] = MappingProxyType(  # what --tune sets where an option is left open
    {
        "full": MappingProxyType({"epochs": 10, "batch_size": 32, "learning_rate": 1e-5}),
        "head": MappingProxyType({"epochs": 25, "batch_size": 256, "learning_rate": 0.0}),
    }
)
LATER = re.compile(r"lora|last-\d+")


def option(text: str, default: Any, **metadata: Any) -> Any:
    """A field with its help; `choices` lists what it may be, `required` has no default on the command line, `shown` replaces the default there, and
    what is `free` may be another when a run is resumed, as it doesn't alter the result (of the CSVs, their rows are compared instead).
    """
    return field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of one training run; an option that is None takes what `tune` has for it (MODES), see `value`."""

    train_csv: str = field(metadata={"help": "Rows to train on: image_path,text,label.", "required": True, "free": True})
    val_csv: str | None = option("Rows to validate on after each epoch.", None, shown="a tenth of the training images", free=True)
    image_base_path: str = option("Folder that image paths are relative to.", "", shown="the working directory", free=True)
    backbone: str = option("FAMILY, FAMILY:MODEL or a mismatch checkpoint; `mismatch backbones list` names them.", "hf-clip")
    model_name: str | None = option("MODEL of the family, a local directory, or a mismatch checkpoint to go on from.", None, shown="the family's own")
    output_dir: str = option("Folder that best_model, final_model and a checkpoint per epoch are written to.", "./fine_tuned_clip", free=True)
    epochs: int | None = option("Times that every row is seen.", None)
    batch_size: int | None = option("Rows a step.", None)
    learning_rate: float | None = option("Peak rate of the backbone.", None, modes=("full",))
    head_learning_rate: float = option("Peak rate of the head.", 1e-3)
    weight_decay: float = option("Decay of weights; biases, norms and the scale have none.", 0.01)
    num_workers: int = option("Threads that decode images; 0 decodes in the main thread.", 4, free=True)
    device: str = option("auto, cpu, cuda, cuda:N or mps; auto takes the best there is.", "auto", free=True)
    validate_data: bool = option("Audit every row and image first and train only if all pass.", False, free=True)
    tune: str = option("full trains everything; head freezes the backbone and embeds every image and text once.", "full")
    seed: int = option("Seed of weights, order, dropout and held-out images.", 0)
    resume: bool = option("Go on with the unfinished run in --output-dir, to the same result; start one where there is none.", False, free=True)
    keep_checkpoints: int | None = option("Newest checkpoint_epoch_N folders that stay.", None, shown="all", free=True)
    checkpoint_steps: int | None = option("Write checkpoint_last every so many steps within an epoch, to resume from.", None, shown="off", free=True)
    head: str = option("adapter: an MLP per tower; cosine: scale and bias only, for equal widths.", "adapter", choices=HEADS)
    head_dim: int | None = option("Width in which adapter compares.", None, shown="the embeddings' own, else 512")
    head_hidden: int = option("Width of adapter's hidden layers.", 512)
    dropout: float = option("Dropout before each adapter.", 0.1)
    contrastive_weight: float = option("Weight of the contrastive term over a batch's matched pairs; 0 leaves it out.", 0.5)
    warmup: float = option("Fraction of all steps in which the rates rise; then they fall along a cosine.", 0.1)
    long_text: str | None = option(
        "Texts over the backbone's context: truncate drops their end; chunk scores sentence pieces, the worst decides; chunk-mean: their mean.",
        None,
        choices=get_args(LongText),
        shown="truncate, or a checkpoint's own",
    )
    val_fraction: float = option("Fraction of the training images held out without --val-csv; 0 trains on all and stores no threshold.", 0.1)
    best_metric: str = option("What best_model is best at, on validation rows; ties go to the lower loss.", "accuracy", choices=BEST_METRICS)
    early_stopping: int | None = option("Stop after this many epochs without a better one.", None, shown="off")
    cache: str | None = option("Folder of cached embeddings for --tune head.", None, shown="the user's cache folder", free=True)
    threads: int | None = option("Threads that torch computes with.", None, shown="torch's own choice", free=True)

    def __post_init__(self) -> None:
        _check_later(self)
        _check_choices(self)
        _check_ranges(self)

    def value(self, name: str) -> Any:
        """The option as given, else what the mode has for it."""
        given = getattr(self, name)
        return MODES[self.tune].get(name) if given is None else given

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the mode's values filled in."""
        return {name: self.value(name) for name in asdict(self)}


def help_text(name: str) -> str:
    """What an option is for."""
    return str(_metadata(name)["help"])


def default_text(name: str) -> str | None:
    """The default as the help shows it: `10; head: 25`, `0.01`, `off`; None where there is nothing to show."""
    metadata, default = _metadata(name), TrainConfig.__dataclass_fields__[name].default
    if metadata.get("required") or isinstance(default, bool):
        return None
    if "shown" in metadata:
        return str(metadata["shown"])
    if name in MODES["full"]:
        modes = [mode for mode in MODES if mode in metadata.get("modes", MODES)]
        return "; ".join(f"{mode}: {MODES[mode][name]:g}" for mode in modes).removeprefix("full: ")
    return f"{default:g}" if isinstance(default, float) else str(default)


def _metadata(name: str) -> Mapping[str, Any]:
    return TrainConfig.__dataclass_fields__[name].metadata


def _check_later(config: TrainConfig) -> None:
    if LATER.fullmatch(config.tune):
        raise InputError(f"--tune {config.tune} comes with a later release; use --tune full or --tune head")


def _check_choices(config: TrainConfig) -> None:
    choices = {f.name: f.metadata["choices"] for f in fields(config) if "choices" in f.metadata} | {"tune": tuple(MODES)}
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed and not (value is None and TrainConfig.__dataclass_fields__[name].default is None):
            raise InputError(f"{_flag(name)} is {value!r}; one of {', '.join(allowed)} is needed")
    if config.tune == "head" and config.learning_rate is not None:
        raise InputError("--learning-rate is the backbone's, which --tune head freezes; use --head-learning-rate")
    if config.early_stopping is not None and config.val_csv is None and config.val_fraction == 0:
        raise InputError("--early-stopping needs validation rows; pass --val-csv, a --val-fraction above 0, or leave it out")


AT_LEAST = {"epochs": 1, "batch_size": 1, "head_dim": 1, "head_hidden": 1, "early_stopping": 1, "threads": 1, "keep_checkpoints": 1, "checkpoint_steps": 1}
AT_LEAST |= {"num_workers": 0, "seed": 0, "weight_decay": 0, "contrastive_weight": 0}
ABOVE_ZERO = ("learning_rate", "head_learning_rate")
BELOW_ONE = ("dropout", "warmup", "val_fraction")


def _check_ranges(config: TrainConfig) -> None:
    if not config.output_dir.strip():
        raise InputError("--output-dir is empty; name a folder")
    for name, least in AT_LEAST.items():
        _need(config, name, lambda value, least=least: least <= value < float("inf"), f"{least} or more")
    for name in ABOVE_ZERO:
        _need(config, name, lambda value: 0 < value < float("inf"), "a number above 0")
    for name in BELOW_ONE:
        _need(config, name, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _need(config: TrainConfig, name: str, holds: Any, needed: str) -> None:
    value = getattr(config, name)
    if value is not None and not holds(value):
        raise InputError(f"{_flag(name)} is {value}; {needed} is needed")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
