"""A run: epochs of steps, validation after each, and what is written after each."""

from __future__ import annotations

import math
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mismatch.errors import InputError
from mismatch.progress import progress
from mismatch.training.advice import Adviser
from mismatch.training.callbacks import (
    EpochInfo,
    RunInfo,
    StepInfo,
    announce,
    begin,
    end,
    end_epoch,
    end_step,
)
from mismatch.training.config import TrainConfig
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import Batch, make_batches
from mismatch.training.feeds.feeds import Feed
from mismatch.training.feeds.prepare import Start
from mismatch.training.folder.earlier import BEST, EPOCH, FINAL
from mismatch.training.folder.history import PLAIN, History, Validation, threshold_objective
from mismatch.training.folder.output import RunFolder
from mismatch.training.folder.resume import ResumePlan, embeddings_digest
from mismatch.training.folder.state import Position
from mismatch.training.interruption import Interruption
from mismatch.training.new_head import fit_new_head
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import rate_factor, set_rates
from mismatch.training.result import TrainResult
from mismatch.training.run_lines import interruption_line, start_line
from mismatch.training.saving import Saver
from mismatch.training.step import Step, compile_towers
from mismatch.training.tracking import Trackers
from mismatch.training.trained_model import TrainedModel
from mismatch.training.validation import is_stale, validate, warn_of_missed_target
from mismatch.training.watch import Watch

__all__ = ["Run", "Setup"]


@dataclass(frozen=True)
class Setup:
    """What a run is made of."""

    config: TrainConfig
    start: Start
    feed: Feed
    val_feed: Feed | None  # None: nothing is held out
    folder: RunFolder
    processes: Processes
    precision: str  # of the towers: fp32, bf16 or fp16
    long_texts: int = 0  # different texts over the context, for the statistics
    # of a run that is resumed, maybe by more or fewer processes than began it; None: a new one
    rows_per_step: int | None = None
    sharded: bool = False  # whether the backbone is spread over the processes

    @property
    def rows_at_once(self) -> int:
        """Return the rows that all processes take together before gradients are accumulated."""
        return int(self.config.value("batch_size")) * self.processes.count

    @property
    def rows_of_a_step(self) -> int:
        """Return the rows of a step, of all processes together."""
        return self.rows_per_step or self.rows_at_once * self.config.gradient_accumulation_steps


