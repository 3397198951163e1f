"""Every option of training, with its default and its help, once: the API, the command line and the
README read it from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_args

from mismatch.data.columns import Columns, MultiImage
from mismatch.errors import InputError
from mismatch.runtime.hardware import MAX_THREADS
from mismatch.specs import FEATURES, LongText

__all__ = [
    "BEST_METRICS",
    "HEADS",
    "MODES",
    "PRECISIONS",
    "TRACKERS",
    "TrainConfig",
    "default_text",
    "help_text",
]

HEADS = ("adapter", "cosine")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BEST_METRICS = ("accuracy", "loss", "auroc", "f1")
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
# of modes that train the towers
TOWERS = {"epochs": 10, "batch_size": 32, "head_learning_rate": 1e-3, "dropout": 0.1}
# what --tune sets where an option is left open
MODES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "full": MappingProxyType(TOWERS | {"learning_rate": 1e-5, "layer_decay": 1.0}),
        "head": MappingProxyType(
            {
                "epochs": 12,
                "batch_size": 256,
                "learning_rate": 0.0,
                "head_learning_rate": 2e-3,
                "dropout": 0.65,
            }
        ),
        "lora": MappingProxyType(
            TOWERS
            | {
                "learning_rate": 2e-4,
                "lora_rank": 16,
                "lora_alpha": 32.0,
                "lora_dropout": 0.05,
            }
        ),
        "last-N": MappingProxyType(TOWERS | {"learning_rate": 1e-5, "layer_decay": 1.0}),
    }
)
LAST = re.compile(r"last-([1-9]\d*)")


def option(text: str, default: Any, **metadata: Any) -> Any:
    """A field with its help; `choices` lists what it may be, `required` has no default on the
    command line, `shown` replaces the default there, and what is `free` may be another when a run
    is resumed, as it doesn't alter the result (of the CSVs, their rows are compared instead).
    """
    return field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of one training run; an option that is None takes what `tune` has for it (MODES), see
    `value`.
    """

    train_csv: str = field(
        metadata={
            "help": (
                "Rows to train on: image_path,text,label; also TSV, JSONL, Parquet, a datasets"
                " folder."
            ),
            "required": True,
            "free": True,
        }
    )
    val_csv: str | None = option(
        "Rows to validate on after each epoch.",
        None,
        shown="a tenth of the training images",
        free=True,
    )
    image_base_path: str = option(
        "Folder that image paths are relative to.", "", shown="the working directory", free=True
    )
    image_column: str = option("Column of the images' paths.", "image_path", free=True)
    text_column: str = option("Column of the texts.", "text", free=True)
    label_column: str = option("Column of the labels.", "label", free=True)
    label_map: str | None = option(
        "Names of labels: match=1,mismatch=0, or match/mismatch for short.",
        None,
        shown="0 and 1 only",
        free=True,
    )
    multi_image: str | None = option(
        "Several images a row, separated by ;: under all each image of a matching row is a matching"
        " pair, under best each of a mismatching row a mismatching one; rows of the other label may"
        " have one image only.",
        None,
        choices=get_args(MultiImage),
        shown="one image a row",
        free=True,
    )
    allow_outside_images: bool = option(
        "Let image paths leave --image-base-path, by .., as absolute ones or through links.",
        False,
        free=True,
    )
    backbone: str = option(
        "FAMILY, FAMILY:MODEL or a mismatch checkpoint; `mismatch backbones list` names them.",
        "hf-clip",
    )
    model_name: str | None = option(
        "MODEL of the family, a local directory, or a mismatch checkpoint to go on from.",
        None,
        shown="the family's own",
    )
    output_dir: str = option(
        "Folder that best_model, final_model and a checkpoint per epoch are written to.",
        "./fine_tuned_clip",
        free=True,
    )
    epochs: int | None = option("Times that every row is seen.", None)
    batch_size: int | None = option(
        "Rows that a process takes at once; times the accumulation and the processes they are the"
        " rows of a step.",
        None,
    )
    gradient_accumulation_steps: int = option(
        "Batches that make one step; the contrastive term sees all of them together.", 1
    )
    learning_rate: float | None = option(
        "Peak rate of the backbone.", None, modes=("full", "lora", "last-N")
    )
    layer_decay: float | None = option(
        "Factor of the rate from each of a tower's blocks to the one below it; 1: one rate for"
        " all.",
        None,
        modes=("full", "last-N"),
    )
    head_learning_rate: float | None = option("Peak rate of the head.", None)
    weight_decay: float = option("Decay of weights; biases, norms and the scale have none.", 0.01)
    num_workers: int = option(
        "Threads that decode images; 0 decodes in the main thread.", 4, free=True
    )
    device: str = option(
        "auto, cpu, cuda, cuda:N or mps; auto takes the best there is.", "auto", free=True
    )
    validate_data: bool = option(
        "Audit every row and image first and train only if all pass.", False, free=True
    )
    tune: str = option(
        "full trains everything; head freezes the backbone and embeds every image and text once;"
        " lora trains low-rank adapters of both towers' blocks; last-N the last N blocks of each"
        " tower and what follows them.",
        "full",
    )
    lora_rank: int | None = option("Rank of the adapters.", None, modes=("lora",))
    lora_alpha: float | None = option(
        "Adapters are multiplied by this over their rank.", None, modes=("lora",)
    )
    lora_dropout: float | None = option(
        "Dropout before each adapter of --tune lora.", None, modes=("lora",)
    )
    seed: int = option("Seed of weights, order, dropout and held-out images.", 0)
    resume: bool = option(
        "Go on with the unfinished run in --output-dir, to the same result; start one where there"
        " is none.",
        False,
        free=True,
    )
    keep_checkpoints: int | None = option(
        "Newest checkpoint_epoch_N folders that stay.", None, shown="all", free=True
    )
    checkpoint_steps: int | None = option(
        "Write checkpoint_last every so many steps within an epoch, to resume from.",
        None,
        shown="off",
        free=True,
    )
    head: str = option(
        "adapter: MLPs from each tower into one width; cosine: scale and bias only, for equal"
        " widths.",
        "adapter",
        choices=HEADS,
    )
    head_dim: int | None = option(
        "Width in which adapter compares.", None, shown="the embeddings' own, else 256"
    )
    head_hidden: int = option("Width of adapter's hidden layers.", 256)
    head_members: int = option(
        "Pairs of MLPs in adapter, taught apart, whose cosines are averaged.", 3
    )
    features: str = option(
        "What adapter sees beside the embeddings: auto (all that the backbone offers), none, or"
        " some of image-levels,colour,text-levels.",
        "auto",
    )
    dropout: float | None = option("Dropout before each MLP of adapter.", None)
    contrastive_weight: float = option(
        "Weight of the contrastive term over a batch's matched pairs; 0 leaves it out.", 0.5
    )
    warmup: float = option(
        "Fraction of all steps in which the rates rise; then they fall along a cosine.", 0.1
    )
    long_text: str | None = option(
        "Texts over the backbone's context: truncate drops their end; chunk scores sentence pieces,"
        " the worst decides; chunk-mean: their mean.",
        None,
        choices=get_args(LongText),
        shown="truncate, or a checkpoint's own",
    )
    val_fraction: float = option(
        "Fraction of the training images held out without --val-csv; 0 trains on all and stores no"
        " threshold.",
        0.1,
    )
    best_metric: str = option(
        "What best_model is best at, on validation rows; ties go to the lower loss.",
        "auroc",
        choices=BEST_METRICS,
    )
    threshold_objective: str | None = option(
        "What the stored threshold is best for: accuracy, f1, balanced-accuracy, mcc,"
        " cost:miss=5,alarm=1, or a target as 'mismatch precision>=0.95'.",
        None,
        shown="accuracy, f1 with --best-metric f1",
    )
    early_stopping: int | None = option(
        "Stop after this many epochs without a better one.", None, shown="off"
    )
    cache: str | None = option(
        "Folder of cached embeddings for --tune head.",
        None,
        shown="the user's cache folder",
        free=True,
    )
    track: str | None = option(
        f"Trackers that are told of the run, by comma: {', '.join(TRACKERS)}.",
        None,
        shown="none",
        free=True,
    )
    run_name: str | None = option(
        "Name of the run for the trackers.",
        None,
        shown="the output folder's, and the time",
        free=True,
    )
    threads: int | None = option(
        "Threads that torch computes with.", None, shown="torch's own choice", free=True
    )
    precision: str = option(
        "Of towers in training; auto: bf16 where CPU or GPU has it in hardware, else fp32. Head and"
        " scores: fp32.",
        "auto",
        choices=PRECISIONS,
    )
    gradient_checkpointing: bool = option(
        "Compute the towers' layers again in the backward pass instead of keeping them: less"
        " memory, more time.",
        False,
    )
    compile: bool = option(
        "Run the towers through torch.compile, which takes a while at the start and needs a C++"
        " compiler.",
        False,
    )
    fsdp: bool = option(
        "Spread the backbone's weights, gradients and AdamW's averages over the processes, for"
        " backbones that one GPU can't train; takes several processes.",
        False,
        free=True,
    )

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_ranges(self)
        _ = self.columns  # refuses a wrong label map at once

    @property
    def columns(self) -> Columns:
        """How the rows are read."""
        return Columns(
            self.image_column,
            self.text_column,
            self.label_column,
            self.label_map or "",
            cast("MultiImage | None", self.multi_image),
            "" if self.allow_outside_images else self.image_base_path,
        )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names in `track`, each once."""
        return (
            tuple(dict.fromkeys(name.strip() for name in self.track.split(",")))
            if self.track
            else ()
        )

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> TrainConfig:
        """The options of a YAML or TOML file, such as a run's own run.yaml; those given here win
        over it. Relative paths are the working directory's.
        """
        from mismatch.training.settings import read_settings

        options = read_settings(path) | overrides
        if "train_csv" not in options:
            raise InputError(f"{path} names no train_csv, and none is given beside it")
        return cls(**options)

    @property
    def mode(self) -> str:
        """`tune` as a key of MODES: last-N for last-1, last-2 and so on."""
        return "last-N" if LAST.fullmatch(self.tune) else self.tune

    @property
    def last_blocks(self) -> int:
        """The N of last-N; 0 in other modes."""
        found = LAST.fullmatch(self.tune)
        return int(found[1]) if found else 0

    def value(self, name: str) -> Any:
        """The option as given, else what the mode has for it."""
        given = getattr(self, name)
        return MODES[self.mode].get(name) if given is None else given

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The features asked for; None for all that the backbone offers."""
        if self.features in ("auto", "none"):
            return None if self.features == "auto" else ()
        return tuple(name.strip() for name in self.features.split(","))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the mode's values filled in."""
        return {name: self.value(name) for name in asdict(self)}


