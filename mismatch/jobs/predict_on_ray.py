"""Blocks of rows, each scored by an actor of a Ray cluster and written as a part of Parquet; a
manifest once all parts are there.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from mismatch.data.columns import Columns
from mismatch.data.rows import Row
from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import atomic_binary, explained
from mismatch.io.outputs import refuse_model_folder
from mismatch.io.remote import Remote, located
from mismatch.jobs.fetching import fetched_images
from mismatch.jobs.locking import lock_folder
from mismatch.jobs.long_texts import long_texts_note
from mismatch.jobs.output.part_log import Block, PartLog, foreign
from mismatch.jobs.output.run_record import option_key
from mismatch.jobs.output.tables import COLUMNS, ParquetTable
from mismatch.jobs.prediction_rows import PredictionRows
from mismatch.jobs.prediction_run import Cluster, PredictSettings, run_settings
from mismatch.jobs.row_tables import table_kind
from mismatch.jobs.scored_windows import RunCounts, scored_windows
from mismatch.progress import progress
from mismatch.runtime.decoding import DecodingPool
from mismatch.runtime.languages import UnreadTexts
from mismatch.runtime.slice_use import SliceUse
from mismatch.scale.ray import Actors, actors

__all__ = ["ActorJob", "BlockScorer", "RayOutcome", "predict_on_ray"]

# threads a CPU that fetch and decode images of a store: most of their time they wait for it
FETCHERS = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActorJob:
    """All that an actor has to know."""

    model: str
    settings: PredictSettings
    base: str  # folder or URL that image paths are relative to
    columns: Columns
    kept: dict[str, str]  # the input's columns that are copied → their names in the parts
    folder: str  # the parts' folder or URL
    directory: str  # relative paths begin there; empty where there are none

    def source(self) -> PredictionRows:
        """Return where an actor's rows come from, without the rows."""
        return PredictionRows(
            name="rows",
            files=(),
            base=self.base,
            header=[],
            columns=self.columns,
            read=lambda: iter(()),
            digest=str,
            notes=list,
        )


@dataclass(frozen=True)
class RayOutcome:
    """What was done."""

    counts: RunCounts
    parts: int  # files in the folder
    long_texts: str | None  # what to say of texts over the context


class BlockScorer:
    """What an actor holds: a predictor."""

    def __init__(self, job: ActorJob) -> None:
        """Load the model. CheckpointError where this machine lacks the working directory, or the
        model can't be loaded.
        """
        try:
            os.chdir(job.directory or ".")
        except OSError as error:
            raise CheckpointError(
                f"{socket.gethostname()} has no folder {job.directory}; mount it under the same"
                " name on all machines"
            ) from error
        settings = job.settings
        self._job = job
        decoder = DecodingPool() if settings.isolate_decoding else None
        self._predictor = settings.open(job.model, decoder)
        self._fetching = ExitStack()  # for as long as the actor lives
        self._fetching.enter_context(fetched_images(settings.fetching))
        self._unread = UnreadTexts(self._predictor.pipeline.tokenizer)

    def run_settings(self) -> dict[str, Any]:
        """Return all that scores depend on, but for the rows."""
        return run_settings(
            self._predictor,
            self._job.source(),
            self._job.settings,
            self._job.kept,
            "parts of Parquet",
        )

    def long_texts_note(self, count: int) -> str | None:
        """Return what to say of so many long texts."""
        return long_texts_note(self._predictor, count)

    def slices_warning(self, rows: int, sliced: int) -> str | None:
        """Return what to say of rows that no threshold of a slice decided."""
        predictor = self._predictor
        return SliceUse(predictor.slices, predictor.threshold, rows, sliced).warning()

    def language_warning(self) -> str | None:
        """Return what to say of texts that the model can't read, among those of this actor."""
        return self._unread.warning()

    def score(self, number: int, rows: list[Row]) -> Block:
        """Write a part, whole or not at all."""
        counts = RunCounts()
        path = located(self._job.folder) / f"part-{number:05}.parquet"
        source = self._job.source()
        with atomic_binary(path) as file:
            with ParquetTable(file, list(self._job.kept.values())) as table:
                table.begin()
                kept = list(self._job.kept)
                for window in scored_windows(self._predictor, rows, source, kept, self._unread):
                    counts.add(window)
                    for entry in window.entries:
                        table.add(entry.prediction, entry.kept)
                table.end()
            size = file.tell()
        block: Block = {
            "number": number,
            "part": path.name,
            "bytes": size,
            "rows": counts.rows,
            "failed": counts.failed,
            "long_texts": counts.long_texts,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
        }
        if self._predictor.slices is not None:
            block["sliced"] = counts.sliced
        return block