class Run:
    """One training run, ready to go."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self.config = config
        self.start = setup.start
        self.folder = setup.folder
        self.processes = setup.processes
        self.precision = setup.precision
        self.device = setup.processes.device
        self.main = setup.processes.main
        self.feed = setup.feed
        self.val_feed = setup.val_feed
        self.epochs = int(config.value("epochs"))
        self.rows = setup.rows_of_a_step
        self.steps_per_epoch = math.ceil(len(self.feed.pairs) / self.rows)
        self.history = _new_history(setup)
        self.adviser = Adviser(config)
        self.model = TrainedModel(config, setup.start, setup.processes, sharded=setup.sharded)
        self.trackers = Trackers(config)
        self.watch = Watch(self.model.optimizer, self.trackers, self.steps_per_epoch, self.epochs)
        self.wanted = threshold_objective(config)
        if config.compile:
            compile_towers(self.model.detector)
        self.step = _new_step(setup, self.model)
        self.interruption = Interruption()
        self.plan = ResumePlan()
        self.position = Position(sums=torch.zeros(2, device=self.device))
        self.saver = Saver(self.model, self.step, self.folder, self.history, self.position)

    def resume_from(self, plan: ResumePlan, rows: str, interruption: Interruption) -> None:
        """Be where the run is that is resumed; `rows`: their digest."""
        self.plan = plan
        self.interruption = interruption
        self.history.facts["rows_digest"] = rows
        self.saver.embeddings = embeddings_digest([self.feed, self.val_feed])
        if plan.folder is not None:
            self.saver.resume_from(plan, plan.folder)

    def train(self) -> TrainResult:
        """Train all epochs, or as many as early stopping lets pass."""
        try:
            self._begin()
            self._all_epochs()
            self.history.finished = True
            warn_of_missed_target(self.history, self.wanted)
            if self.main:
                self.folder.finish(self.history.to_dict())
        except KeyboardInterrupt:
            announce(interruption_line(self.position, self.steps_per_epoch, self.folder))
            raise
        finally:
            self.trackers.finish()
            self.folder.draw(self.history.to_dict())
        announce(f"best epoch {self.history.best_epoch}; {self.folder.contents()}")
        result = TrainResult.of(
            self.folder.folder / BEST, self.folder.folder / FINAL, self.history.to_dict()
        )
        end(result)
        return result

    def _begin(self) -> None:
        run = self._info()
        announce(start_line(run, self.start, self.feed.pairs, self.step))
        begin(run)
        self.trackers.start()
        if not (self.start.checkpoint or self.plan.folder):
            fit_new_head(self.feed, self.step, frozen=self.model.tuning.frozen)

    def _info(self) -> RunInfo:
        return RunInfo(
            config=self.config,
            rows=len(self.feed.pairs),
            val_rows=0 if self.val_feed is None else len(self.val_feed.pairs),
            first_epoch=self.position.epoch,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            device=str(self.device),
            precision=self.precision,
        )

    def _all_epochs(self) -> None:
        for epoch in range(self.position.epoch, self.epochs + 1):
            if self.val_feed is not None and is_stale(self.history, epoch - 1):
                announce(
                    f"stopped early: {self.config.best_metric} has not improved since epoch"
                    f" {self.history.best_epoch}"
                )
                return
            self._epoch(epoch)

    def _epoch(self, epoch: int) -> None:
        losses = self._train_epoch(epoch)
        trained = time.perf_counter()
        sharded = self.model.shards is not None
        # in a pass that one process breaks off the others wait for its shards
        with self.interruption.held() if sharded else nullcontext():
            try:
                validation = self._validate()
            except KeyboardInterrupt:
                if not sharded:
                    self.saver.save_last()
                raise
            with self.interruption.held():
                self._end_epoch(epoch, losses, validation, time.perf_counter() - trained)

    def _validate(self) -> Validation | None:
        if self.val_feed is None:
            return None
        return validate(self.val_feed, self.step, self.wanted)

    def _end_epoch(
        self,
        epoch: int,
        losses: tuple[float, float],
        validation: Validation | None,
        val_seconds: float,
    ) -> None:
        best = self.history.add(
            epoch,
            losses,
            validation,
            self.position.seconds,
            self.model.optimizer,
            val_seconds=val_seconds,
        )
        self.position.next_epoch()
        score = PLAIN if validation is None else validation.score
        self.saver.save_epoch(epoch, score, best=best)
        announce(self.history.line(self.epochs, best))
        figures = self.history.last()
        checkpoint = self.folder.folder / f"{EPOCH}{epoch}"
        end_epoch(EpochInfo(epoch, self.epochs, figures, is_best=best, checkpoint=checkpoint))
        self.adviser.look(self.history)
        self.trackers.epoch(self.history, step=epoch * self.steps_per_epoch)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """Make one pass over the rows, or what is left of it → mean binary and mean contrastive
        loss, nats.
        """
        self.model.train_mode()
        position = self.position
        pairs = self.feed.pairs
        steps = self.steps_per_epoch * self.epochs
        steps_before = (epoch - 1) * self.steps_per_epoch
        began = time.perf_counter() - position.seconds
        config = self.config
        batches = make_batches(
            pairs, self.rows, config.seed, epoch, skip=position.step, by=config.batch_by
        )
        with (
            self.interruption.held(),
            progress(f"epoch {epoch}/{self.epochs}", len(pairs), "row") as advance,
            closing(self.feed.stream(batches)) as stream,
        ):
            advance(position.rows)
            for batch, inputs in stream:
                step = steps_before + position.step
                losses = self._take_step(batch, inputs, epoch, step)
                position.seconds = time.perf_counter() - began
                message = self.watch.after(step + 1, position.sums, position.rows)
                advance(len(batch), message)
                end_step(StepInfo(epoch, step + 1, steps, position.rows, losses.tolist))
                if self._ends_here():
                    break
        # each process takes running statistics of its share
        self.processes.average([*self.model.detector.backbone.buffers()])
        return self._mean_losses(epoch)

    def _take_step(self, batch: Batch, inputs: Any, epoch: int, step: int) -> Tensor:
        """Train on a batch, and count it → (2,) binary and contrastive loss, nats."""
        steps = self.steps_per_epoch * self.epochs
        set_rates(self.model.optimizer, rate_factor(step, steps, self.config.warmup))
        losses = self.step(self.feed, batch, inputs, (epoch, step))
        self.position.sums += len(batch) * losses
        self.position.rows += len(batch)
        self.position.step += 1
        return losses

    def _mean_losses(self, epoch: int) -> tuple[float, float]:
        """Return an epoch's binary and contrastive loss, nats; InputError unless finite."""
        binary, contrastive = (self.position.sums / self.position.rows).tolist()
        if not math.isfinite(binary + contrastive):
            raise InputError(
                f"the loss is {binary} after epoch {epoch}: training has diverged; lower"
                " `learning_rate` or `head_learning_rate`"
            )
        return binary, contrastive

    def _ends_here(self) -> bool:
        """Return whether a signal ends the epoch behind this step; checkpoint_last is written for
        one, and every `checkpoint_steps`.
        """
        every = self.config.checkpoint_steps
        step = self.position.step
        came = self.processes.any(self.interruption.came)
        if came:
            self.interruption.follow()
        due = every is not None and step % every == 0 and step < self.steps_per_epoch
        if due or came:
            may_write = self.main and (due or not self.folder.guards_other)
            if self.processes.any(may_write):
                self.saver.save_last()
        return came


def _new_history(setup: Setup) -> History:
    history = History(setup.config, setup.feed, setup.val_feed, setup.processes.device)
    history.facts |= {
        "long_texts": setup.long_texts,
        "long_text": setup.start.long_text,
        "precision": setup.precision,
        "processes": setup.processes.count,
        "rows_per_step": setup.rows_of_a_step,
    }
    return history


def _new_step(setup: Setup, model: TrainedModel) -> Step:
    config = setup.config
    objective = TrainingObjective(model.head, setup.start.long_text, config.contrastive_weight)
    return Step(
        model.detector,
        objective,
        model.optimizer,
        setup.processes,
        rows=setup.rows_of_a_step,
        parts=math.ceil(setup.rows_of_a_step / setup.rows_at_once),
        precision=setup.precision,
        seed=config.seed,
        shards=model.shards,
    )