def help_text(name: str) -> str:
    """What an option is for."""
    return str(_metadata(name)["help"])


def default_text(name: str) -> str | None:
    """The default as the help shows it: `10; head: 25`, `0.01`, `off`; None where there is nothing
    to show.
    """
    metadata = _metadata(name)
    default = TrainConfig.__dataclass_fields__[name].default
    if metadata.get("required") or isinstance(default, bool):
        return None
    if "shown" in metadata:
        return str(metadata["shown"])
    if modes := [mode for mode in metadata.get("modes", MODES) if name in MODES[mode]]:
        first = MODES[modes[0]][name]
        others = [mode for mode in modes[1:] if MODES[mode][name] != MODES[modes[0]][name]]
        return "; ".join([f"{first:g}", *(f"{mode}: {MODES[mode][name]:g}" for mode in others)])
    return f"{default:g}" if isinstance(default, float) else str(default)


def _metadata(name: str) -> Mapping[str, Any]:
    return TrainConfig.__dataclass_fields__[name].metadata


def _check_choices(config: TrainConfig) -> None:
    choices = {f.name: f.metadata["choices"] for f in fields(config) if "choices" in f.metadata}
    if config.tune not in set(MODES) - {"last-N"} and not LAST.fullmatch(config.tune):
        raise InputError(
            f"--tune is {config.tune!r}; one of {', '.join(MODES)} (last-1, last-2, …) is needed"
        )
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed and not (
            value is None and TrainConfig.__dataclass_fields__[name].default is None
        ):
            raise InputError(f"{_flag(name)} is {value!r}; one of {', '.join(allowed)} is needed")
    if unknown := [name for name in config.trackers if name not in TRACKERS]:
        raise InputError(
            f"--track {config.track}: {unknown[0]!r} is unknown; {', '.join(TRACKERS)} are known"
        )
    _check_features(config)
    if config.tune == "head" and config.learning_rate is not None:
        raise InputError(
            "--learning-rate is the backbone's, which --tune head freezes; use --head-learning-rate"
        )
    if config.fsdp and config.tune == "head":
        raise InputError(
            "--fsdp spreads a backbone in training, and --tune head trains none; leave it out"
        )
    if config.fsdp and config.compile:
        raise InputError("--fsdp and --compile don't go together; leave one of them out")
    for f in fields(config):
        modes = f.metadata.get("modes", MODES)
        if getattr(config, f.name) is not None and config.mode not in modes:
            raise InputError(
                f"{_flag(f.name)} is for --tune {' and '.join(modes)}; leave it out with --tune"
                f" {config.tune}"
            )
    if config.early_stopping is not None and config.val_csv is None and config.val_fraction == 0:
        raise InputError(
            "--early-stopping needs validation rows; pass --val-csv, a --val-fraction above 0, or"
            " leave it out"
        )


