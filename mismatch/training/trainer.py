"""Training from options to a folder of checkpoints: everything is read and checked, then run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from mismatch.backbones.faults import plugin_errors
from mismatch.data.audit.files import MIN_ROWS, size_advice, validate_files
from mismatch.errors import BackboneError, InputError
from mismatch.io.locks import locked
from mismatch.io.outputs import refuse_model_folder
from mismatch.progress import progress
from mismatch.runtime.preprocess import open_image
from mismatch.training.advice import warn_of_balance, warn_of_rate
from mismatch.training.callbacks import (
    Callback,
    WarningKind,
    announce,
    end,
    heard_by,
    silenced,
    warn,
)
from mismatch.training.checkpoint import read_meta
from mismatch.training.config import TrainConfig
from mismatch.training.detector import see_colours
from mismatch.training.distributed.fsdp import as_launched, shards_towers
from mismatch.training.distributed.processes import Processes
from mismatch.training.distributed.shared_folder import SCRATCH, check_shared
from mismatch.training.feeds.batches import PairSet
from mismatch.training.feeds.prepare import Start, cut_long_texts, load_sets, load_start, make_feeds
from mismatch.training.folder.curves_picture import CURVES
from mismatch.training.folder.earlier import BEST, FINAL
from mismatch.training.folder.output import RunFolder, WriteCard, draw_curves
from mismatch.training.folder.resume import ResumePlan, make_plan, rows_digest, with_start
from mismatch.training.interruption import Interruption
from mismatch.training.precision import choose_precision
from mismatch.training.result import TrainResult
from mismatch.training.run import Run, Setup
from mismatch.training.surroundings import left_as_found
from mismatch.training.tracking import require_trackers

__all__ = ["TrainResult", "train"]


def train(
    config: TrainConfig,
    *,
    callbacks: Iterable[Callback] = (),
    ignore_warnings: Iterable[WarningKind] = (),
    write_card: WriteCard | None = None,
) -> TrainResult:
    """Fine-tune as `config` says. `write_card`: writes the card of each checkpoint.

    It logs to `mismatch.training`, calls `callbacks`, and reports to `mismatch.progress`.
    Interrupting keeps the epochs that are done, and says which. torch's threads and random state,
    warning filters and environment variables are afterwards as they were.

    CheckpointError while another run writes to the same folder.
    """
    config = as_launched(config)
    refuse_model_folder(Path(config.output_dir), "`output_dir`")
    require_trackers(config)
    with left_as_found(), _threads(config.threads), heard_by(callbacks, ignore_warnings):
        processes = Processes.start(config.device)
        lock = locked(config.output_dir, parents=True, inside=SCRATCH)
        with lock if processes.main else silenced(), plugin_errors():
            result = _train(config, processes, write_card)
        processes.end()
    return result


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads until the block ends."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def _train(config: TrainConfig, processes: Processes, write_card: WriteCard | None) -> TrainResult:
    cuda = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(cuda), Interruption() as interruption:
        torch.manual_seed(config.seed)
        plan = make_plan(config)
        check_shared(config.output_dir, processes)
        if plan.finished:
            return _finished(config, plan, processes)
        try:
            run = _prepare(config, plan, interruption, processes, write_card)
        except KeyboardInterrupt:
            if config.tune == "head":
                announce(
                    "interrupted before the first step: what is embedded stays in the cache,"
                    " and the same command goes on from there"
                )
            raise
        return run.train()


def _checkpoint_gradients(start: Start) -> None:
    try:
        start.detector.backbone.checkpoint_gradients()
    except BackboneError as error:
        raise BackboneError(f"backbone {start.family!r}: {error}") from error


def _finished(config: TrainConfig, plan: ResumePlan, processes: Processes) -> TrainResult:
    """Return what a run left that `resume` finds done; its rows are compared still."""
    with silenced():
        sets = [pairs for pairs in load_sets(config, processes) if pairs is not None]
    plan.check_rows(rows_digest(sets, str(config.image_base_path), processes), sets, config)
    announce(f"the run in {config.output_dir} is finished: there is nothing to resume")
    folder = Path(config.output_dir)
    stats = dict(plan.finished or {})
    if not (folder / CURVES).is_file():  # it was killed before its very last word
        draw_curves(folder, stats)
    result = TrainResult.of(folder / BEST, folder / FINAL, stats)
    end(result)
    return result


def _prepare(
    config: TrainConfig,
    plan: ResumePlan,
    interruption: Interruption,
    processes: Processes,
    write_card: WriteCard | None,
) -> Run:
    began = time.perf_counter()
    precision = choose_precision(config.precision, config.tune, processes.device)
    sharded = shards_towers(config, processes, precision)
    sets = _load_rows(config, processes)
    rows = rows_digest(sets, str(config.image_base_path), processes)
    plan.check_rows(rows, sets, config)
    start = load_start(with_start(config, plan))
    if plan.folder is not None:  # of an earlier version, maybe
        see_colours(start.detector.backbone, read_meta(plan.folder).colour_profile)
    sets, long_texts = cut_long_texts(start, sets, processes)
    folder = RunFolder(
        config.output_dir,
        start=start.checkpoint,
        settings=config.to_yaml(),
        keep=config.keep_checkpoints,
        write_card=write_card,
    )
    # a shard goes to its device by itself: all of them might not fit
    (start.detector.head if sharded else start.detector).to(processes.device)
    processes.follow_main([*start.detector.state_dict().values()])
    if config.gradient_checkpointing:
        _checkpoint_gradients(start)
    if config.tune == "head":  # minutes, in which a pipe would see nothing
        _announce_embedding(sets)
    ready = time.perf_counter()
    feeds = make_feeds(config, start, sets, processes)
    embedding = time.perf_counter() - ready if config.tune == "head" else 0.0
    setup = Setup(
        config=config,
        start=start,
        feed=feeds[0],
        val_feed=feeds[1] if len(feeds) > 1 else None,
        folder=folder,
        processes=processes,
        precision=precision,
        long_texts=long_texts,
        rows_per_step=plan.rows_per_step,
        sharded=sharded,
    )
    run = Run(setup)
    run.history.began(began, embedding)
    run.resume_from(plan, rows, interruption)
    return run


def _load_rows(config: TrainConfig, processes: Processes) -> list[PairSet]:
    """Return the rows to train on and, where there are some, those to validate on."""
    if config.validate_data:
        _audit(config, processes)
    train_set, val_set = load_sets(config, processes)
    sets = [train_set] if val_set is None else [train_set, val_set]
    if not config.validate_data:  # else the audit has said so already
        _advise(len(train_set) if config.val_csv else sum(map(len, sets)))
        warn_of_balance(train_set.labels)
    warn_of_rate(config)
    return sets


def _announce_embedding(sets: Sequence[PairSet]) -> None:
    images = sum(len(pairs.images) for pairs in sets)
    texts = sum(len(pairs.pieces) for pairs in sets)
    announce(f"embedding {images:,} images and {texts:,} texts, those aside that the cache has")


def _advise(rows: int) -> None:
    """Say what there is to say of so many rows in the training file, held-out ones included."""
    advice = size_advice(rows)
    if advice and rows < MIN_ROWS:
        warn("few_rows", advice)
    elif advice:
        announce(f"advice: {advice}")


def _audit(config: TrainConfig, processes: Processes) -> None:
    """Refuse data unless every row and every image can be used; InputError after a report of what
    was found. The main process looks, as duplicates need all of them.
    """
    if not processes.each(lambda: not processes.main or _is_fit(config))[0]:
        raise InputError(
            "the data did not pass `validate_data`, so nothing was trained; what is wrong stands"
            " above, by line"
        )


def _is_fit(config: TrainConfig) -> bool:
    paths = [str(path) for path in (config.train_csv, config.val_csv) if path is not None]
    report = validate_files(
        paths,
        str(config.image_base_path),
        check_image=open_image,
        columns=config.columns,
        workers=config.num_workers,
        progress=progress,
    )
    for line in report.lines():
        announce(line)
    return report.ok
