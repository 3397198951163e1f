"""`mismatch.train` and `mismatch train`: options are TrainConfig's, rows may be in memory, nothing
of the process is changed or printed; in both spellings, and errors are one line.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import mismatch
from mismatch.cli import help_text
from mismatch.cli.train import command
from mismatch.errors import InputError
from mismatch.jobs.train import TrainOptions
from mismatch.training.config import TrainConfig
from tests.support import commands
from tests.support.rows import WriteRows

run = partial(commands.run, "train")


def test_every_field_of_train_config_is_an_option_with_its_default() -> None:
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    assert set(options) - {"debug"} == {field.name for field in dataclasses.fields(TrainConfig)} | {
        "config",
        "isolate_decoding",
        "fetch_images",
        "fetch_cache",
        "fetch_networks",
    }
    for field in dataclasses.fields(TrainConfig):
        option = options[field.name]
        assert option.opts == ["--" + field.name.replace("_", "-")]
        assert option.required == (field.name == "train_csv")
        if not option.required:
            assert option.get_default(click.Context(command)) == field.default


@pytest.mark.parametrize(
    "line",
    [
        "--epochs N",
        "[default: 10; head: 12]",
        "[default: 32; head: 256]",
        "[default: 1e-05; lora: 0.0002]",
        "[default: off]",
        "--tune full|head|lora|last-N",
        "--best-metric accuracy|loss|auroc|f1",
        "--long-text truncate|chunk|chunk-mean",
    ],
)
def test_help_shows_the_defaults_of_both_modes(line: str) -> None:
    assert " ".join(line.split()) in " ".join(help_text("train").split())


@pytest.fixture
def data(colour_images: Path, write_rows: WriteRows) -> Path:
    rows = [
        (f"{name}.png", f"{text} shirt", int(name == text))
        for name in ("red", "green", "blue")
        for text in ("red", "green", "blue")
    ]
    write_rows(colour_images / "train.csv", [("image_path", "text", "label"), *rows])
    return colour_images


@pytest.mark.parametrize("dash", ["-", "_"])
def test_trains_in_both_spellings(data: Path, dash: str) -> None:
    options = {
        "train-csv": data / "train.csv",
        "val-csv": data / "train.csv",
        "image-base-path": data,
        "model-name": "tiny",
        "output-dir": data / "out",
    }
    options |= {
        "epochs": 1,
        "batch-size": 4,
        "learning-rate": 1e-3,
        "weight-decay": 0.02,
        "num-workers": 1,
        "device": "cpu",
    }
    given = [
        part for name, value in options.items() for part in ("--" + name.replace("-", dash), value)
    ]
    result = run(*given, f"--isolate{dash}decoding")
    assert result.exit_code == 0, result.output
    assert "epoch 1/1  train loss" in result.stdout
    for name in ("best_model", "final_model", "checkpoint_epoch_1"):
        card = (data / "out" / name / "README.md").read_text()
        assert "- Training rows: `train.csv`, 9" in card
        assert "- Epoch: 1 of a run of 1 at most, seed 0" in card
        assert "| AUROC | " in card
        assert str(data) not in card
    stats = json.loads((data / "out" / "best_model" / "training_stats.json").read_text())
    assert (
        len(stats["train_losses"]),
        stats["config"]["weight_decay"],
        stats["config"]["backbone"],
    ) == (1, 0.02, "hf-clip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tune", "last-0"], "--tune is 'last-0'; one of full, head, lora, last-N"),
        (["--keep-checkpoints", "0"], "--keep-checkpoints is 0; 1 or more is needed"),
        (["--epochs", "0"], "--epochs is 0; 1 or more is needed"),
        (["--epochs", "many"], "'many' is not a valid integer"),
        (["--backbone", "opencip"], "did you mean 'openclip'?"),
        (["--device", "gpu"], "device 'gpu' is unknown"),
        (["--model-name", "no/such-model"], "no/such-model"),
    ],
)
def test_refused_in_one_line(data: Path, options: list[str], message: str) -> None:
    result = run(
        "--train-csv",
        data / "train.csv",
        "--image-base-path",
        data,
        "--output-dir",
        data / "out",
        *options,
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (data / "out" / "best_model").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("red.png,,1", "train.csv:11: the text is empty"),
        ("red.png,red shirt,yes", "label 'yes' is neither 0 nor 1"),
        ("absent.png,red,1", "absent.png"),
        ("cut.jpg,red,1", "cut.jpg"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place(data: Path, row: str, message: str) -> None:
    with (data / "train.csv").open("a") as file:
        file.write(row + "\n")
    result = run(
        "--train-csv",
        data / "train.csv",
        "--val-fraction",
        "0",
        "--image-base-path",
        data,
        "--model-name",
        "tiny",
        "--output-dir",
        data / "out",
        "--epochs",
        1,
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert "train.csv:11: " in result.stderr
    assert not list((data / "out").glob("*"))


def test_train_csv_is_required() -> None:
    result = run()
    assert result.exit_code == 2
    assert "--train-csv" in result.stderr


def test_options_come_from_the_command_line_then_from_the_file_then_from_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mismatch.training import trainer

    seen: list[TrainConfig] = []
    monkeypatch.setattr(trainer, "train", lambda config, **_: seen.append(config))
    (tmp_path / "a.yaml").write_text(
        "train_csv: a.csv\nlearning-rate: 1e-4\nepochs: 3\nvalidate_data: true\nhead: cosine\n"
    )
    for options in ([], ["--epochs", 5, "--head", "adapter", "--train_csv", "b.csv"]):
        result = run(*options, "--config", tmp_path / "a.yaml")
        assert result.exit_code == 0, result.output
    shown = [
        (c.train_csv, c.epochs, c.head, c.learning_rate, c.validate_data, c.seed) for c in seen
    ]
    assert shown == [("a.csv", 3, "cosine", 1e-4, True, 0), ("b.csv", 5, "adapter", 1e-4, True, 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train_csv: a.csv\nepoch: 3",
            "'epoch' is not an option of training; did you mean 'epochs'?",
        ),
        ("train_csv: a.csv\nepochs: many", 'epochs is "many"; a whole number is needed'),
        ("train_csv: a.csv\nepochs: 0", "--epochs is 0; 1 or more is needed"),
        ("epochs: 3", "Missing option '--train-csv'"),
    ],
)
def test_a_file_with_a_fault_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    result = run("--config", tmp_path / "a.yaml")
    assert (result.exit_code, result.stderr.strip().count("\n")) == (2, 0)
    assert message in result.stderr


def test_a_runs_own_file_repeats_it_to_the_bit(data: Path) -> None:
    common = [
        "--image-base-path",
        data,
        "--model-name",
        "tiny",
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--val-fraction",
        0.4,
        "--tune",
        "head",
    ]
    first = run(
        "--train-csv",
        data / "train.csv",
        *common,
        "--epochs",
        2,
        "--cache",
        data / "cache",
        "--output-dir",
        data / "out",
    )
    assert first.exit_code == 0, first.output
    again = run("--config", data / "out" / "run.yaml", "--output-dir", data / "again")
    assert again.exit_code == 0, again.output
    for name in ("classification_head.safetensors", "model.safetensors"):
        assert (data / "out" / "final_model" / name).read_bytes() == (
            data / "again" / "final_model" / name
        ).read_bytes()
    losses = [
        json.loads((data / folder / "training_stats.json").read_text())["train_losses"]
        for folder in ("out", "again")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


# --- from Python


def options(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "image_base_path": folder,
        "model_name": "tiny",
        "output_dir": folder / "out",
        "cache": folder / "cache",
        "tune": "head",
        "epochs": 1,
        "batch_size": 8,
        "num_workers": 1,
        "device": "cpu",
    } | more


def mappings(folder: Path) -> list[dict[str, Any]]:
    with (folder / "train.csv").open(newline="") as file:
        return [row | {"label": int(row["label"])} for row in csv.DictReader(file)]


def process_state() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state().tolist(),
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
    }


def test_rows_in_memory_train_the_same_model_and_nothing_of_the_process_changes(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pytest.importorskip("pandas").DataFrame(mappings(data))
    before = process_state()
    threads = before["threads"] + 1
    result = mismatch.train(
        train_csv=table, val_csv=mappings(data), threads=threads, **options(data)
    )
    assert process_state() == before
    assert capsys.readouterr() == ("", "")
    config = mismatch.TrainConfig(
        train_csv=data / "train.csv", val_csv=data / "train.csv", **options(data)
    )
    other = mismatch.train(config, output_dir=data / "other", threads=threads)
    assert other.stats["config"]["output_dir"] == str(data / "other")
    assert other.history["val_losses"] == result.history["val_losses"]
    for folder in (result.final_model, other.final_model):
        assert (folder / "classification_head.safetensors").is_file()
    assert (result.final_model / "classification_head.safetensors").read_bytes() == (
        other.final_model / "classification_head.safetensors"
    ).read_bytes()


def test_loading_leaves_the_global_random_state(data: Path) -> None:
    model = mismatch.train(
        train_csv=data / "train.csv", val_fraction=0.0, **options(data)
    ).best_model
    torch.manual_seed(5)
    before = process_state()
    mismatch.load(model, "cpu")
    after = process_state()
    assert (after["random"], after["threads"]) == (before["random"], before["threads"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"epoch": 3}, "there is no option 'epoch'; did you mean 'epochs'?"),
        ({}, "`train_csv` is needed"),
        ({"train_csv": 7}, "the rows are an int"),
        ({"train_csv": [("a.png", "red", 1)]}, "row 1 is a tuple"),
        ({"config": 7}, "`config` is a int; a TrainConfig or a file is needed"),
        ({"train_csv": "t.csv", "epochs": "3"}, "`epochs` is '3'; a whole number is needed"),
        ({"train_csv": "t.csv", "callbacks": [print]}, "`callbacks` holds a"),
    ],
)
def test_refused_in_words_from_python(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        mismatch.train(**{"output_dir": tmp_path / "out"} | more)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_options_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mismatch.training import trainer

    configs: list[TrainConfig] = []
    monkeypatch.setattr(trainer, "train", lambda config, **_: configs.append(config))
    (tmp_path / "a.yaml").write_text("train_csv: a.csv\nepochs: 3\nseed: 4\n")
    mismatch.train(tmp_path / "a.yaml", epochs=5)
    assert (configs[0].train_csv, configs[0].epochs, configs[0].seed) == ("a.csv", 5, 4)


def test_its_options_are_the_fields_of_train_config() -> None:
    hints = {name: str(hint) for name, hint in TrainOptions.__annotations__.items()}
    for field in dataclasses.fields(TrainConfig):
        if field.name not in ("train_csv", "val_csv"):
            assert str(field.type) in hints[field.name], field.name
    assert set(hints) == {field.name for field in dataclasses.fields(TrainConfig)}