def _check_features(config: TrainConfig) -> None:
    named = config.feature_names
    if unknown := [name for name in named or () if name not in FEATURES]:
        raise InputError(
            f"--features names {unknown[0]!r}; auto, none, or some of {','.join(FEATURES)} is"
            " needed"
        )
    if named and config.head != "adapter":
        raise InputError(
            f"--features {config.features} needs --head adapter; {config.head} compares the"
            " embeddings alone"
        )


AT_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "head_dim": 1,
    "head_hidden": 1,
    "head_members": 1,
    "early_stopping": 1,
    "threads": 1,
}
AT_LEAST |= {
    "lora_rank": 1,
    "gradient_accumulation_steps": 1,
    "keep_checkpoints": 1,
    "checkpoint_steps": 1,
}
AT_LEAST |= {"num_workers": 0, "seed": 0, "weight_decay": 0, "contrastive_weight": 0}
ABOVE_ZERO = ("learning_rate", "head_learning_rate", "lora_alpha")
BELOW_ONE = ("dropout", "warmup", "val_fraction", "lora_dropout")


AT_MOST = {"seed": 2**63 - 1, "threads": MAX_THREADS, "num_workers": MAX_THREADS}


def _check_ranges(config: TrainConfig) -> None:
    if not config.output_dir.strip():
        raise InputError("--output-dir is empty; name a folder")
    for name, least in AT_LEAST.items():
        _need(
            config,
            name,
            lambda value, least=least: least <= value < float("inf"),
            f"{least} or more",
        )
    for name, most in AT_MOST.items():
        _need(config, name, lambda value, most=most: value <= most, f"{most:,} or less")
    for name in ABOVE_ZERO:
        _need(config, name, lambda value: 0 < value < float("inf"), "a number above 0")
    _need(config, "layer_decay", lambda value: 0 < value <= 1, "a number above 0 and up to 1")
    for name in BELOW_ONE:
        _need(config, name, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _need(config: TrainConfig, name: str, holds: Any, needed: str) -> None:
    value = getattr(config, name)
    if value is not None and not holds(value):
        raise InputError(f"{_flag(name)} is {value}; {needed} is needed")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
