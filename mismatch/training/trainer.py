"""The training run: epochs of steps, validation after each, and a folder of checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mismatch.data.audit import MIN_ROWS, size_advice, validate_files
from mismatch.errors import InputError
from mismatch.locks import locked
from mismatch.outputs import refuse_model_folder
from mismatch.runtime.preprocess import open_image
from mismatch.specs import ScoreSpec
from mismatch.training.advice import Adviser, warn_of_balance, warn_of_rate
from mismatch.training.batches import Feed, make_batches
from mismatch.training.checkpoint import CheckpointMeta, meta_for
from mismatch.training.config import TrainConfig
from mismatch.training.curves import CURVES
from mismatch.training.fsdp import (
    ShardedOptimizer,
    ShardedWeights,
    Shards,
    as_launched,
    shards_towers,
)
from mismatch.training.head import CosineHead, head_options
from mismatch.training.history import PLAIN, History, Validation, threshold_objective
from mismatch.training.interruption import Interruption
from mismatch.training.objective import Objective
from mismatch.training.optim import build_optimizer, rate_factor, set_rates
from mismatch.training.output import BEST, FINAL, RunFolder, draw_curves
from mismatch.training.precision import choose_precision
from mismatch.training.prepare import (
    Progress,
    Report,
    Start,
    cut_long_texts,
    load_sets,
    load_start,
    make_feeds,
    no_progress,
)
from mismatch.training.processes import Processes
from mismatch.training.resume import (
    Plan,
    embeddings_digest,
    frozen_digest,
    make_plan,
    rows_digest,
    with_start,
)
from mismatch.training.settings import settings_text
from mismatch.training.sharded_rows import SCRATCH, Together, gathering
from mismatch.training.state import (
    Note,
    Position,
    Stateful,
    Weights,
    load_parts,
    states_of,
    write_state,
)
from mismatch.training.step import Step, compile_towers
from mismatch.training.tracking import Trackers, require_trackers
from mismatch.training.tuning import Tuning
from mismatch.training.watch import Watch

__all__ = ["TrainResult", "train"]

START_ROWS = 512  # whose embeddings a new head is standardised by where they are not known already


@dataclass(frozen=True)
class TrainResult:
    """Where a run's models lie, and what training_stats.json says."""

    best_dir: Path
    final_dir: Path
    stats: dict[str, Any]


