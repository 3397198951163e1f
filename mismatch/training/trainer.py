"""The training run: epochs of steps, validation after each, and a folder of checkpoints."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mismatch.data.audit import MIN_ROWS, size_advice, validate_files
from mismatch.errors import InputError
from mismatch.runtime.preprocess import open_image
from mismatch.specs import ScoreSpec
from mismatch.training.batches import Batch, Feed, make_batches
from mismatch.training.chance import reseed
from mismatch.training.checkpoint import CheckpointMeta, meta_for
from mismatch.training.config import TrainConfig
from mismatch.training.detector import choose_device
from mismatch.training.head import CosineHead
from mismatch.training.history import PLAIN, History, Validation
from mismatch.training.interruption import Interruption
from mismatch.training.objective import Objective
from mismatch.training.optim import CLIP_NORM, build_optimizer, rate_factor, set_rates, trainable
from mismatch.training.output import BEST, FINAL, RunFolder
from mismatch.training.prepare import Progress, Report, Start, cut_long_texts, load_sets, load_start, make_feeds, no_progress
from mismatch.training.resume import Plan, embeddings_digest, frozen_digest, make_plan, rows_digest, with_start
from mismatch.training.state import Note, Position, Stateful, Weights, load_parts, write_state

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """Where a run's models lie, and what training_stats.json says."""

    best_dir: Path
    final_dir: Path
    stats: dict[str, Any]


