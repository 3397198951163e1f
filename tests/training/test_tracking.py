"""Trackers: which are known, that an absent one is refused before anything is read, and that one
that fails harms nothing. Runs that are told of stand in test_trainer. wandb and mlflow are tested
by the refusal alone.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import InputError, MissingExtraError
from mismatch.training import TrainConfig, tracking, train
from mismatch.training.tracking import Trackers, require_trackers


def config(folder: Path, **options: Any) -> TrainConfig:
    return TrainConfig(
        train_csv="absent.csv", output_dir=str(folder / "out"), device="cpu", **options
    )


class Tracker:
    """Keeps what it is told; fails where it shall."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.told = fails, list[Any]()

    def _hear(self, name: str, *what: Any) -> None:
        self.told.append((name, *what))
        if name == self.fails:
            raise RuntimeError(f"{name} went\nwrong")

    def start(self) -> None:
        self._hear("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._hear("store", values["seed"], None in values.values())

    def log(self, values: dict[str, float], step: int) -> None:
        self._hear("log", values, step)

    def finish(self) -> None:
        self._hear("finish")


def test_the_names_of_track() -> None:
    assert TrainConfig(train_csv="t.csv").trackers == ()
    assert TrainConfig(train_csv="t.csv", track="wandb, tensorboard,wandb").trackers == (
        "wandb",
        "tensorboard",
    )
    for wrong in ("comet", "tensorboard,comet"):
        with pytest.raises(
            InputError,
            match=(
                rf"`track` {wrong}: 'comet' is unknown; tensorboard, wandb, mlflow, trackio are"
                r" known"
            ),
        ):
            TrainConfig(train_csv="t.csv", track=wrong)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_one_that_is_not_installed_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda module: None)
    with pytest.raises(MissingExtraError) as caught:
        train(config(tmp_path, track=name))
    assert str(caught.value) == f"`track={name}` needs the package {name}: pip install {name}"
    assert not (tmp_path / "out").exists()


def test_no_tracker_is_no_work(tmp_path: Path) -> None:
    require_trackers(config(tmp_path))
    trackers = Trackers(config(tmp_path))
    trackers.start()
    trackers.log({"a": 1.0}, 1)
    trackers.finish()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fails", ["", "start", "store", "log", "finish"])
def test_one_that_fails_is_left_out_and_the_others_go_on(
    logged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    bad, good = Tracker(fails), Tracker()
    monkeypatch.setattr(
        tracking,
        "_MAKERS",
        {"wandb": lambda name, config: bad, "mlflow": lambda name, config: good},
    )
    trackers = Trackers(config(tmp_path, track="wandb,mlflow", seed=7))
    trackers.start()
    trackers.log({"a": 1.0, "gone": None, "broken": float("nan")}, 3)
    trackers.log({"a": 2.0}, 4)
    trackers.finish()
    every = [
        ("start",),
        ("store", 7, False),
        ("log", {"a": 1.0}, 3),
        ("log", {"a": 2.0}, 4),
        ("finish",),
    ]
    assert good.told == every
    assert bad.told == (every[: [entry[0] for entry in every].index(fails) + 1] if fails else every)
    assert logged == (
        [
            (
                f"warning: --track wandb failed and is left out from here on: RuntimeError: {fails}"
                " went wrong"
            )
        ]
        if fails
        else []
    )


@pytest.mark.parametrize(("run_name", "begins"), [("mine", "mine"), (None, "out-2")])
def test_a_run_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_name: str | None, begins: str
) -> None:
    names: list[str] = []

    def make(name: str, config: Any) -> Tracker:
        names.append(name)
        return Tracker()

    monkeypatch.setattr(tracking, "_MAKERS", {"wandb": make})
    Trackers(config(tmp_path, track="wandb", run_name=run_name)).start()
    assert [name[: len(begins)] for name in names] == [begins]
    assert (names[0] == run_name) == (run_name is not None)


def test_trackio_writes_its_own_file(
    logged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine alone: no network is needed."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    pytest.importorskip("trackio")
    trackers = Trackers(config(tmp_path, track="trackio", run_name="one"))
    trackers.start()
    for step in (1, 2):
        trackers.log({"train/loss": 0.5 / step}, step)
    trackers.finish()
    assert logged == []
    [file] = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute(
            "select step, metrics from metrics where run_name = 'one' order by step"
        ).fetchall()
    assert [(step, json.loads(text)["train/loss"]) for step, text in rows] == [(1, 0.5), (2, 0.25)]
