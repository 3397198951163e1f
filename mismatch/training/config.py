"""Every option of training, with its default and its help, once: the API, the command line and the
documentation read it from here.
"""

# ruff: noqa: RUF009  `option` is dataclasses.field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_type_hints

from mismatch.data.columns import Columns, MultiImage
from mismatch.errors import InputError
from mismatch.runtime.hardware import MAX_THREADS
from mismatch.specs import LongText
from mismatch.training.config_checks import TRACKERS, check_combinations, check_names
from mismatch.training.options import Kind, Range, checked, kind_of, option
from mismatch.training.settings import read_settings, settings_text
from mismatch.training.tuning.modes import LAST, MODES, explained, shown_default

__all__ = [
    "TRACKERS",
    "BatchBy",
    "BestMetric",
    "Head",
    "Precision",
    "TrainConfig",
    "default_text",
    "help_text",
    "kinds",
]

Head = Literal["adapter", "cosine"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
BatchBy = Literal["row", "image"]
BestMetric = Literal["accuracy", "loss", "auroc", "f1"]

ONE_OR_MORE = Range(1)
ZERO_OR_MORE = Range(0)
ABOVE_ZERO = Range(0, without_low=True)
SHARE = Range(0, 1.0, without_high=True)
NOT_SAVED = ("resume",)  # says how a run began, not what it is


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of one training run; an option that is None takes what `tune` has for it (MODES), see
    `value`.
    """

    train_csv: str | Path = field(
        metadata={
            "help": "Rows to train on: image_path,text,label; in any format, or a folder of them.",
            "required": True,
            "free": True,
        }
    )
    val_csv: str | Path | None = option(
        "Rows to validate on after each epoch.",
        None,
        shown="a tenth of the training images",
        free=True,
    )
    image_base_path: str | Path = option(
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
    multi_image: MultiImage | None = option(
        "Several images a row, separated by ;: under all each image of a matching row is a matching"
        " pair, under best each of a mismatching row a mismatching one; rows of the other label may"
        " have one image only.",
        None,
        shown="one image a row",
        free=True,
    )
    encoding: str | None = option(
        "Encoding of CSV, TSV and JSON, as gb18030.", None, shown="UTF-8", free=True
    )
    delimiter: str | None = option(
        "Sign between the columns of CSV, as ; or tab.", None, shown="by the header", free=True
    )
    allow_outside_images: bool = option(
        "Let image paths leave `image_base_path`, by .., as absolute ones or through links.",
        False,
        free=True,
    )
    backbone: str | Path = option(
        "FAMILY, FAMILY:MODEL or a mismatch checkpoint; `mismatch backbones list` names them.",
        "hf-clip",
    )
    model_name: str | Path | None = option(
        "MODEL of the family, MODEL@REVISION of a hub, a local directory, or a mismatch checkpoint"
        " to go on from.",
        None,
        shown="the family's own",
    )
    output_dir: str | Path = option(
        "Folder that best_model, final_model and a checkpoint per epoch are written to.",
        "./fine_tuned_clip",
        free=True,
    )
    epochs: int | None = option("Times that every row is seen.", None, range=ONE_OR_MORE)
    batch_size: int | None = option(
        "Rows that a process takes at once; times the accumulation and the processes they are the"
        " rows of a step.",
        None,
        range=ONE_OR_MORE,
    )
    batch_by: BatchBy = option(
        "What each epoch shuffles: row; or image, whose rows then share a batch, so that it is"
        " encoded once for all of them.",
        "row",
    )
    gradient_accumulation_steps: int = option(
        "Batches that make one step; the contrastive term sees all of them together.",
        1,
        range=ONE_OR_MORE,
    )
    learning_rate: float | None = option(
        "Peak rate of the backbone.", None, modes=("full", "lora", "last-N"), range=ABOVE_ZERO
    )
    layer_decay: float | None = option(
        "Factor of the rate from each of a tower's blocks to the one below it; 1: one rate for"
        " all.",
        None,
        modes=("full", "last-N"),
        range=Range(0, 1.0, without_low=True),
    )
    head_learning_rate: float | None = option("Peak rate of the head.", None, range=ABOVE_ZERO)
    weight_decay: float = option(
        "Decay of weights; biases, norms and the scale have none.", 0.01, range=ZERO_OR_MORE
    )
    num_workers: int = option(
        "Threads that decode images; 0 decodes in the main thread.",
        4,
        free=True,
        range=Range(0, MAX_THREADS),
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
    lora_rank: int | None = option(
        "Rank of the adapters.", None, modes=("lora",), range=ONE_OR_MORE
    )
    lora_alpha: float | None = option(
        "Adapters are multiplied by this over their rank.", None, modes=("lora",), range=ABOVE_ZERO
    )
    lora_dropout: float | None = option(
        'Dropout before each adapter of `tune="lora"`.', None, modes=("lora",), range=SHARE
    )
    seed: int = option(
        "Seed of weights, order, dropout and held-out images.", 0, range=Range(0, 2**63 - 1)
    )
    resume: bool = option(
        "Go on with the unfinished run in `output_dir`, to the same result; start one where there"
        " is none.",
        False,
        free=True,
    )
    keep_checkpoints: int | None = option(
        "Newest checkpoint_epoch_N that stay.", None, shown="all", free=True, range=ONE_OR_MORE
    )
    checkpoint_steps: int | None = option(
        "Write checkpoint_last every so many steps within an epoch, to resume from.",
        None,
        shown="off",
        free=True,
        range=ONE_OR_MORE,
    )
    head: Head = option(
        "adapter: MLPs from each tower into one width; cosine: scale and bias only, for equal"
        " widths.",
        "adapter",
    )
    head_dim: int | None = option(
        "Width in which adapter compares.",
        None,
        shown="the embeddings' own, else 256",
        range=ONE_OR_MORE,
    )
    head_hidden: int = option("Width of adapter's hidden layers.", 256, range=ONE_OR_MORE)
    head_members: int = option(
        "Pairs of MLPs in adapter, taught apart, whose cosines are averaged.", 3, range=ONE_OR_MORE
    )
    features: str = option(
        "What adapter sees besides the embeddings: auto (all that the backbone offers), none, or"
        " some of image-levels,colour,text-levels.",
        "auto",
    )
    dropout: float | None = option("Dropout before each MLP of adapter.", None, range=SHARE)
    contrastive_weight: float = option(
        "Weight of the contrastive term over a batch's matched pairs; 0 leaves it out.",
        0.5,
        range=ZERO_OR_MORE,
    )
    warmup: float = option(
        "Fraction of all steps in which the rates rise; then they fall along a cosine.",
        0.1,
        range=SHARE,
    )
    long_text: LongText | None = option(
        "Texts over the backbone's context: truncate drops their end; chunk scores sentence pieces,"
        " the worst decides; chunk-mean: their mean.",
        None,
        shown="truncate, or a checkpoint's own",
    )
    val_fraction: float = option(
        "Fraction of the training images, told apart by their paths, held out without `val_csv`; 0"
        " trains on all and stores no threshold. `mismatch split` compares pictures too.",
        0.1,
        range=SHARE,
    )
    best_metric: BestMetric = option(
        "What best_model is best at, on validation rows; ties go to the lower loss.", "auroc"
    )
    threshold_objective: str | None = option(
        "What the stored threshold is best for: accuracy, f1, balanced-accuracy, mcc,"
        " cost:miss=5,alarm=1, or a target as 'mismatch precision>=0.95'.",
        None,
        shown='accuracy, f1 with `best_metric="f1"`',
    )
    early_stopping: int | None = option(
        "Stop after this many epochs without a better one.", None, shown="off", range=ONE_OR_MORE
    )
    cache: str | Path | None = option(
        'Folder of cached embeddings for `tune="head"`.',
        None,
        shown="the user's cache folder",
        free=True,
    )
    track: str | None = option(
        f"Trackers that the run is reported to, by comma: {', '.join(TRACKERS)}.",
        None,
        shown="none",
        free=True,
    )
    run_name: str | None = option(
        "Name of the run for trackers.", None, shown="the output folder's, and the time", free=True
    )
    threads: int | None = option(
        "Threads that torch computes with.",
        None,
        shown="torch's own choice",
        free=True,
        range=Range(1, MAX_THREADS),
    )
    precision: Precision = option(
        "Of towers in training; auto: bf16 where CPU or GPU has it in hardware, else fp32. Head and"
        " scores: fp32.",
        "auto",
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
        "Experimental, as it has not run on a GPU yet. Spread the backbone's weights, gradients"
        " and AdamW's averages over the processes, for backbones that one GPU can't train; takes"
        " several processes.",
        False,
        free=True,
    )

    def __post_init__(self) -> None:
        for name, kind in kinds().items():
            value = checked(name, getattr(self, name), kind, _metadata(name).get("range"))
            object.__setattr__(self, name, value)
        check_names(self)
        check_combinations(self)
        _ = self.columns  # refuses a wrong label map at once

    @property
    def columns(self) -> Columns:
        """Return how the rows are read."""
        return Columns(
            image=self.image_column,
            text=self.text_column,
            label=self.label_column,
            label_map=self.label_map or "",
            multi_image=self.multi_image,
            encoding=self.encoding,
            delimiter=self.delimiter,
            outside=self.allow_outside_images,
            base=str(self.image_base_path),
            inside="" if self.allow_outside_images else str(self.image_base_path),
        )

    @property
    def trackers(self) -> tuple[str, ...]:
        """Return the names in `track`, each once."""
        if not self.track:
            return ()
        names = [name.strip() for name in self.track.split(",")]
        return tuple(dict.fromkeys(names))

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> TrainConfig:
        """Read the options of a YAML or TOML file, such as a run's own run.yaml; those given here
        win over it. Relative paths are the working directory's.
        """
        options = read_settings(path, kinds()) | overrides
        if "train_csv" not in options:
            raise InputError(f"{path} names no `train_csv`, nor is one given", option="train_csv")
        return cls(**options)

    def to_yaml(self) -> str:
        """Return a YAML file that repeats the run. It has every option with a value, those that the
        mode fills in included, so that later defaults change nothing.
        """
        values = {}
        for setting in fields(self):
            value = self.value(setting.name)
            belongs = self.mode in setting.metadata.get("modes", MODES)
            if value is not None and belongs and setting.name not in NOT_SAVED:
                values[setting.name] = value
        return settings_text(values)

    @property
    def mode(self) -> str:
        """Return `tune` as a key of MODES: last-N for last-1, last-2 and so on."""
        return "last-N" if LAST.fullmatch(self.tune) else self.tune

    @property
    def last_blocks(self) -> int:
        """Return the N of last-N; 0 in other modes."""
        match = LAST.fullmatch(self.tune)
        return int(match[1]) if match else 0

    def value(self, name: str) -> Any:
        """Return the option as given, else what the mode has for it."""
        value = getattr(self, name)
        return MODES[self.mode].get(name) if value is None else value

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Return the features asked for; None for all that the backbone offers."""
        if self.features == "auto":
            return None
        if self.features == "none":
            return ()
        return tuple(name.strip() for name in self.features.split(","))

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types, the mode's values filled in."""
        return {name: self.value(name) for name in asdict(self)}


@cache
def kinds() -> Mapping[str, Kind]:
    """Return what each option may be, by its name."""
    hints = get_type_hints(TrainConfig)
    return MappingProxyType(
        {setting.name: kind_of(hints[setting.name]) for setting in fields(TrainConfig)}
    )


def help_text(name: str) -> str:
    """Return what an option is for; other options are in backquotes."""
    return str(_metadata(name)["help"])


def default_text(name: str) -> str | None:
    """Return the default as the help shows it: `10; head: 25`, `0.01`, `off`; None where there is
    nothing to show.
    """
    return shown_default(TrainConfig.__dataclass_fields__[name])


def _metadata(name: str) -> Mapping[str, Any]:
    return TrainConfig.__dataclass_fields__[name].metadata


TrainConfig.__doc__ = "\n".join([TrainConfig.__doc__ or "", *map(explained, fields(TrainConfig))])
