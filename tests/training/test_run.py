"""The epochs of a run, as callbacks see them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mismatch.training import TrainConfig, TrainResult, train
from mismatch.training.callbacks import Callback, EpochInfo, RunInfo, StepInfo, TrainWarning
from mismatch.training.folder.output import RunFolder
from mismatch.training.folder.state import Position
from mismatch.training.run_lines import interruption_line, step_size
from mismatch.training.validation import is_stale
from tests.support.rows import WriteRows


class Recorder(Callback):
    """Keeps the order of calls, and what they are given."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.run: RunInfo | None = None
        self.steps: list[StepInfo] = []
        self.epochs: list[EpochInfo] = []
        self.result: TrainResult | None = None

    def on_train_begin(self, run: RunInfo) -> None:
        self.calls.append("begin")
        self.run = run

    def on_step(self, step: StepInfo) -> None:
        self.calls.append("step")
        self.steps.append(step)
        assert min(step.losses()) >= 0

    def on_epoch_end(self, epoch: EpochInfo) -> None:
        self.calls.append("epoch")
        self.epochs.append(epoch)
        assert (epoch.checkpoint / "mismatch.json").is_file()

    def on_train_end(self, result: TrainResult) -> None:
        self.calls.append("end")
        self.result = result

    def on_warning(self, warning: TrainWarning) -> None:
        self.calls.append(f"warning {warning.kind}")


@pytest.fixture
def config(colour_images: Path, write_rows: WriteRows) -> TrainConfig:
    rows = [
        (f"{name}.png", f"{text} shirt", int(name == text))
        for name in ("red", "green", "blue")
        for text in ("red", "green", "blue")
    ]
    path = write_rows(colour_images / "train.csv", [("image_path", "text", "label"), *rows])
    return TrainConfig(
        train_csv=path,
        val_csv=path,
        image_base_path=colour_images,
        model_name="tiny",
        output_dir=colour_images / "out",
        cache=colour_images / "cache",
        tune="head",
        epochs=2,
        batch_size=5,
        num_workers=1,
        device="cpu",
    )


def test_callbacks_hear_of_the_run_its_steps_and_its_epochs(config: TrainConfig) -> None:
    recorder = Recorder()
    result = train(config, callbacks=[recorder])
    epoch = ["step", "step", "epoch"]
    calls = [call for call in recorder.calls if not call.startswith("warning")]
    assert calls == ["begin", *epoch, *epoch, "end"]
    warned = recorder.calls[: recorder.calls.index("begin")]
    assert warned == ["warning shared_rows", "warning few_rows"], "nine rows, also validated on"
    run = recorder.run
    assert run is not None
    assert (run.rows, run.val_rows, run.epochs, run.steps_per_epoch) == (9, 9, 2, 2)
    assert [(step.epoch, step.step, step.rows) for step in recorder.steps] == [
        (1, 1, 5),
        (1, 2, 9),
        (2, 3, 5),
        (2, 4, 9),
    ]
    losses = [one.figures["val_losses"] for one in recorder.epochs]
    assert losses == result.history["val_losses"]
    assert recorder.epochs[-1].checkpoint.name == "checkpoint_epoch_2"
    assert recorder.result == result


def test_an_exception_of_a_callback_ends_the_run(config: TrainConfig) -> None:
    class Failing(Recorder):
        def on_epoch_end(self, epoch: EpochInfo) -> None:
            raise ZeroDivisionError

    failing = Failing()
    with pytest.raises(ZeroDivisionError):
        train(config, callbacks=[failing])
    assert failing.result is None
    assert (Path(config.output_dir) / "checkpoint_epoch_1").is_dir()


@pytest.mark.parametrize(
    ("parts", "processes", "line"),
    [
        (1, 1, "64 rows"),
        (4, 1, "64 rows (16 at once x 4 accumulated)"),
        (1, 2, "64 rows (32 at once x 2 processes)"),
        (4, 2, "64 rows (8 at once x 4 accumulated x 2 processes)"),
    ],
)
def test_a_step_is_described_by_its_factors(parts: int, processes: int, line: str) -> None:
    step: Any = SimpleNamespace(
        rows=64,
        parts=parts,
        processes=SimpleNamespace(count=processes),
        rows_at_once=math.ceil(64 / (parts * processes)),
    )
    assert step_size(step) == line


@pytest.mark.parametrize(
    ("position", "when"),
    [
        (Position(), "before the first step"),
        (Position(epoch=1, step=3), "in epoch 1 after 3 of 14 steps"),
        (Position(epoch=3), "after epoch 2"),
        (Position(epoch=3, step=1), "in epoch 3 after 1 of 14 steps"),
    ],
)
def test_an_interrupted_run_says_how_far_it_is(
    position: Position, when: str, tmp_path: Path
) -> None:
    line = interruption_line(position, 14, RunFolder(tmp_path / "out"))
    assert line == f"interrupted {when}: nothing has been written"


@pytest.mark.parametrize(
    ("patience", "epoch", "stale"), [(None, 9, False), (2, 3, False), (2, 4, True), (2, 5, True)]
)
def test_patience_counts_from_the_best_epoch(patience: int | None, epoch: int, stale: bool) -> None:
    history: Any = SimpleNamespace(config=SimpleNamespace(early_stopping=patience), best_epoch=2)
    assert is_stale(history, epoch) is stale