def predict_on_ray(
    model: str,
    source: PredictionRows,
    output: str | Path,
    settings: PredictSettings,
    cluster: Cluster,
) -> RayOutcome:
    """Score all rows on actors into a folder of parts. InputError where the output can't be one,
    CheckpointError while another run writes there.
    """
    folder = _folder(str(output))
    job = _actor_job(model, source, folder, settings)
    running = job.settings.model
    with ExitStack() as stack:
        if isinstance(folder, Path):
            stack.enter_context(lock_folder(folder))
        pool = stack.enter_context(
            actors(
                partial(BlockScorer, job),
                address=cluster.address,
                count=cluster.actors,
                threads=running.threads or 1,
                gpu=running.provider != "cpu",
            )
        )
        log = _score(pool, source, settings, cluster, folder, job.kept)
        counts = RunCounts(log.total("rows"), log.total("failed"), log.total("long_texts"))
        long_texts = pool.ask("long_texts_note", counts.long_texts)
        unused_slices = pool.ask("slices_warning", counts.rows, log.total("sliced"))
        for warning in filter(None, (unused_slices, pool.ask("language_warning"))):
            logger.warning(warning)
    return RayOutcome(counts, len(log.blocks), long_texts)


def _actor_job(
    model: str, source: PredictionRows, folder: Path | Remote, settings: PredictSettings
) -> ActorJob:
    running = settings.model
    threads = running.threads or 1
    workers = threads * (FETCHERS if isinstance(located(source.base), Remote) else 1)
    running = replace(
        running,
        threads=threads,
        provider="cpu" if running.provider == "auto" else running.provider,
        num_workers=workers if running.num_workers is None else running.num_workers,
    )
    return ActorJob(
        model=model,
        settings=replace(settings, model=running),
        base=source.base,
        columns=source.columns,
        kept=settings.kept(source),
        folder=str(folder if isinstance(folder, Remote) else folder.absolute()),
        directory=_directory(model, source, folder, settings),
    )


def _score(
    pool: Actors,
    source: PredictionRows,
    settings: PredictSettings,
    cluster: Cluster,
    folder: Path | Remote,
    kept: dict[str, str],
) -> PartLog:
    """Have all blocks scored that are not done yet, and write the manifest."""
    run = pool.ask("run_settings")
    run["the rows"] = [source.digest()]
    run[option_key("block_rows")] = cluster.block_rows
    if isinstance(folder, Path):
        with explained(folder, folder):
            folder.mkdir(parents=True, exist_ok=True)
    with (
        _part_log(folder, run, resume=settings.resume) as log,
        progress("predict", unit="row") as advance,
    ):
        advance(log.total("rows"))
        blocks = _blocks(settings.rows(source), cluster.block_rows, log.blocks.keys())
        for block in pool.each("score", blocks):
            log.add(block)
            advance(block["rows"])
        log.finish(
            {
                "input": source.name,
                "threshold": run[option_key("threshold")],
                "columns": [*COLUMNS, *kept.values()],
            }
        )
    return log


@contextmanager
def _part_log(folder: Path | Remote, run: dict[str, Any], *, resume: bool) -> Iterator[PartLog]:
    """Yield a log that, if the block fails, keeps the parts that are done and says how to go on."""
    log = PartLog(folder, run, resume=resume)
    try:
        yield log
    except BaseException:
        if rows := log.total("rows"):
            logger.info(f"{rows:,} rows are kept in {folder}; continue with `resume=True`")
        raise
    finally:
        log.close()


def _blocks(
    rows: Iterator[Row], size: int, done: Container[int]
) -> Iterator[tuple[int, list[Row]]]:
    """Yield blocks of `size` rows, numbered from 0, but those that are done; one empty block where
    there are no rows.
    """
    for number in count():
        block = list(islice(rows, size))
        if not block and number:
            return
        if number not in done:
            yield number, block
        if len(block) < size:
            return


def _directory(
    model: str, source: PredictionRows, folder: Path | Remote, settings: PredictSettings
) -> str:
    """Return the working directory, if an actor needs it."""
    named = [model]
    if settings.cache is not None:
        named.append(str(settings.cache))
    remote = isinstance(located(source.base), Remote) and isinstance(folder, Remote)
    return "" if remote and all(map(os.path.isabs, named)) else os.getcwd()


def _folder(output: str) -> Path | Remote:
    """Return the folder of the parts, or what their URLs begin with; InputError where it can't be
    one, or holds what is not ours.
    """
    folder = located(output)
    if isinstance(folder, Remote) and set(output) & set("*?[]"):
        raise InputError(
            f"`output` {output} has one of * ? [ ] in it, which stores take for a pattern; choose"
            " another name"
        )
    if (
        output == "-"
        or (isinstance(folder, Path) and folder.is_file())
        or folder.suffix.lower() in (".csv", ".jsonl", ".parquet", ".tsv")
    ):
        raise InputError(
            "`engine='ray'` writes a folder of parts; give it a name with `output`, such as"
            f" scores, not {output}"
        )
    table_kind("part.parquet")  # refuses where pyarrow is missing
    if isinstance(folder, Path):
        refuse_model_folder(folder, "`output`")
    others = foreign(folder) if isinstance(folder, Remote) or folder.is_dir() else []
    if others:
        raise InputError(f"`output` {output} holds other things ({others[0]}); name a new folder")
    return folder
