"""Fine-tune a backbone on labelled rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from mismatch.data.columns import MultiImage
from mismatch.data.readers.memory import RowsLike, rows_file
from mismatch.errors import InputError, MissingExtraError
from mismatch.io.hub_urls import is_hub_url
from mismatch.jobs.fetching import FetchOptions, fetch_rows_ahead, fetched_images
from mismatch.jobs.options import check_options, isolated_decoding
from mismatch.reports.model_card import write_checkpoint_card
from mismatch.runtime.hub_rows import hub_rows
from mismatch.specs import LongText
from mismatch.training.callbacks import Callback
from mismatch.training.config import BatchBy, BestMetric, Head, Precision, TrainConfig
from mismatch.training.result import TrainResult
from mismatch.training.surroundings import left_as_found

__all__ = ["TRAIN_DEFAULTS", "TrainOptions", "train"]


class TrainOptions(TypedDict, total=False):
    """The fields of TrainConfig, which explains them; rows may be tables too."""

    train_csv: RowsLike
    val_csv: RowsLike | None
    image_base_path: str | Path
    image_column: str
    text_column: str
    label_column: str
    label_map: str | None
    multi_image: MultiImage | None
    encoding: str | None
    delimiter: str | None
    allow_outside_images: bool
    backbone: str | Path
    model_name: str | Path | None
    output_dir: str | Path
    epochs: int | None
    batch_size: int | None
    batch_by: BatchBy
    gradient_accumulation_steps: int
    learning_rate: float | None
    layer_decay: float | None
    head_learning_rate: float | None
    weight_decay: float
    num_workers: int
    device: str
    validate_data: bool
    tune: str
    lora_rank: int | None
    lora_alpha: float | None
    lora_dropout: float | None
    seed: int
    resume: bool
    keep_checkpoints: int | None
    checkpoint_steps: int | None
    head: Head
    head_dim: int | None
    head_hidden: int
    head_members: int
    features: str
    dropout: float | None
    contrastive_weight: float
    warmup: float
    long_text: LongText | None
    val_fraction: float
    best_metric: BestMetric
    threshold_objective: str | None
    early_stopping: int | None
    cache: str | Path | None
    track: str | None
    run_name: str | None
    threads: int | None
    precision: Precision
    gradient_checkpointing: bool
    compile: bool
    fsdp: bool


# each option's default; train_csv alone has none
TRAIN_DEFAULTS: Mapping[str, Any] = {
    field.name: field.default for field in fields(TrainConfig) if field.default is not MISSING
}
ROWS = ("train_csv", "val_csv")


def train(
    config: TrainConfig | str | Path | None = None,
    *,
    callbacks: Iterable[Callback] = (),
    isolate_decoding: bool = False,
    fetch_images: bool = False,
    fetch_cache: str | Path | None = None,
    fetch_networks: Sequence[str] = (),
    **options: Unpack[TrainOptions],
) -> TrainResult:
    """Fine-tune a backbone on rows of images, texts and labels (1 = the text describes the image).

    `options` are the fields of TrainConfig. `config`: a TrainConfig, or a YAML or TOML file such as
    a run's own run.yaml; options given here win over it. `train_csv` and `val_csv` take any rows:
    a path, hf://datasets/OWNER/NAME of a hub, a table of pandas, polars or pyarrow, a
    datasets.Dataset, an iterable of mappings.
    `isolate_decoding`: decode images in processes with bounds of time and memory. `fetch_images`:
    fetch images that are URLs, into the folder `fetch_cache`, also from `fetch_networks`, which are
    private ones.

    It writes best_model, final_model, checkpoint_epoch_N, training_stats.json, training_curves.png
    and run.yaml to `output_dir`; each model has a card, README.md. It logs to `mismatch.training`,
    and calls `callbacks` (mismatch.training.callbacks) in the main process.

    Interrupting it keeps what is written; the same call with `resume=True` goes on from there.
    InputError for options and rows that can't be used, CheckpointError for a folder that can't be.
    """
    tables = _tables(options)
    names = {name: type(rows).__name__ for name, rows in tables.items()}
    chosen = _config(config, {**options, **names})
    fetching = FetchOptions(fetch_images, fetch_cache, fetch_networks)
    with ExitStack() as stack:
        stack.enter_context(left_as_found())
        chosen = _with_hub_rows(chosen, stack)
        for name, rows in tables.items():
            file = stack.enter_context(rows_file(rows, chosen.columns, absolute_images=True))
            as_file: Any = {name: str(file.path)}
            chosen = replace(chosen, **as_file)
        stack.enter_context(isolated_decoding(isolate_decoding))
        stack.enter_context(fetched_images(fetching))
        fetch_rows_ahead(chosen.train_csv, chosen.columns)
        if chosen.val_csv is not None:
            fetch_rows_ahead(chosen.val_csv, chosen.columns)
        try:
            from mismatch.training import trainer
        except ModuleNotFoundError as error:
            raise MissingExtraError("mismatch train", "train") from error
        return trainer.train(chosen, callbacks=callbacks, write_card=write_checkpoint_card)


def _with_hub_rows(config: TrainConfig, stack: ExitStack) -> TrainConfig:
    """Return the options with rows of a hub as files of its cache, which errors call by their
    URLs.
    """
    for name in ROWS:
        rows = getattr(config, name)
        if is_hub_url(rows):
            hub = hub_rows(rows)
            stack.enter_context(hub.naming())
            as_file: Any = {name: str(hub.path)}
            config = replace(config, **as_file)
    return config


def _tables(options: TrainOptions) -> dict[str, RowsLike]:
    """Return the rows that are no paths, by the option's name."""
    row_options = {
        name: rows for name, rows in options.items() if name in ROWS and rows is not None
    }
    return {
        name: rows for name, rows in row_options.items() if not isinstance(rows, (str, os.PathLike))
    }


def _config(config: TrainConfig | str | Path | None, options: Mapping[str, Any]) -> TrainConfig:
    """Return all options, checked."""
    check_options(options, [*TRAIN_DEFAULTS, *ROWS])
    if isinstance(config, TrainConfig):
        return replace(config, **options)
    if isinstance(config, (str, os.PathLike)):
        return TrainConfig.from_file(config, **options)
    if config is not None:
        raise InputError(
            f"`config` is a {type(config).__name__}; a TrainConfig or a file is needed",
            option="config",
        )
    if options.get("train_csv") is None:
        raise InputError("`train_csv` is needed: rows to train on", option="train_csv")
    return TrainConfig(**options)
