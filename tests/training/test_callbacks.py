"""Who is told of a run: log records with their kind, callbacks, and nobody where it is silenced."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.progress import progress, shown_by
from mismatch.training.callbacks import (
    Callback,
    StepInfo,
    TrainWarning,
    announce,
    end_step,
    heard_by,
    silenced,
    warn,
)


class Hearing(Callback):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.warnings: list[TrainWarning] = []
        self.steps: list[StepInfo] = []

    def on_warning(self, warning: TrainWarning) -> None:
        self.warnings.append(warning)

    def on_step(self, step: StepInfo) -> None:
        self.steps.append(step)


def test_a_warning_is_logged_with_its_kind_and_called(caplog: pytest.LogCaptureFixture) -> None:
    callback = Hearing()
    with caplog.at_level(logging.INFO, "mismatch.training"), heard_by([callback]):
        announce("100 % of it")
        warn("balance", "few matches")
    line, warning = caplog.records
    assert (line.levelno, line.getMessage()) == (logging.INFO, "100 % of it")
    assert (warning.levelno, warning.kind) == (logging.WARNING, "balance")  # type: ignore[attr-defined]
    assert callback.warnings == [TrainWarning("balance", "few matches")]
    warn("balance", "after the block")
    assert len(callback.warnings) == 1


def test_kinds_that_are_ignored_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    callback = Hearing()
    with heard_by([callback], ["learning_rate"]):
        warn("learning_rate", "too high")
        warn("few_rows", "too few")
    assert [warning.kind for warning in callback.warnings] == ["few_rows"]
    assert [record.getMessage() for record in caplog.records] == ["too few"]


def test_silenced_nobody_hears_and_no_progress_shows(caplog: pytest.LogCaptureFixture) -> None:
    callback = Hearing()
    shown: list[str] = []

    def bar(label: str, total: int | None, unit: str) -> Any:
        shown.append(label)
        raise AssertionError(label)

    with heard_by([callback]), shown_by(bar), silenced():
        announce("a line")
        warn("few_rows", "too few")
        end_step(StepInfo(1, 1, 1, 1, list))
        with progress("rows") as advance:
            advance(1, lambda: "a note")
    assert (callback.warnings, callback.steps, shown, caplog.records) == ([], [], [], [])


def test_what_is_no_callback_is_refused() -> None:
    with (
        pytest.raises(InputError, match="`callbacks` holds a builtin_function_or_method"),
        heard_by([print]),  # type: ignore[list-item]
    ):
        pass


def test_the_losses_of_a_step_are_read_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def losses() -> list[float]:
        asked.append(1)
        return [0.5, 1.5]

    step = StepInfo(epoch=1, step=3, steps=6, rows=12, _losses=losses)
    assert not asked
    assert step.losses() == (0.5, 1.5)
