"""Training options: their defaults, their help, and what is refused before anything heavy is
loaded.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.errors import InputError
from mismatch.training.config import TrainConfig, default_text, help_text
from mismatch.training.tuning.modes import MODES

NAMES = [field.name for field in dataclasses.fields(TrainConfig)]


@pytest.mark.parametrize(
    ("name", "full", "head"),
    [
        ("epochs", 10, 12),
        ("batch_size", 32, 256),
        ("batch_by", "row", "row"),
        ("learning_rate", 1e-5, 0.0),
        ("head_learning_rate", 1e-3, 2e-3),
        ("dropout", 0.1, 0.65),
        ("weight_decay", 0.01, 0.01),
        ("num_workers", 4, 4),
        ("device", "auto", "auto"),
        ("backbone", "hf-clip", "hf-clip"),
        ("model_name", None, None),
        ("output_dir", "./fine_tuned_clip", "./fine_tuned_clip"),
        ("image_base_path", "", ""),
        ("validate_data", False, False),
        ("best_metric", "auroc", "auroc"),
        ("early_stopping", None, None),
        ("contrastive_weight", 0.5, 0.5),
        ("val_fraction", 0.1, 0.1),
        ("head", "adapter", "adapter"),
        ("seed", 0, 0),
        ("long_text", None, None),
    ],
)
def test_defaults_of_each_mode(name: str, full: Any, head: Any) -> None:
    assert TrainConfig(train_csv="t.csv").value(name) == full
    assert TrainConfig(train_csv="t.csv", tune="head").value(name) == head


@pytest.mark.parametrize(
    ("tune", "mode", "blocks", "expected"),
    [
        ("full", "full", 0, {"learning_rate": 1e-5, "layer_decay": 1.0, "lora_rank": None}),
        (
            "lora",
            "lora",
            0,
            {
                "learning_rate": 2e-4,
                "layer_decay": None,
                "lora_rank": 16,
                "lora_alpha": 32.0,
                "lora_dropout": 0.05,
            },
        ),
        (
            "last-1",
            "last-N",
            1,
            {"learning_rate": 1e-5, "layer_decay": 1.0, "lora_rank": None, "epochs": 10},
        ),
        ("last-12", "last-N", 12, {"batch_size": 32}),
    ],
)
def test_modes_by_their_names(tune: str, mode: str, blocks: int, expected: dict[str, Any]) -> None:
    config = TrainConfig(train_csv="t.csv", tune=tune)
    assert (config.mode, config.last_blocks) == (mode, blocks)
    assert {name: config.value(name) for name in expected} == expected
    assert config.to_dict()["tune"] == tune


def test_what_is_given_wins_over_the_mode_and_stays() -> None:
    config = TrainConfig(train_csv="t.csv", tune="head", epochs=3, batch_size=8)
    assert (config.value("epochs"), config.value("batch_size")) == (3, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 4  # type: ignore[misc]


def test_to_dict_is_json_with_the_modes_values_filled_in() -> None:
    data = json.loads(json.dumps(TrainConfig(train_csv="t.csv").to_dict()))
    assert list(data) == NAMES
    assert (data["epochs"], data["batch_size"], data["learning_rate"], data["val_csv"]) == (
        10,
        32,
        1e-5,
        None,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_help_that_ends_a_sentence(name: str) -> None:
    assert help_text(name).rstrip(")").endswith((".", "later release"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("train_csv", None),
        ("validate_data", None),
        ("epochs", "10; head: 12"),
        ("batch_size", "32; head: 256"),
        ("learning_rate", "1e-05; lora: 0.0002"),
        ("layer_decay", "1"),
        ("lora_rank", "16"),
        ("weight_decay", "0.01"),
        ("early_stopping", "off"),
        ("output_dir", "./fine_tuned_clip"),
        ("val_csv", "a tenth of the training images"),
        ("long_text", "truncate, or a checkpoint's own"),
    ],
)
def test_default_as_the_help_shows_it(name: str, shown: str | None) -> None:
    assert default_text(name) == shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tune": "last-0"},
            r"`tune` is 'last-0'; one of full, head, lora, last-N \(last-1, last-2, …\) is needed",
        ),
        ({"tune": "last-N"}, r"`tune` is 'last-N'; one of full"),
        (
            {"tune": "lora", "layer_decay": 0.8},
            r"`layer_decay` is for `tune='full'` and last-N; leave it out with `tune='lora'`",
        ),
        ({"lora_rank": 8}, r"`lora_rank` is for `tune='lora'`; leave it out with `tune='full'`"),
        (
            {"tune": "last-2", "lora_dropout": 0.0},
            r"`lora_dropout` is for `tune='lora'`; leave it out with `tune='last-2'`",
        ),
        ({"tune": "lora", "lora_rank": 0}, r"`lora_rank` is 0; 1 or more is needed"),
        ({"tune": "lora", "lora_alpha": 0.0}, r"`lora_alpha` is 0.0; a number above 0 is needed"),
        (
            {"tune": "lora", "lora_dropout": 1.0},
            r"`lora_dropout` is 1.0; a number from 0 to below 1 is needed",
        ),
        ({"layer_decay": 0.0}, r"`layer_decay` is 0.0; a number above 0 and up to 1 is needed"),
        ({"layer_decay": 1.1}, r"`layer_decay` is 1.1; a number above 0 and up to 1 is needed"),
        (
            {"tune": "some"},
            r"`tune` is 'some'; one of full, head, lora, last-N \(last-1, last-2, …\) is needed",
        ),
        ({"head": "zero-shot"}, r"`head` is 'zero-shot'; one of adapter, cosine is needed"),
        (
            {"best_metric": "recall"},
            r"`best_metric` is 'recall'; one of accuracy, loss, auroc, f1 is needed",
        ),
        (
            {"tune": "head", "learning_rate": 1e-4},
            (
                r"`learning_rate` is the backbone's, which `tune='head'` freezes; use"
                r" `head_learning_rate`"
            ),
        ),
        (
            {"long_text": "split"},
            r"`long_text` is 'split'; one of truncate, chunk, chunk-mean is needed",
        ),
        ({"best_metric": None}, r"`best_metric` is None; one of"),
        ({"epochs": 0}, r"`epochs` is 0; 1 or more is needed"),
        ({"batch_size": 0}, r"`batch_size` is 0; 1 or more is needed"),
        ({"learning_rate": 0.0}, r"`learning_rate` is 0.0; a number above 0 is needed"),
        (
            {"head_learning_rate": float("nan")},
            r"`head_learning_rate` is nan; a number above 0 is needed",
        ),
        ({"learning_rate": float("inf")}, r"`learning_rate` is inf"),
        ({"weight_decay": -0.1}, r"`weight_decay` is -0.1; 0 or more is needed"),
        ({"num_workers": -1}, r"`num_workers` is -1; 0 or more is needed"),
        ({"dropout": 1.0}, r"`dropout` is 1.0; a number from 0 to below 1 is needed"),
        ({"val_fraction": 1.0}, r"`val_fraction` is 1.0; a number from 0 to below 1 is needed"),
        ({"warmup": -0.1}, r"`warmup` is -0.1; a number from 0 to below 1 is needed"),
        ({"early_stopping": 0}, r"`early_stopping` is 0; 1 or more is needed"),
        (
            {"early_stopping": 2, "val_fraction": 0.0},
            r"`early_stopping` needs validation rows; pass `val_csv`",
        ),
        ({"threads": 0}, r"`threads` is 0; 1 or more is needed"),
        (
            {"gradient_accumulation_steps": 0},
            r"`gradient_accumulation_steps` is 0; 1 or more is needed",
        ),
        ({"precision": "int8"}, r"`precision` is 'int8'; one of auto, fp32, bf16, fp16 is needed"),
        ({"keep_checkpoints": 0}, r"`keep_checkpoints` is 0; 1 or more is needed"),
        ({"checkpoint_steps": 0}, r"`checkpoint_steps` is 0; 1 or more is needed"),
    ],
)
def test_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(train_csv="t.csv", **options)


def test_the_modes_fill_only_options_that_are_left_open() -> None:
    for mode in MODES.values():
        assert {TrainConfig.__dataclass_fields__[name].default for name in mode} == {None}


def test_options_are_read_without_torch_and_numpy() -> None:
    code = (
        "import sys, mismatch.training.config; print(sorted({'torch', 'numpy', 'transformers',"
        " 'onnxruntime'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_an_empty_output_folder_is_refused() -> None:
    """An unset shell variable must not train into the working directory."""
    with pytest.raises(InputError, match="`output_dir` is empty"):
        TrainConfig(train_csv="t.csv", output_dir="")


def test_how_rows_are_read() -> None:
    assert TrainConfig(train_csv="t").columns == Columns()
    assert TrainConfig(train_csv="t", image_base_path="d", label_map="a/b").columns == Columns(
        label_map="a/b", inside="d", base="d"
    )
    assert TrainConfig(
        train_csv="t", image_base_path="d", allow_outside_images=True, multi_image="all"
    ).columns == Columns(multi_image="all", base="d", outside=True)
    assert TrainConfig(train_csv="t", delimiter="tab").columns == Columns(delimiter="\t")
    with pytest.raises(InputError, match=r"label.map`? 'a' is not understood"):
        TrainConfig(train_csv="t", label_map="a")
    with pytest.raises(InputError, match="`multi_image` is 'some'; one of best, all is needed"):
        TrainConfig(train_csv="t", multi_image="some")  # type: ignore[arg-type]