def train(
    config: TrainConfig, *, report: Report = print, progress: Progress = no_progress
) -> TrainResult:
    """Fine-tune as `config` says; `report` is given lines for people, one an epoch. Interrupting
    keeps the epochs that are done, and says which.

    CheckpointError while another run writes to the same folder.
    """
    config = as_launched(config)
    refuse_model_folder(Path(config.output_dir), "--output-dir")
    require_trackers(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    processes = Processes.start(config.device)
    with (
        locked(config.output_dir, parents=True, inside=SCRATCH) if processes.main else nullcontext()
    ):
        result = _train(config, processes, report, progress)
    processes.end()
    return result


def _train(
    config: TrainConfig, processes: Processes, report: Report, progress: Progress
) -> TrainResult:
    if not processes.main:
        report = _say_nothing
        progress = no_progress
    with (
        torch.random.fork_rng([processes.device] if processes.device.type == "cuda" else []),
        Interruption() as interruption,
    ):
        torch.manual_seed(config.seed)
        plan = make_plan(config, report)
        with gathering(config.output_dir, processes) as together:
            if plan.finished:
                return _finished(config, plan, processes, together, report)
            try:
                run = _prepare(config, plan, interruption, processes, together, report, progress)
            except KeyboardInterrupt:
                if config.tune == "head":
                    report(
                        "interrupted before the first step: what is embedded stays in the cache,"
                        " and the same command goes on from there"
                    )
                raise
            return run.train()


def _finished(
    config: TrainConfig, plan: Plan, processes: Processes, together: Together | None, report: Report
) -> TrainResult:
    """A run that --resume finds done; its rows are compared still."""
    sets = [pairs for pairs in load_sets(config, _say_nothing, together) if pairs is not None]
    plan.check_rows(rows_digest(sets, config.image_base_path, processes), sets, config)
    report(f"the run in {config.output_dir} is finished: there is nothing to resume")
    if not (Path(config.output_dir) / CURVES).is_file():  # it was killed before its very last word
        draw_curves(Path(config.output_dir), dict(plan.finished or {}), report)
    return TrainResult(
        Path(config.output_dir) / BEST, Path(config.output_dir) / FINAL, dict(plan.finished or {})
    )


def _say_nothing(line: str) -> None:
    """The report of every process but the main one."""


def _prepare(
    config: TrainConfig,
    plan: Plan,
    interruption: Interruption,
    processes: Processes,
    together: Together | None,
    report: Report,
    progress: Progress,
) -> Run:
    began = time.perf_counter()
    precision = choose_precision(config.precision, config.tune, processes.device, report)
    sharded = shards_towers(config, processes, precision, report)
    if config.validate_data:
        _audit(config, processes, report, progress)
    train_set, val_set = load_sets(config, report, together)
    sets = [train_set] if val_set is None else [train_set, val_set]
    if not config.validate_data:  # else the audit has said so already
        _advise(len(train_set) if config.val_csv else sum(map(len, sets)), report)
        warn_of_balance(train_set.labels, report)
    warn_of_rate(config, report)
    rows = rows_digest(sets, config.image_base_path, processes)
    plan.check_rows(rows, sets, config)
    start = load_start(with_start(config, plan), report)
    sets, long_texts = cut_long_texts(start, sets, report, together)
    folder = RunFolder(
        config.output_dir,
        report=report,
        start=start.checkpoint,
        settings=settings_text(config),
        keep=config.keep_checkpoints,
    )
    # a shard goes there by itself: all of them might not fit
    (start.detector.head if sharded else start.detector).to(processes.device)
    processes.follow_main([*start.detector.state_dict().values()])
    if config.gradient_checkpointing:
        start.detector.backbone.checkpoint_gradients()
    if config.tune == "head":  # minutes, in which a pipe would see nothing
        images, texts = (
            sum(len(getattr(pairs, name)) for pairs in sets) for name in ("images", "pieces")
        )
        report(f"embedding {images:,} images and {texts:,} texts, those aside that the cache has")
    ready = time.perf_counter()
    feeds = make_feeds(config, start, sets, processes, progress)
    embedding = time.perf_counter() - ready if config.tune == "head" else 0.0
    run = Run(
        config,
        start,
        feeds[0],
        feeds[1] if val_set is not None else None,
        folder,
        processes,
        precision,
        report,
        progress,
        long_texts,
        plan.rows_per_step,
        sharded=sharded,
    )
    run.history.began(began, embedding)
    run.take_up(plan, rows, interruption)
    return run


def _advise(rows: int, report: Report) -> None:
    """What to say of so many rows in the training file, held-out ones included."""
    if advice := size_advice(rows):
        report(f"{'warning' if rows < MIN_ROWS else 'advice'}: {advice}")


def _audit(config: TrainConfig, processes: Processes, report: Report, progress: Progress) -> None:
    """InputError unless every row and every image can be used; what was found is reported first.
    The main process looks, as duplicates need all of them.
    """
    if not processes.each(lambda: not processes.main or _is_fit(config, report, progress))[0]:
        raise InputError(
            "the data did not pass --validate-data, so nothing was trained; what is wrong stands"
            " above, by line"
        )


def _is_fit(config: TrainConfig, report: Report, progress: Progress) -> bool:
    paths = [path for path in (config.train_csv, config.val_csv) if path is not None]
    workers = config.num_workers
    columns = config.columns
    found = validate_files(
        paths,
        config.image_base_path,
        check_image=open_image,
        columns=columns,
        workers=workers,
        progress=progress,
    )
    for line in found.lines():
        report(line)
    return found.ok


class Run:
    """One training run, ready to go."""

    def __init__(
        self,
        config: TrainConfig,
        start: Start,
        feed: Feed,
        val_feed: Feed | None,
        folder: RunFolder,
        processes: Processes,
        precision: str,
        report: Report,
        progress: Progress,
        long_texts: int = 0,
        rows_per_step: int | None = None,
        *,
        sharded: bool = False,
    ) -> None:
        """`long_texts`: how many different texts are over the context, for the statistics;
        `rows_per_step`: of a run that is resumed, maybe by more or fewer processes than began it;
        `sharded`: whether the backbone is spread over the processes.
        """
        self.config = config
        self.start = start
        self.folder = folder
        self.processes = processes
        self.report = report
        self.progress = progress
        self.device = processes.device
        self.main = processes.main
        self.feed = feed
        self.val_feed = val_feed
        self.detector = start.detector
        self.head = _trained_head(start)
        self.epochs = int(config.value("epochs"))
        rows_together = int(config.value("batch_size")) * processes.count
        self.rows = rows_per_step or rows_together * config.gradient_accumulation_steps  # of a step
        self.steps_per_epoch = math.ceil(len(feed.pairs) / self.rows)
        self.history = History(config, feed, val_feed, self.device)
        self.history.facts |= {"long_texts": long_texts, "long_text": start.long_text}
        self.history.facts |= {
            "precision": precision,
            "processes": processes.count,
            "rows_per_step": self.rows,
        }
        self.adviser = Adviser(config, report)
        self.tuning = Tuning(config, self.detector.backbone, report)
        # adapters that are new
        processes.follow_main([*self.tuning.state().values()] if config.mode == "lora" else [])
        self.frozen = frozen_digest(self.detector)
        with self.tuning.replacing():
            self.shards = Shards(self.detector, processes, report) if sharded else None
        rates = {
            "backbone_rate": float(config.value("learning_rate")),
            "head_rate": float(config.value("head_learning_rate")),
        }
        self.optimizer = build_optimizer(
            self.detector, **rates, weight_decay=config.weight_decay, factors=self.tuning.factors
        )
        self.trackers = Trackers(config, report)
        self.watch = Watch(self.optimizer, self.trackers, self.steps_per_epoch, self.epochs)
        self.wanted = threshold_objective(config)
        self.objective = Objective(self.head, start.long_text, config.contrastive_weight)
        if config.compile:
            compile_towers(self.detector)
        how: dict[str, Any] = {
            "rows": self.rows,
            "parts": math.ceil(self.rows / rows_together),
            "precision": precision,
            "seed": config.seed,
        }
        self.step = Step(
            self.detector,
            self.objective,
            self.optimizer,
            processes,
            shards=self.shards,
            report=report,
            **how,
        )
        self.interruption = Interruption()
        self.plan = Plan()
        self.position = Position(sums=torch.zeros(2, device=self.device))
        self.parts: dict[str, Stateful] = {
            "weights": Weights(self.detector),
            "optimizer": self.optimizer,
            "step": self.step,
        }
        if self.shards is not None:
            self.parts |= {
                "weights": ShardedWeights(Weights(self.detector), self.shards),
                "optimizer": ShardedOptimizer(self.optimizer, self.shards),
            }
        # whatever else changes from step to step belongs here
        self.parts |= {"history": self.history, "position": self.position}

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
            self.report(line)
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
            self.trackers.start()
            self._start_head()
            for epoch in range(self.position.epoch, self.epochs + 1):
                if self._is_stale(epoch - 1):
                    self.report(
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
            self.report(self._farewell())
            raise
        finally:
            self.trackers.finish()
            self.folder.draw(self.history.to_dict())
        self.report(f"best epoch {self.history.best_epoch}; {self.folder.contents()}")
        return TrainResult(
            self.folder.folder / BEST, self.folder.folder / FINAL, self.history.to_dict()
        )

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
            "; the same command with --resume goes on from there"
            if self.folder.holds_this_run
            else ""
        )
        return f"interrupted {when}: {self.folder.contents()}{how}"

    def _announce(self) -> None:
        config = self.config
        pairs = self.feed.pairs
        rows = f"{len(pairs):,} rows ({len(pairs.images):,} images, {len(pairs.texts):,} texts)"
        origin = f"{self.start.family}:{self.start.model_id}" + (
            f", from {self.start.checkpoint}" if self.start.checkpoint else ""
        )
        work = (
            f"--tune {config.tune} on {self.device} in {self.step.precision}, {self.epochs} epochs"
            f" of {self.steps_per_epoch} steps of {self._rows_of_a_step()}"
        )
        self.report(f"training on {rows}; {origin}, {self.head.spec.kind} head; {work}")

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
        self.report(self.history.line(self.epochs, best))
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
        progress = self.progress(f"epoch {epoch}/{self.epochs}", len(self.feed.pairs), "row")
        with (
            self.interruption.held(),
            progress as advance,
            closing(self.feed.stream(batches)) as stream,
        ):
            advance(at.rows)
            for batch, inputs in stream:
                step = before + at.step
                set_rates(
                    self.optimizer,
                    rate_factor(step, self.steps_per_epoch * self.epochs, self.config.warmup),
                )
                at.sums += len(batch) * self.step(self.feed, batch, inputs, (epoch, step))
                at.rows = at.rows + len(batch)
                at.step = at.step + 1
                at.seconds = time.perf_counter() - began
                advance(len(batch), self.watch.after(step + 1, at.sums, at.rows))
                if self._ends_here():
                    break
        # running statistics, which each process takes of its share
        self.processes.average([*self.detector.backbone.buffers()])
        binary, contrastive = (at.sums / at.rows).tolist()
        if not math.isfinite(binary + contrastive):
            raise InputError(
                f"the loss is {binary} after epoch {epoch}: training has diverged; lower"
                " --learning-rate or --head-learning-rate"
            )
        return binary, contrastive

    def _ends_here(self) -> bool:
        """Whether a signal ends the epoch behind this step; checkpoint_last is written for one, and
        every --checkpoint-steps.
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
                "the validation scores are no numbers: training has diverged; lower --learning-rate"
                " or --head-learning-rate"
            )
        return Validation.of(logits, feed.pairs.labels, self.wanted)

    def _check_target(self) -> None:
        """Say so where the threshold that was asked for does not exist."""
        best = self.history.best_validation
        stored = None if best is None else best.score.threshold
        if stored is not None and stored.objective != self.wanted:
            self.report(
                f"warning: no threshold reaches {self.wanted} on the validation rows; the one of"
                f" the best {stored.objective} is stored"
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
