"""A run: epochs of steps, validation after each, and what is written after each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mismatch.errors import InputError
from mismatch.progress import progress
from mismatch.specs import ScoreSpec
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
    warn,
)
from mismatch.training.checkpoint import CheckpointMeta, meta_for
from mismatch.training.config import TrainConfig
from mismatch.training.distributed.fsdp import (
    ShardedOptimizer,
    ShardedWeights,
    Shards,
)
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import make_batches
from mismatch.training.feeds.feeds import Feed
from mismatch.training.feeds.prepare import (
    Start,
)
from mismatch.training.folder.earlier import BEST, EPOCH, FINAL
from mismatch.training.folder.history import PLAIN, History, Validation, threshold_objective
from mismatch.training.folder.output import RunFolder
from mismatch.training.folder.resume import (
    Plan,
    embeddings_digest,
    frozen_digest,
)
from mismatch.training.folder.state import (
    Note,
    Position,
    Stateful,
    Weights,
    load_parts,
    states_of,
    write_state,
)
from mismatch.training.head import CosineHead, head_options
from mismatch.training.interruption import Interruption
from mismatch.training.objective import Objective
from mismatch.training.optim import build_optimizer, rate_factor, set_rates
from mismatch.training.result import TrainResult
from mismatch.training.step import Step, compile_towers
from mismatch.training.tracking import Trackers
from mismatch.training.tuning.weights import Tuning
from mismatch.training.watch import Watch

__all__ = ["Run", "Setup"]

START_ROWS = 512  # whose embeddings a new head is standardised by where they are not known already


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


class Run:
    """One training run, ready to go."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        processes = setup.processes
        self.config = config
        self.start = setup.start
        self.folder = setup.folder
        self.processes = processes
        self.precision = setup.precision
        self.device = processes.device
        self.main = processes.main
        self.feed = setup.feed
        self.val_feed = setup.val_feed
        self.detector = setup.start.detector
        self.head = _trained_head(setup.start)
        self.epochs = int(config.value("epochs"))
        rows_together = int(config.value("batch_size")) * processes.count
        # rows of a step
        self.rows = setup.rows_per_step or rows_together * config.gradient_accumulation_steps
        self.steps_per_epoch = math.ceil(len(self.feed.pairs) / self.rows)
        self.history = History(config, self.feed, self.val_feed, self.device)
        self.history.facts |= {
            "long_texts": setup.long_texts,
            "long_text": self.start.long_text,
            "precision": setup.precision,
            "processes": processes.count,
            "rows_per_step": self.rows,
        }
        self.adviser = Adviser(config)
        self.tuning = Tuning(config, self.detector.backbone)
        # adapters that are new
        processes.follow_main([*self.tuning.state().values()] if config.mode == "lora" else [])
        self.frozen = frozen_digest(self.detector)
        with self.tuning.replacing():
            self.shards = Shards(self.detector, processes) if setup.sharded else None
        self.optimizer = build_optimizer(
            self.detector,
            backbone_rate=float(config.value("learning_rate")),
            head_rate=float(config.value("head_learning_rate")),
            weight_decay=config.weight_decay,
            factors=self.tuning.factors,
        )
        self.trackers = Trackers(config)
        self.watch = Watch(self.optimizer, self.trackers, self.steps_per_epoch, self.epochs)
        self.wanted = threshold_objective(config)
        self.objective = Objective(self.head, self.start.long_text, config.contrastive_weight)
        if config.compile:
            compile_towers(self.detector)
        self.step = Step(
            self.detector,
            self.objective,
            self.optimizer,
            processes,
            rows=self.rows,
            parts=math.ceil(self.rows / rows_together),
            precision=setup.precision,
            seed=config.seed,
            shards=self.shards,
        )
        self.interruption = Interruption()
        self.plan = Plan()
        self.position = Position(sums=torch.zeros(2, device=self.device))
        self.parts = self._stateful()

    def _stateful(self) -> dict[str, Stateful]:
        """Return what changes from step to step, by the name under which it is saved."""
        weights: Stateful = Weights(self.detector)
        optimizer: Stateful = self.optimizer
        if self.shards is not None:
            weights = ShardedWeights(Weights(self.detector), self.shards)
            optimizer = ShardedOptimizer(self.optimizer, self.shards)
        return {
            "weights": weights,
            "optimizer": optimizer,
            "step": self.step,
            "history": self.history,
            "position": self.position,
        }

    def take_up(self, plan: Plan, rows: str, interruption: Interruption) -> None:
        """Be where the run is that is resumed; `rows`: their digest."""
        self.plan = plan
        self.interruption = interruption
        self.history.facts["rows_digest"] = rows
        self.embeddings = embeddings_digest([self.feed, self.val_feed])
        if plan.folder is None:
            return
        now = self._note()
        plan.check_weights(now, self.config)
        for line in plan.remarks(now):
            announce(line)
        load_parts(plan.folder, self.parts)
        self.processes.wait()  # until all have read, as the main one writes now
        if self.main:
            self.folder.take_up(
                plan.folder,
                self.position.epoch - 1,
                self.history.best_epoch,
                self.history.to_dict(),
            )

    def train(self) -> TrainResult:
        """All epochs, or as many as early stopping lets pass."""
        try:
            self._announce()
            begin(self._info())
            self.trackers.start()
            self._start_head()
            for epoch in range(self.position.epoch, self.epochs + 1):
                if self._is_stale(epoch - 1):
                    announce(
                        f"stopped early: {self.config.best_metric} has not improved since epoch"
                        f" {self.history.best_epoch}"
                    )
                    break
                self._epoch(epoch)
            self.history.finished = True
            self._check_target()
            if self.main:
                self.folder.finish(self.history.to_dict())
        except KeyboardInterrupt:
            announce(self._farewell())
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

    def _farewell(self) -> str:
        """What an interrupted run says last."""
        at = self.position
        done = (
            f"in epoch {at.epoch} after {at.step:,} of {self.steps_per_epoch:,} steps"
            if at.step
            else f"after epoch {at.epoch - 1}"
        )
        when = done if at.step or at.epoch > 1 else "before the first step"
        how = (
            "; the same command with `resume` goes on from there"
            if self.folder.holds_this_run
            else ""
        )
        return f"interrupted {when}: {self.folder.contents()}{how}"

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

    def _announce(self) -> None:
        config = self.config
        pairs = self.feed.pairs
        rows = f"{len(pairs):,} rows ({len(pairs.images):,} images, {len(pairs.texts):,} texts)"
        origin = f"{self.start.family}:{self.start.model_id}" + (
            f", from {self.start.checkpoint}" if self.start.checkpoint else ""
        )
        work = (
            f"`tune='{config.tune}'` on {self.device} in {self.precision}, {self.epochs} epochs"
            f" of {self.steps_per_epoch} steps of {self._rows_of_a_step()}"
        )
        announce(f"training on {rows}; {origin}, {self.head.spec.kind} head; {work}")

    def _rows_of_a_step(self) -> str:
        """`32 rows`, or `64 rows (8 at once x 4 accumulated x 2 processes)`."""
        accumulated = self.step.parts
        processes = self.processes.count
        factors = [f"{accumulated} accumulated"] * (accumulated > 1) + [
            f"{processes} processes"
        ] * (processes > 1)
        return f"{self.rows} rows" + (
            f" ({' x '.join([f'{self.step.rows_at_once} at once', *factors])})" if factors else ""
        )

    def _start_head(self) -> None:
        """Standardise a new head by what it will see, and, where the backbone states no threshold,
        start with logit 0 at the first batch's mean cosine, so that the bias needn't travel there.
        """
        if self.start.checkpoint or self.plan.folder:
            return
        backbone = self.detector.backbone
        self.detector.eval()
        with torch.no_grad():
            batches = make_batches(self.feed.pairs, self.rows, self.config.seed, epoch=1)
            with closing(
                self.feed.stream(islice(batches, math.ceil(START_ROWS / self.rows)))
            ) as stream:
                seen = [
                    (batch, *self.step.embed(self.feed, batch, inputs)) for batch, inputs in stream
                ]
            known = self.feed.embed_all(self.detector, self.rows) if self.tuning.frozen else None
            self.head.fit(
                *(
                    known
                    or (
                        torch.cat([images for _, images, _ in seen]),
                        torch.cat([pieces for *_, pieces in seen]),
                    )
                )
            )
            if not (
                backbone.shared_space
                and (backbone.zero_shot_threshold is not None or backbone.logit_bias is not None)
            ):
                self.objective.centre(*seen[0])

    def _epoch(self, epoch: int) -> None:
        losses = self._train_epoch(epoch)
        trained = time.perf_counter()
        # in a pass that one process breaks off the others wait for its shards
        with nullcontext() if self.shards is None else self.interruption.held():
            try:
                validation = None if self.val_feed is None else self._validate(self.val_feed)
            except KeyboardInterrupt:
                if self.shards is None:
                    self._save_last()
                raise
            with self.interruption.held():
                self._end_epoch(epoch, losses, validation, time.perf_counter() - trained)

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
            self.optimizer,
            val_seconds=val_seconds,
        )
        self.position.next_epoch()
        write = self._state_writer()
        with self._whole_weights():
            if self.main:
                meta = self._meta(PLAIN if validation is None else validation.score)
                stats = self.history.to_dict()
                with self.tuning.plain():
                    self.folder.save_epoch(
                        epoch,
                        self.detector,
                        meta,
                        stats,
                        best=best,
                        same_backbone=self.tuning.frozen,
                        write_state=write,
                    )
        announce(self.history.line(self.epochs, best))
        figures = self.history.last()
        place = self.folder.folder / f"{EPOCH}{epoch}"
        end_epoch(EpochInfo(epoch, self.epochs, figures, is_best=best, checkpoint=place))
        self.adviser.look(self.history)
        self.trackers.epoch(self.history, step=epoch * self.steps_per_epoch)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass over the rows, or what is left of it → mean binary and mean contrastive loss,
        nats.
        """
        self.tuning.train_mode()
        self.head.train()
        at = self.position
        before = (epoch - 1) * self.steps_per_epoch
        began = time.perf_counter() - at.seconds
        batches = make_batches(self.feed.pairs, self.rows, self.config.seed, epoch, skip=at.step)
        with (
            self.interruption.held(),
            progress(f"epoch {epoch}/{self.epochs}", len(self.feed.pairs), "row") as advance,
            closing(self.feed.stream(batches)) as stream,
        ):
            advance(at.rows)
            for batch, inputs in stream:
                step = before + at.step
                set_rates(
                    self.optimizer,
                    rate_factor(step, self.steps_per_epoch * self.epochs, self.config.warmup),
                )
                losses = self.step(self.feed, batch, inputs, (epoch, step))
                at.sums += len(batch) * losses
                at.rows = at.rows + len(batch)
                at.step = at.step + 1
                at.seconds = time.perf_counter() - began
                advance(len(batch), self.watch.after(step + 1, at.sums, at.rows))
                steps = self.steps_per_epoch * self.epochs
                end_step(StepInfo(epoch, step + 1, steps, at.rows, losses.tolist))
                if self._ends_here():
                    break
        # running statistics, which each process takes of its share
        self.processes.average([*self.detector.backbone.buffers()])
        binary, contrastive = (at.sums / at.rows).tolist()
        if not math.isfinite(binary + contrastive):
            raise InputError(
                f"the loss is {binary} after epoch {epoch}: training has diverged; lower"
                " `learning_rate` or `head_learning_rate`"
            )
        return binary, contrastive

    def _ends_here(self) -> bool:
        """Whether a signal ends the epoch behind this step; checkpoint_last is written for one, and
        every `checkpoint_steps`.
        """
        every = self.config.checkpoint_steps
        step = self.position.step
        came = self.processes.any(self.interruption.came)
        if came:
            self.interruption.follow()
        due = every is not None and step % every == 0 and step < self.steps_per_epoch
        if (due or came) and self.processes.any(
            self.main and (due or not self.folder.guards_other)
        ):
            self._save_last()
        return came

    def _save_last(self) -> None:
        write = self._state_writer()
        with self._whole_weights():
            if self.main:
                with self.tuning.plain():
                    self.folder.save_last(
                        self.detector,
                        self._meta(PLAIN),
                        self.history.to_dict(),
                        same_backbone=self.tuning.frozen,
                        write_state=write,
                    )

    def _whole_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self.shards is None else self.shards.gathered()

    def _state_writer(self) -> Callable[[Path], None]:
        """What writes the state into a checkpoint; taken before the backbone is made plain, in
        which its weights have other names.
        """
        note = self._note()
        states = states_of(self.parts)
        return lambda folder: write_state(folder, note, states)

    def _note(self) -> Note:
        return Note(
            epoch=self.position.epoch,
            step=self.position.step,
            config=self.config.to_dict(),
            rows=self.history.facts["rows_digest"],
            rows_per_step=self.rows,
            frozen=self.frozen,
            embeddings=self.embeddings,
            from_own_folder=self.folder.starts_from_own,
            engine=self._engine(),
            threads=torch.get_num_threads(),
            saved=self.folder.newest() + 1,
        )

    def _engine(self) -> str:
        """What computes: `cuda in bf16`, `cpu in fp32 on 2 processes, sharded`."""
        processes = f" on {self.processes.count} processes" * (
            self.processes.count > 1
        ) + ", sharded" * (self.shards is not None)
        return f"{self.device.type} in {self.step.precision}{processes}"

    def _validate(self, feed: Feed) -> Validation:
        self.detector.eval()
        # in inference_mode what FSDP gathers could not be trained with afterwards
        with torch.no_grad():
            logits = self.objective.logits(
                feed.pairs, *feed.embed_all(self.detector, self.step.rows_at_once)
            )
        if not np.isfinite(logits).all():
            raise InputError(
                "the validation scores are no numbers: training has diverged; lower"
                " `learning_rate` or `head_learning_rate`"
            )
        return Validation.of(logits, feed.pairs.labels, self.wanted)

    def _check_target(self) -> None:
        """Say so where the threshold that was asked for does not exist."""
        best = self.history.best_validation
        stored = None if best is None else best.score.threshold
        if stored is not None and stored.objective != self.wanted:
            warn(
                "threshold",
                f"no threshold reaches {self.wanted} on the validation rows; the one of the best"
                f" {stored.objective} is stored",
            )

    def _meta(self, score: ScoreSpec) -> CheckpointMeta:
        spec = self.head.spec  # a checkpoint's own where training went on from one
        really = head_options(spec) | {"long_text": self.start.long_text}
        score = replace(score, long_text=self.start.long_text)
        return meta_for(
            self.start.family,
            self.start.model_id,
            spec,
            score=score,
            train=self.config.to_dict() | really,
        )

    def _is_stale(self, epoch: int) -> bool:
        patience = self.config.early_stopping
        return (
            patience is not None
            and self.val_feed is not None
            and epoch - self.history.best_epoch >= patience
        )


def _trained_head(start: Start) -> CosineHead:
    if not isinstance(start.detector.head, CosineHead):
        raise InputError(
            f"the head of {start.checkpoint} has nothing to train; start from its backbone instead"
        )
    return start.detector.head
