"""The training run: epochs of steps, validation after each, and a folder of checkpoints."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mismatch.data.audit import MIN_ROWS, size_advice, validate_files
from mismatch.errors import InputError
from mismatch.runtime.preprocess import open_image
from mismatch.specs import ScoreSpec
from mismatch.training.advice import Adviser, warn_of_balance, warn_of_rate
from mismatch.training.batches import Feed, make_batches
from mismatch.training.checkpoint import CheckpointMeta, meta_for
from mismatch.training.config import TrainConfig
from mismatch.training.head import CosineHead, head_options
from mismatch.training.history import PLAIN, History, Validation
from mismatch.training.objective import Objective
from mismatch.training.optim import build_optimizer, rate_factor, set_rates
from mismatch.training.output import BEST, FINAL, RunFolder
from mismatch.training.precision import choose_precision
from mismatch.training.prepare import Progress, Report, Start, cut_long_texts, load_sets, load_start, make_feeds, no_progress
from mismatch.training.processes import Processes
from mismatch.training.settings import settings_text
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


def train(config: TrainConfig, *, report: Report = print, progress: Progress = no_progress) -> TrainResult:
    """Fine-tune as `config` says; `report` is given lines for people, one an epoch. Interrupting keeps the epochs that are done, and says which."""
    require_trackers(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    processes = Processes.start(config.device)
    if not processes.main:
        report, progress = _say_nothing, no_progress
    with torch.random.fork_rng([processes.device] if processes.device.type == "cuda" else []), _terminate_as_interrupt():
        torch.manual_seed(config.seed)
        return _prepare(config, processes, report, progress).train()


def _say_nothing(line: str) -> None:
    """The report of every process but the main one."""


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does; handlers belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare(config: TrainConfig, processes: Processes, report: Report, progress: Progress) -> Run:
    began = time.perf_counter()
    precision = choose_precision(config.precision, config.tune, processes.device, report)
    if config.validate_data:
        _audit(config, report, progress)
    train_set, val_set = load_sets(config, report)
    sets = [train_set] if val_set is None else [train_set, val_set]
    if not config.validate_data:  # else the audit has said so already
        _advise(len(train_set) if config.val_csv else sum(map(len, sets)), report)
        warn_of_balance(train_set.labels, report)
    warn_of_rate(config, report)
    start = load_start(config, report)
    sets, long_texts = cut_long_texts(start, sets, report)
    folder = RunFolder(config.output_dir, report=report, start=start.checkpoint, settings=settings_text(config))
    start.detector.to(processes.device)
    processes.follow_main([*start.detector.state_dict().values()])
    if config.gradient_checkpointing:
        start.detector.backbone.checkpoint_gradients()
    if config.tune == "head":  # minutes, in which a pipe would see nothing
        images, texts = (sum(len(getattr(pairs, name)) for pairs in sets) for name in ("images", "pieces"))
        report(f"embedding {images:,} images and {texts:,} texts, those aside that the cache has")
    ready = time.perf_counter()
    feeds = make_feeds(config, start, sets, processes, progress)
    embedding = time.perf_counter() - ready if config.tune == "head" else 0.0
    run = Run(config, start, feeds[0], feeds[1] if val_set is not None else None, folder, processes, precision, report, progress, long_texts)
    run.history.began(began, embedding)
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
        processes: Processes,
        precision: str,
        report: Report,
        progress: Progress,
        long_texts: int = 0,
    ) -> None:
        """`long_texts`: how many different texts are over the context, for the statistics."""
        self.config, self.start, self.folder, self.processes, self.report, self.progress = config, start, folder, processes, report, progress
        self.device, self.main = processes.device, processes.main
        self.feed, self.val_feed = feed, val_feed
        self.detector, self.head = start.detector, _trained_head(start)
        self.epochs = int(config.value("epochs"))
        self.rows = int(config.value("batch_size")) * config.gradient_accumulation_steps * processes.count  # of a step
        self.steps_per_epoch = math.ceil(len(feed.pairs) / self.rows)
        self.history = History(config, feed, val_feed, self.device)
        self.history.facts |= {"long_texts": long_texts, "long_text": start.long_text}
        self.history.facts |= {"precision": precision, "processes": processes.count, "rows_per_step": self.rows}
        self.adviser = Adviser(config, report)
        self.tuning = Tuning(config, self.detector.backbone, report)
        rates = {"backbone_rate": float(config.value("learning_rate")), "head_rate": float(config.value("head_learning_rate"))}
        self.optimizer = build_optimizer(self.detector, **rates, weight_decay=config.weight_decay, factors=self.tuning.factors)
        self.trackers = Trackers(config, report)
        self.watch = Watch(self.optimizer, self.trackers, self.steps_per_epoch, self.epochs)
        self.objective = Objective(self.head, start.long_text, config.contrastive_weight)
        if config.compile:
            compile_towers(self.detector)
        how: dict[str, Any] = {"rows": self.rows, "parts": config.gradient_accumulation_steps, "precision": precision, "seed": config.seed}
        self.step = Step(self.detector, self.objective, self.optimizer, processes, report=report, **how)

    def train(self) -> TrainResult:
        """All epochs, or as many as early stopping lets pass."""
        epoch = 0
        try:
            self._announce()
            self.trackers.start()
            self._start_head()
            for epoch in range(1, self.epochs + 1):
                self._epoch(epoch)
                if self._is_stale(epoch):
                    self.report(f"stopped early: {self.config.best_metric} has not improved since epoch {self.history.best_epoch}")
                    break
            self.history.finished = True
            if self.main:
                self.folder.finish(self.history.to_dict())
        except KeyboardInterrupt:
            when = f"in epoch {epoch}" if epoch else "before the first epoch"
            self.report(f"interrupted {when}: {self.folder.contents()}")
            raise
        finally:
            self.trackers.finish()
            self.folder.draw(self.history.to_dict())
        self.report(f"best epoch {self.history.best_epoch}; {self.folder.contents()}")
        return TrainResult(self.folder.folder / BEST, self.folder.folder / FINAL, self.history.to_dict())

    def _announce(self) -> None:
        config, pairs = self.config, self.feed.pairs
        rows = f"{len(pairs):,} rows ({len(pairs.images):,} images, {len(pairs.texts):,} texts)"
        origin = f"{self.start.family}:{self.start.model_id}" + (f", from {self.start.checkpoint}" if self.start.checkpoint else "")
        work = (
            f"--tune {config.tune} on {self.device} in {self.step.precision}, {self.epochs} epochs of {self.steps_per_epoch} steps of {self._rows_of_a_step()}"
        )
        self.report(f"training on {rows}; {origin}, {self.head.spec.kind} head; {work}")

    def _rows_of_a_step(self) -> str:
        """`32 rows`, or `64 rows (8 at once x 4 accumulated x 2 processes)`."""
        accumulated, processes = self.config.gradient_accumulation_steps, self.processes.count
        factors = [f"{accumulated} accumulated"] * (accumulated > 1) + [f"{processes} processes"] * (processes > 1)
        return f"{self.rows} rows" + (f" ({' x '.join([f'{self.step.rows_at_once} at once', *factors])})" if factors else "")

    def _start_head(self) -> None:
        """Standardise a new head by what it will see, and, where the backbone states no threshold, start with logit 0 at the first batch's mean cosine, so that
        the bias needn't travel there.
        """
        if self.start.checkpoint:
            return
        backbone = self.detector.backbone
        self.detector.eval()
        with torch.inference_mode():
            batches = make_batches(self.feed.pairs, self.rows, self.config.seed, epoch=1)
            with closing(self.feed.stream(islice(batches, math.ceil(START_ROWS / self.rows)))) as stream:
                seen = [(batch, *self.step.embed(self.feed, batch, inputs)) for batch, inputs in stream]
            known = self.feed.embed_all(self.detector, self.rows) if self.tuning.frozen else None
            self.head.fit(*(known or (torch.cat([images for _, images, _ in seen]), torch.cat([pieces for *_, pieces in seen]))))
            if not (backbone.shared_space and (backbone.zero_shot_threshold is not None or backbone.logit_bias is not None)):
                self.objective.centre(*seen[0])

    def _epoch(self, epoch: int) -> None:
        began = time.perf_counter()
        losses = self._train_epoch(epoch)
        trained = time.perf_counter()
        validation = None if self.val_feed is None else self._validate(self.val_feed)
        best = self.history.add(epoch, losses, validation, trained - began, self.optimizer, val_seconds=time.perf_counter() - trained)
        meta = self._meta(PLAIN if validation is None else validation.score)
        if self.main:
            with self.tuning.plain():
                self.folder.save_epoch(epoch, self.detector, meta, self.history.to_dict(), best=best, same_backbone=self.tuning.frozen)
        self.report(self.history.line(self.epochs, best))
        self.adviser.look(self.history)
        self.trackers.epoch(self.history, step=epoch * self.steps_per_epoch)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass over the rows → mean binary and mean contrastive loss, nats."""
        self.tuning.train_mode()
        self.head.train()
        sums, rows, step = torch.zeros(2, device=self.device), 0, (epoch - 1) * self.steps_per_epoch
        batches = make_batches(self.feed.pairs, self.rows, self.config.seed, epoch)
        with self.progress(f"epoch {epoch}/{self.epochs}", len(self.feed.pairs), "row") as advance, closing(self.feed.stream(batches)) as stream:
            for batch, inputs in stream:
                set_rates(self.optimizer, rate_factor(step, self.steps_per_epoch * self.epochs, self.config.warmup))
                sums += len(batch) * self.step(self.feed, batch, inputs, (epoch, step))
                rows, step = rows + len(batch), step + 1
                advance(len(batch), self.watch.after(step, sums, rows))
        self.processes.average([*self.detector.backbone.buffers()])  # running statistics, which each process takes of its share
        binary, contrastive = (sums / rows).tolist()
        if not math.isfinite(binary + contrastive):
            raise InputError(f"the loss is {binary} after epoch {epoch}: training has diverged; lower --learning-rate or --head-learning-rate")
        return binary, contrastive

    def _validate(self, feed: Feed) -> Validation:
        self.detector.eval()
        with torch.inference_mode():
            logits = self.objective.logits(feed.pairs, *feed.embed_all(self.detector, self.step.rows_at_once))
        if not np.isfinite(logits).all():
            raise InputError("the validation scores are no numbers: training has diverged; lower --learning-rate or --head-learning-rate")
        return Validation.of(logits, feed.pairs.labels, "f1" if self.config.best_metric == "f1" else "accuracy")

    def _meta(self, score: ScoreSpec) -> CheckpointMeta:
        spec = self.head.spec  # a checkpoint's own where training went on from one
        really = head_options(spec) | {"long_text": self.start.long_text}
        score = replace(score, long_text=self.start.long_text)
        return meta_for(self.start.family, self.start.model_id, spec, score=score, train=self.config.to_dict() | really)

    def _is_stale(self, epoch: int) -> bool:
        patience = self.config.early_stopping
        return patience is not None and self.val_feed is not None and epoch - self.history.best_epoch >= patience


def _trained_head(start: Start) -> CosineHead:
    if not isinstance(start.detector.head, CosineHead):
        raise InputError(f"the head of {start.checkpoint} has nothing to train; start from its backbone instead")
    return start.detector.head