def train(config: TrainConfig, *, report: Report = print, progress: Progress = no_progress) -> TrainResult:
    """Fine-tune as `config` says; `report` is given lines for people, one an epoch. Interrupting keeps the epochs that are done, and says which."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), Interruption() as interruption:
        torch.manual_seed(config.seed)
        plan = make_plan(config, report)
        if plan.finished:
            return _finished(config, plan, report)
        try:
            run = _prepare(config, plan, interruption, device, report, progress)
        except KeyboardInterrupt:
            if config.tune == "head":
                report("interrupted before the first step: what is embedded stays in the cache, and the same command goes on from there")
            raise
        return run.train()


def _finished(config: TrainConfig, plan: Plan, report: Report) -> TrainResult:
    """A run that --resume finds done; its rows are compared still."""
    plan.check_rows(rows_digest([pairs for pairs in load_sets(config, lambda line: None) if pairs is not None], config.image_base_path), config)
    report(f"the run in {config.output_dir} is finished: there is nothing to resume")
    return TrainResult(Path(config.output_dir) / BEST, Path(config.output_dir) / FINAL, dict(plan.finished or {}))


def _prepare(config: TrainConfig, plan: Plan, interruption: Interruption, device: torch.device, report: Report, progress: Progress) -> Run:
    if config.validate_data:
        _audit(config, report, progress)
    train_set, val_set = load_sets(config, report)
    sets = [train_set] if val_set is None else [train_set, val_set]
    if not config.validate_data:  # else the audit has said so already
        _advise(len(train_set) if config.val_csv else sum(map(len, sets)), report)
    rows = rows_digest(sets, config.image_base_path)
    plan.check_rows(rows, config)
    start = load_start(with_start(config, plan), report)
    sets, long_texts = cut_long_texts(start, sets, report)
    folder = RunFolder(config.output_dir, report=report, start=start.checkpoint, keep=config.keep_checkpoints)
    start.detector.to(device)
    start.detector.backbone.requires_grad_(config.tune == "full")
    if config.tune == "head":  # minutes, in which a pipe would see nothing
        images, texts = (sum(len(getattr(pairs, name)) for pairs in sets) for name in ("images", "pieces"))
        report(f"embedding {images:,} images and {texts:,} texts, those aside that the cache has")
    feeds = make_feeds(config, start, sets, device, progress)
    run = Run(config, start, feeds[0], feeds[1] if val_set is not None else None, folder, device, report, progress, long_texts)
    run.take_up(plan, rows, interruption)
    return run


def _advise(rows: int, report: Report) -> None:
    """What to say of so many rows in the training file, held-out ones included."""
    if advice := size_advice(rows):
        report(f"{'warning' if rows < MIN_ROWS else 'advice'}: {advice}")


def _audit(config: TrainConfig, report: Report, progress: Progress) -> None:
    """InputError unless every row and every image can be used; what was found is reported first."""
    paths = [path for path in (config.train_csv, config.val_csv) if path is not None]
    found = validate_files(paths, config.image_base_path, check_image=open_image, workers=config.num_workers, progress=progress)
    for line in found.lines():
        report(line)
    if not found.ok:
        raise InputError("the data did not pass --validate-data, so nothing was trained; what is wrong stands above, by line")


class Run:
    """One training run, ready to go."""

    def __init__(
        self,
        config: TrainConfig,
        start: Start,
        feed: Feed,
        val_feed: Feed | None,
        folder: RunFolder,
        device: torch.device,
        report: Report,
        progress: Progress,
        long_texts: int = 0,
    ) -> None:
        """`long_texts`: how many different texts are over the context, for the statistics."""
        self.config, self.start, self.folder, self.device, self.report, self.progress = config, start, folder, device, report, progress
        self.feed, self.val_feed = feed, val_feed
        self.detector, self.head = start.detector, _trained_head(start)
        self.epochs, self.batch_size = int(config.value("epochs")), int(config.value("batch_size"))
        self.steps_per_epoch = math.ceil(len(feed.pairs) / self.batch_size)
        self.history = History(config, feed, val_feed, device)
        self.history.facts |= {"long_texts": long_texts, "long_text": start.long_text}
        rates = {"backbone_rate": float(config.value("learning_rate")), "head_rate": config.head_learning_rate}
        self.optimizer = build_optimizer(self.detector, **rates, weight_decay=config.weight_decay)
        self.parameters = trainable(self.detector)
        self.objective = Objective(self.head, start.long_text, config.contrastive_weight)
        self.interruption, self.plan = Interruption(), Plan()
        self.position = Position(sums=torch.zeros(2, device=device))
        self.parts: dict[str, Stateful] = {"weights": Weights(self.detector), "optimizer": self.optimizer}
        self.parts |= {"history": self.history, "position": self.position}  # whatever else changes from step to step belongs here

    def take_up(self, plan: Plan, rows: str, interruption: Interruption) -> None:
        """Be where the run is that is resumed; `rows`: their digest."""
        self.plan, self.interruption = plan, interruption
        self.history.facts["rows_digest"] = rows
        self.frozen, self.embeddings = frozen_digest(self.detector), embeddings_digest([self.feed, self.val_feed])
        if plan.folder is None or plan.note is None:
            return
        plan.check_weights(self.frozen, self.config)
        for line in plan.remarks(self.device, self.embeddings):
            self.report(line)
        load_parts(plan.folder, self.parts)
        self.folder.take_up(plan.folder, self.position.epoch - 1, self.history.best_epoch, self.history.to_dict())

    def train(self) -> TrainResult:
        """All epochs, or as many as early stopping lets pass."""
        try:
            self._announce()
            self._centre()
            for epoch in range(self.position.epoch, self.epochs + 1):
                if self._is_stale(epoch - 1):
                    self.report(f"stopped early: {self.config.best_metric} has not improved since epoch {self.history.best_epoch}")
                    break
                self._epoch(epoch)
            self.history.finished = True
            self.folder.finish(self.history.to_dict())
        except KeyboardInterrupt:
            self.report(self._farewell())
            raise
        self.report(f"best epoch {self.history.best_epoch}; {self.folder.contents()}")
        return TrainResult(self.folder.folder / BEST, self.folder.folder / FINAL, self.history.to_dict())

    def _farewell(self) -> str:
        """What an interrupted run says last."""
        at = self.position
        done = f"in epoch {at.epoch} after {at.step:,} of {self.steps_per_epoch:,} steps" if at.step else f"after epoch {at.epoch - 1}"
        when = done if at.step or at.epoch > 1 else "before the first step"
        how = "; the same command with --resume goes on from there" if self.folder.holds_this_run else ""
        return f"interrupted {when}: {self.folder.contents()}{how}"

    def _announce(self) -> None:
        config, pairs = self.config, self.feed.pairs
        rows = f"{len(pairs):,} rows ({len(pairs.images):,} images, {len(pairs.texts):,} texts)"
        origin = f"{self.start.family}:{self.start.model_id}" + (f", from {self.start.checkpoint}" if self.start.checkpoint else "")
        work = f"--tune {config.tune} on {self.device}, {self.epochs} epochs of {self.steps_per_epoch} steps"
        self.report(f"training on {rows}; {origin}, {self.head.spec.kind} head; {work}")

    def _centre(self) -> None:
        """A backbone that states no threshold starts with logit 0 at the mean cosine of the first batch, so that the bias needn't travel there."""
        backbone = self.detector.backbone
        if (
            self.plan.folder
            or self.start.checkpoint
            or (backbone.shared_space and (backbone.zero_shot_threshold is not None or backbone.logit_bias is not None))
        ):
            return
        self.detector.eval()
        with torch.inference_mode():
            first = next(make_batches(self.feed.pairs, self.batch_size, self.config.seed, epoch=1))
            [(batch, inputs)] = self.feed.stream([first])
            self.objective.centre(batch, *self.feed.embed(backbone, inputs))

    def _epoch(self, epoch: int) -> None:
        losses = self._train_epoch(epoch)
        try:
            validation = None if self.val_feed is None else self._validate(self.val_feed)
        except KeyboardInterrupt:
            self._save_last()
            raise
        with self.interruption.held():
            best = self.history.add(epoch, losses, validation, self.position.seconds, self.optimizer)
            meta = self._meta(PLAIN if validation is None else validation.score)
            self.position.next_epoch()
            same_backbone = self.config.tune == "head"
            self.folder.save_epoch(epoch, self.detector, meta, self.history.to_dict(), best=best, same_backbone=same_backbone, write_state=self._write_state)
            self.report(self.history.line(self.epochs, best))

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass over the rows, or what is left of it → mean binary and mean contrastive loss, nats."""
        self.detector.backbone.train(self.config.tune == "full")
        self.head.train()
        at, before = self.position, (epoch - 1) * self.steps_per_epoch
        began = time.perf_counter() - at.seconds
        batches = make_batches(self.feed.pairs, self.batch_size, self.config.seed, epoch, skip=at.step)
        progress = self.progress(f"epoch {epoch}/{self.epochs}", len(self.feed.pairs), "row")
        with self.interruption.held(), progress as advance, closing(self.feed.stream(batches)) as stream:
            advance(at.rows)
            for batch, inputs in stream:
                set_rates(self.optimizer, rate_factor(before + at.step, self.steps_per_epoch * self.epochs, self.config.warmup))
                reseed(self.config.seed, epoch, at.step, self.device)
                at.sums += len(batch) * self._step(batch, inputs)
                at.rows, at.step, at.seconds = at.rows + len(batch), at.step + 1, time.perf_counter() - began
                advance(len(batch))
                if self._ends_here():
                    break
        binary, contrastive = (at.sums / at.rows).tolist()
        if not math.isfinite(binary + contrastive):
            raise InputError(f"the loss is {binary} after epoch {epoch}: training has diverged; lower --learning-rate or --head-learning-rate")
        return binary, contrastive

    def _ends_here(self) -> bool:
        """Whether a signal ends the epoch behind this step; checkpoint_last is written for one, and every --checkpoint-steps."""
        every, step = self.config.checkpoint_steps, self.position.step
        due = every is not None and step % every == 0 and step < self.steps_per_epoch
        if due or (self.interruption.came and not self.folder.guards_other):
            self._save_last()
        return self.interruption.came

    def _save_last(self) -> None:
        stats, same_backbone = self.history.to_dict(), self.config.tune == "head"
        self.folder.save_last(self.detector, self._meta(PLAIN), stats, same_backbone=same_backbone, write_state=self._write_state)

    def _write_state(self, folder: Path) -> None:
        facts = {"config": self.config.to_dict(), "rows": self.history.facts["rows_digest"], "frozen": self.frozen, "embeddings": self.embeddings}
        facts |= {"from_own_folder": self.folder.starts_from_own, "device": str(self.device), "threads": torch.get_num_threads()}
        write_state(folder, Note(epoch=self.position.epoch, step=self.position.step, **facts), self.parts)

    def _step(self, batch: Batch, inputs: Any) -> Tensor:
        """One update → (2,) binary and contrastive loss before it."""
        binary, contrastive = self.objective.losses(batch, *self.feed.embed(self.detector.backbone, inputs))
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.total(binary, contrastive).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimizer.step()
        self.objective.clamp()
        return torch.stack([binary.detach(), contrastive.detach()])

    def _validate(self, feed: Feed) -> Validation:
        self.detector.eval()
        with torch.inference_mode():
            logits = self.objective.logits(feed.pairs, *feed.embed_all(self.detector.backbone, self.batch_size))
        if not np.isfinite(logits).all():
            raise InputError("the validation scores are no numbers: training has diverged; lower --learning-rate or --head-learning-rate")
        return Validation.of(logits, feed.pairs.labels, "f1" if self.config.best_metric == "f1" else "accuracy")

    def _meta(self, score: ScoreSpec) -> CheckpointMeta:
        spec = self.head.spec  # a checkpoint's own where training went on from one
        really: dict[str, Any] = {"head": spec.kind, "head_dim": spec.common_dim, "head_hidden": spec.hidden_dim, "dropout": spec.dropout}
        really["long_text"] = self.start.long_text
        score = replace(score, long_text=self.start.long_text)
        return meta_for(self.start.family, self.start.model_id, spec, score=score, train=self.config.to_dict() | really)

    def _is_stale(self, epoch: int) -> bool:
        patience = self.config.early_stopping
        return patience is not None and self.val_feed is not None and epoch - self.history.best_epoch >= patience


def _trained_head(start: Start) -> CosineHead:
    if not isinstance(start.detector.head, CosineHead):
        raise InputError(f"the head of {start.checkpoint} has nothing to train; start from its backbone instead")
    return start.detector.head
