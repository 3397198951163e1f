"""What `tune` sets, and the lines that explain an option in `help(TrainConfig)`."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mismatch.training.config import TrainConfig
from mismatch.training.tuning.modes import LAST, MODES, explained, shown_default

FIELDS = {field.name: field for field in fields(TrainConfig)}


@pytest.mark.parametrize(("name", "number"), [("last-1", "1"), ("last-12", "12")])
def test_a_number_of_blocks_is_read_of_the_mode(name: str, number: str) -> None:
    match = LAST.fullmatch(name)
    assert match is not None
    assert match[1] == number
    assert LAST.fullmatch("last-0") is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("epochs", ["int | None", "1 or more", "None: 10; head: 12."]),
        ("dropout", ["float | None", "from 0 to below 1", "None: 0.1; head: 0.65."]),
        ("layer_decay", ["above 0 and up to 1", "None: 1."]),
        ("seed", ["int", "Default: 0."]),
        ("head", ["Head", "Default: adapter."]),
        ("val_csv", ["str | Path | None", "None: a tenth of the training images."]),
        ("train_csv", ["str | Path", "image_path,text,label"]),
    ],
)
def test_type_range_and_what_none_means_are_said(name: str, parts: list[str]) -> None:
    line = explained(FIELDS[name])
    assert line.startswith(f"{name} (")
    for part in parts:
        assert part in line


def test_help_explains_every_option() -> None:
    for field in FIELDS.values():
        assert explained(field) in (TrainConfig.__doc__ or "")


def test_every_mode_has_a_default_of_each_option_that_it_fills() -> None:
    for name in {name for mode in MODES.values() for name in mode}:
        assert shown_default(FIELDS[name]), name
