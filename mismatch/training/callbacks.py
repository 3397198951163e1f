"""What a run tells while it is at work: log records, and calls of `Callback`'s methods.

All of training logs to `logging.getLogger("mismatch.training")`: lines as INFO, warnings as
WARNING with their kind in the record's `kind`. Of several processes only the main one tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mismatch.errors import InputError
from mismatch.progress import shown_by

if TYPE_CHECKING:
    from mismatch.training.config import TrainConfig
    from mismatch.training.result import TrainResult

__all__ = [
    "Callback",
    "EpochInfo",
    "RunInfo",
    "StepInfo",
    "TrainWarning",
    "WarningKind",
    "announce",
    "begin",
    "end",
    "end_epoch",
    "end_step",
    "heard_by",
    "silenced",
    "warn",
]

logger = logging.getLogger("mismatch.training")

WarningKind = Literal[
    "few_rows",  # too few to train on
    "balance",  # one label has hardly any rows
    "learning_rate",  # one that rarely works with a pretrained backbone
    "shared_rows",  # validation images that stand among those to train on
    "one_label",  # validation rows of one label only
    "unpinned",  # a backbone of a hub without a revision
    "long_text",  # texts over the context, which lose their end
    "language",  # texts in a language that the backbone's tokenizer can't read
    "older_head",  # a head of an older pipeline, which is left out
    "precision",  # one that the device is slow in
    "one_side",  # all validation scores lie on one side of 0.5
    "overfitting",  # validation loss rises while training loss falls
    "threshold",  # a target that no threshold reaches
    "tracker",  # one that failed and is left out
    "curves",  # a picture that can't be drawn
]


@dataclass(frozen=True)
class RunInfo:
    """A run that is about to make its first step."""

    config: TrainConfig  # as given, with what a launcher adds to it
    rows: int  # to train on
    val_rows: int  # to validate on; 0 without any
    first_epoch: int  # 1, or the one that a resumed run goes on in
    epochs: int  # in all
    steps_per_epoch: int
    device: str  # as torch names it: cpu, cuda:0
    precision: str  # of the towers: fp32, bf16 or fp16


@dataclass(frozen=True)
class StepInfo:
    """A step that is done."""

    epoch: int  # counted from 1
    step: int  # of the run, counted from 1
    steps: int  # of the run, if no early stopping ends it
    rows: int  # of the epoch so far
    _losses: Callable[[], list[float]] = field(repr=False)

    def losses(self) -> tuple[float, float]:
        """Return the binary and the contrastive loss of the step's rows, in nats.

        On a GPU this waits for the step; where nobody asks, nobody waits.
        """
        binary, contrastive = self._losses()
        return binary, contrastive


@dataclass(frozen=True)
class EpochInfo:
    """An epoch that is trained, validated and written."""

    epoch: int  # counted from 1
    epochs: int  # in all, if no early stopping ends the run
    figures: Mapping[str, Any]  # its entry in each list of training_stats.json, by the list's name
    is_best: bool  # whether best_model is this epoch's now
    checkpoint: Path  # its folder


@dataclass(frozen=True)
class TrainWarning:
    """Something worth knowing; the run goes on."""

    kind: WarningKind
    message: str  # one line; options are in backquotes


class Callback:
    """Base class of callbacks: override the methods that you need.

    They are called by the main process only. An exception of theirs ends the run as any other;
    KeyboardInterrupt ends it as Ctrl-C does, so that it can be resumed.
    """

    def on_train_begin(self, run: RunInfo) -> None:
        """Take note of a run before its first step."""

    def on_step(self, step: StepInfo) -> None:
        """Take note of a step, after its update."""

    def on_epoch_end(self, epoch: EpochInfo) -> None:
        """Take note of an epoch, after its checkpoint is written."""

    def on_train_end(self, result: TrainResult) -> None:
        """Take note of what `train` is about to return; not called for a run that failed."""

    def on_warning(self, warning: TrainWarning) -> None:
        """Take note of a warning, which is logged too; some come before `on_train_begin`."""


@dataclass(frozen=True)
class _Audience:
    """The callbacks that are called."""

    callbacks: tuple[Callback, ...] = ()
    ignored: frozenset[WarningKind] = frozenset()
    silent: bool = False  # nobody, and nothing is logged


NOBODY = _Audience()

_audience: ContextVar[_Audience] = ContextVar("mismatch.training", default=NOBODY)


@contextmanager
def heard_by(callbacks: Iterable[Callback], ignore: Iterable[WarningKind] = ()) -> Iterator[None]:
    """Call these callbacks until the block ends; warnings of the kinds in `ignore` are dropped.

    InputError for what is no Callback.
    """
    members = tuple(callbacks)
    for callback in members:
        if not isinstance(callback, Callback):
            raise InputError(
                f"`callbacks` holds a {type(callback).__name__}; objects of subclasses of"
                " mismatch.training.callbacks.Callback are needed",
                option="callbacks",
            )
    token = _audience.set(_Audience(members, frozenset(ignore)))
    try:
        yield
    finally:
        _audience.reset(token)


@contextmanager
def silenced() -> Iterator[None]:
    """Log nothing, call nothing and show no progress until the block ends: there are several
    processes, and another one tells.
    """
    token = _audience.set(replace(_audience.get(), silent=True))
    try:
        with shown_by(lambda _label, _total, _unit: nullcontext(_show_nothing)):
            yield
    finally:
        _audience.reset(token)


def _show_nothing(_done: int, _note: Callable[[], str] | None = None) -> None:
    """Take a report of progress."""


def announce(message: str) -> None:
    """Log a line for people."""
    if not _audience.get().silent:
        logger.info("%s", message)


def warn(kind: WarningKind, message: str) -> None:
    """Log a warning, and call `on_warning`."""
    audience = _audience.get()
    if audience.silent or kind in audience.ignored:
        return
    logger.warning("%s", message, extra={"kind": kind})
    for callback in audience.callbacks:
        callback.on_warning(TrainWarning(kind, message))


def begin(run: RunInfo) -> None:
    """Call `on_train_begin`."""
    for callback in _listeners():
        callback.on_train_begin(run)


def end_step(step: StepInfo) -> None:
    """Call `on_step`."""
    for callback in _listeners():
        callback.on_step(step)


def end_epoch(epoch: EpochInfo) -> None:
    """Call `on_epoch_end`."""
    for callback in _listeners():
        callback.on_epoch_end(epoch)


def end(result: TrainResult) -> None:
    """Call `on_train_end`."""
    for callback in _listeners():
        callback.on_train_end(result)


def _listeners() -> tuple[Callback, ...]:
    audience = _audience.get()
    return () if audience.silent else audience.callbacks
