"""Options in a file: both forms, both spellings, what is refused and in which words, and that a
saved file says the whole run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mismatch import __version__
from mismatch.errors import InputError, MissingExtraError
from mismatch.training import settings
from mismatch.training.config import TrainConfig, kinds
from mismatch.training.settings import SETTINGS_HEAD
from mismatch.training.tuning.modes import MODES

YAML = """
# a comment
train-csv: data/train.csv
image_base_path: data
learning-rate: 1e-5
weight_decay: 0
epochs: 3
validate_data: yes
early_stopping:
run_name: "2026"
"""
TOML = """
train-csv = "data/train.csv"
image_base_path = "data"
learning-rate = 1e-5
weight_decay = 0
epochs = 3
validate_data = true
run_name = "2026"
"""
EXPECTED = {
    "train_csv": "data/train.csv",
    "image_base_path": "data",
    "learning_rate": 1e-5,
    "weight_decay": 0.0,
    "epochs": 3,
}
EXPECTED |= {"validate_data": True, "run_name": "2026"}


def read_settings(path: Path) -> dict[str, Any]:
    return settings.read_settings(path, kinds())


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.YML", YAML), ("a.toml", TOML)])
def test_both_forms_give_the_options_in_their_types(tmp_path: Path, name: str, text: str) -> None:
    found = read_settings(write(tmp_path, text, name))
    assert found == EXPECTED
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in EXPECTED.items()
    }


@pytest.mark.parametrize("number", ["1e-5", "1.0e-5", "0.00001", "1E-05", "+1e-5"])
def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path, number: str) -> None:
    assert read_settings(write(tmp_path, f"learning_rate: {number}"))["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "learning_rat: 1",
            "'learning_rat' is not an option of training; did you mean 'learning_rate'?",
        ),
        ("batch-sise: 1", "'batch-sise' is not an option of training; did you mean 'batch_size'?"),
        ("zzz: 1", "'zzz' is not an option of training"),
        ("config: a.yaml", "'config' is not an option of training"),
        ("epochs: many", 'epochs is "many"; a whole number is needed'),
        ("epochs: 2.5", "epochs is 2.5; a whole number is needed"),
        ("epochs: true", "epochs is true; a whole number is needed"),
        ("dropout: none at all", 'dropout is "none at all"; a number is needed'),
        ("dropout: false", "dropout is false; a number is needed"),
        ("dropout: [0.1]", "dropout is [0.1]; a number is needed"),
        ("validate_data: 1", "validate_data is 1; true or false is needed"),
        ("run_name: 2026", "run_name is 2026; text is needed; put it in quotes"),
        ("run_name: 2026-11-24", 'run_name is "2026-11-24"; text is needed; put it in quotes'),
        ("tune: off", "tune is false; text is needed; put it in quotes"),
        ("train_csv: [a.csv, b.csv]", 'train_csv is ["a.csv", "b.csv"]; text is needed'),
        ("epochs: 1\nbatch-size: 2\nbatch_size: 3", "batch_size is given twice"),
        ("epochs: 1\nseed: 2\nepochs: 3", "epochs is given twice; leave one out"),
        (
            "!!python/object/apply:os.getcwd []",
            "is not valid YAML: could not determine a constructor for the tag",
        ),
        ("epochs: [1", "is not valid YAML: while parsing a flow sequence"),
        ("- epochs", "holds no options; lines of `name: value` are needed"),
        ("just words", "holds no options; lines of `name: value` are needed"),
    ],
)
def test_refused_with_file_and_name(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_settings(path)
    assert str(caught.value).removeprefix("`config` ").startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_can_not_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"`config` .*absent.yaml can't be read: No such file or directory"
    ):
        read_settings(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match=r"`config` .*a.ini must end in .yaml, .yml or .toml"):
        read_settings(write(tmp_path, "", "a.ini"))
    with pytest.raises(InputError, match=r"`config` .*a.toml can't be read: .*line 1"):
        read_settings(write(tmp_path, "epochs: 1", "a.toml"))
    (tmp_path / "latin.yaml").write_bytes(b"run_name: \xe9t\xe9")
    with pytest.raises(InputError, match=r"latin.yaml can't be read: 'utf-8' codec"):
        read_settings(tmp_path / "latin.yaml")


def test_an_empty_file_leaves_everything_open(tmp_path: Path) -> None:
    assert read_settings(write(tmp_path, "# nothing yet\n")) == {}


def test_without_pyyaml_the_pip_line_is_given_and_toml_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        MissingExtraError,
        match=r'`config` .*a.yaml needs the extra \[train\]: pip install "mismatch-clip\[train\]"',
    ):
        read_settings(write(tmp_path, YAML))
    assert read_settings(write(tmp_path, TOML, "a.toml")) == EXPECTED


@pytest.mark.parametrize("tune", [mode.replace("last-N", "last-2") for mode in MODES])
def test_a_saved_file_has_what_the_mode_filled_in_and_loads_again(
    tmp_path: Path, tune: str
) -> None:
    options: dict[str, Any] = {
        "train_csv": "bücher.csv",
        "tune": tune,
        "weight_decay": 1e-7,
        "run_name": "on",
        "model_name": "1e-5",
    }
    config = TrainConfig(**options)
    text = config.to_yaml()
    assert text.startswith(
        f"{SETTINGS_HEAD}{__version__}: `mismatch train --config run.yaml --output-dir ELSEWHERE`"
        " repeats this run.\n"
    )
    assert "bücher.csv" in text
    saved = yaml.safe_load(text)
    # that of a frozen backbone
    filled_in = {
        name: value
        for name, value in MODES[config.mode].items()
        if (tune, name) != ("head", "learning_rate")
    }
    assert {name: value for name, value in saved.items() if name in MODES[config.mode]} == filled_in
    assert not {
        name for name in ("val_csv", "threads", "resume", "early_stopping") if name in saved
    }
    again = TrainConfig.from_file(write(tmp_path, text))
    assert again.to_dict() == config.to_dict()
    assert (again.epochs, again.batch_size) == (config.value("epochs"), config.value("batch_size"))
    assert again.to_yaml() == text


def test_from_python_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "train_csv: a.csv\nepochs: 3\nseed: 4")
    config = TrainConfig.from_file(path, epochs=5)
    assert (config.train_csv, config.epochs, config.seed, config.weight_decay) == (
        "a.csv",
        5,
        4,
        0.01,
    )
    with pytest.raises(InputError, match=r"a.yaml names no `train_csv`, nor is one given"):
        TrainConfig.from_file(write(tmp_path, "epochs: 3"))
    assert TrainConfig.from_file(path, train_csv="b.csv").train_csv == "b.csv"


def test_only_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(10 * 2**30)
    (tmp_path / "folder.yaml").mkdir()
    for name, words in (
        ("pipe.yaml", "a pipe or a device"),
        ("huge.toml", "larger than"),
        ("folder.yaml", "can't be read"),
    ):
        with pytest.raises(InputError, match=words):
            read_settings(tmp_path / name)


def test_a_value_of_aliases_is_shown_by_its_beginning(tmp_path: Path) -> None:
    """Written out, it would be gigabytes."""
    doubled = [f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    with pytest.raises(InputError, match="run_name is") as caught:
        read_settings(write(tmp_path, f"run_name: [&a0 [x], {', '.join(doubled)}]"))
    assert len(str(caught.value)) < 500
