"""`mismatch predict --engine ray`: blocks of rows, each scored by an actor and written as a part of
Parquet; a manifest once all parts are there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import click

from mismatch.cli.journal import Block, Journal, foreign
from mismatch.cli.parts import hold
from mismatch.cli.predict import (
    Counts,
    Source,
    described,
    hopeless,
    kept_columns,
    load_predictor,
    long_texts,
    windows,
)
from mismatch.cli.progress import progress_bar
from mismatch.cli.tables import COLUMNS, ParquetTable, table_kind
from mismatch.data.pairs import Columns, Row
from mismatch.errors import CheckpointError, InputError
from mismatch.files import atomic_binary, explained
from mismatch.outputs import refuse_model_folder
from mismatch.remote import Remote, located
from mismatch.runtime.decoding import DecodingPool
from mismatch.scale.ray import actors

__all__ = ["BlockScorer", "Job", "predict_spread"]


# threads a CPU that fetch and decode images of a store: most of their time they wait for it
FETCHERS = 4


@dataclass(frozen=True)
class Job:
    """All that an actor has to know."""

    options: dict[str, Any]
    base: str
    columns: Columns | None
    kept: dict[str, str]
    folder: str  # of the parts, or URL
    directory: str  # that relative paths are relative to; empty where there are none
    isolate_decoding: bool = False

    def source(self) -> Source:
        """Where an actor's rows come from, without the rows."""
        return Source("rows", (), self.base, [], lambda: iter(()), str, columns=self.columns)


class BlockScorer:
    """What an actor holds: a predictor."""

    def __init__(self, job: Job) -> None:
        """CheckpointError where this machine lacks the working directory, or the model can't be
        loaded.
        """
        try:
            os.chdir(job.directory or ".")
        except OSError as error:
            raise CheckpointError(
                f"{socket.gethostname()} has no folder {job.directory}; mount it under the same"
                " name on all machines"
            ) from error
        decoder = DecodingPool() if job.isolate_decoding else None
        self._job = job
        self._predictor = load_predictor({**job.options, "decoder": decoder})

    def described(self) -> dict[str, Any]:
        """All that scores depend on, but for the rows."""
        return described(
            self._predictor,
            self._job.source(),
            self._job.options,
            "parts of Parquet",
            self._job.kept,
        )

    def long_texts(self, number: int) -> str | None:
        """What to say of so many long texts."""
        self._predictor.pipeline.long_texts = number
        return long_texts(self._predictor)

    def score(self, number: int, rows: list[Row]) -> Block:
        """Write a part, whole or not at all."""
        counts = Counts()
        path = located(self._job.folder) / f"part-{number:05}.parquet"
        self._predictor.pipeline.long_texts = 0
        with atomic_binary(path) as file:
            with ParquetTable(file, list(self._job.kept.values())) as table:
                table.begin()
                for entries in windows(
                    self._predictor,
                    iter(rows),
                    self._job.source(),
                    list(self._job.kept),
                    counts,
                    lambda _: None,
                ):
                    for prediction, values in entries:
                        table.add(prediction, values)
                table.end()
            size = file.tell()
        return {
            "number": number,
            "part": path.name,
            "bytes": size,
            "rows": counts.rows,
            "failed": counts.failed,
            "long_texts": counts.long_texts,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
        }


def predict_spread(source: Source, options: dict[str, Any]) -> None:
    """Score all rows on actors into a folder of parts; says what was done on standard error."""
    folder = _folder(options["output"])
    kept = kept_columns(source.header) if options["keep_columns"] else {}
    threads = options["threads"] or 1
    size = options["block_rows"]
    provider = "cpu" if options["provider"] == "auto" else options["provider"]
    workers = threads * (FETCHERS if isinstance(located(source.base), Remote) else 1)
    own = {
        **options,
        "threads": threads,
        "provider": provider,
        "num_workers": workers if options["num_workers"] is None else options["num_workers"],
    }
    own_folder = folder if isinstance(folder, Remote) else folder.absolute()
    job = Job(
        own,
        source.base,
        source.columns,
        kept,
        str(own_folder),
        _directory(source, folder, options),
        _isolate_decoding(),
    )
    if isinstance(folder, Path):
        hold(folder, folder=True)
    with actors(
        partial(BlockScorer, job),
        address=options["ray_address"],
        count=options["actors"],
        threads=threads,
        gpu=provider != "cpu",
    ) as pool:
        run = {**pool.ask("described"), "the rows": [source.digest()], "--block-rows": size}
        if isinstance(folder, Path):
            with explained(folder, folder):
                folder.mkdir(parents=True, exist_ok=True)
        with (
            _journal(folder, run, resume=options["resume"]) as journal,
            progress_bar("predict", unit="row") as advance,
        ):
            advance(journal.total("rows"))
            rows = source.rows() if options["shard"] is None else options["shard"].of(source.rows())
            for block in pool.each("score", _blocks(rows, size, journal.blocks.keys())):
                journal.add(block)
                advance(block["rows"])
            journal.finish(
                {
                    "input": source.name,
                    "threshold": run["--threshold"],
                    "columns": [*COLUMNS, *kept.values()],
                }
            )
        long_line = pool.ask("long_texts", journal.total("long_texts"))
    failed = journal.total("failed")
    done = journal.total("rows") - failed
    click.echo(
        f"{done:,} rows scored → {folder}, {len(journal.blocks):,}"
        f" parts{f'; {failed:,} could not be: see their status' if failed else ''}",
        err=True,
    )
    for line in (*source.notes(), long_line):
        if line:
            click.echo(line, err=True)
    if failed and not done:
        raise hopeless(source, failed)


@contextmanager
def _journal(folder: Path | Remote, run: dict[str, Any], *, resume: bool) -> Iterator[Journal]:
    """A journal that, if the block fails, keeps the parts that are done and says how to go on."""
    journal = Journal(folder, run, resume=resume)
    try:
        yield journal
    except BaseException:
        if rows := journal.total("rows"):
            with suppress(OSError):
                click.echo(f"{rows:,} rows are kept in {folder}; continue with --resume", err=True)
        raise
    finally:
        journal.close()


def _blocks(
    rows: Iterator[Row], size: int, done: Container[int]
) -> Iterator[tuple[int, list[Row]]]:
    """Blocks of `size` rows, numbered from 0, but those that are done; of no rows, an empty one."""
    for number in count():
        block = list(islice(rows, size))
        if not block and number:
            return
        if number not in done:
            yield number, block
        if len(block) < size:
            return


def _isolate_decoding() -> bool:
    """Whether the command was given --isolate-decoding, which has taken effect in its own process
    only.
    """
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("isolate_decoding"))


def _directory(source: Source, folder: Path | Remote, options: dict[str, Any]) -> str:
    """The working directory, if an actor needs it."""
    named = [options["model"], *([options["cache"]] if options["cache"] else [])]
    needless = (
        isinstance(located(source.base), Remote)
        and isinstance(folder, Remote)
        and all(map(os.path.isabs, named))
    )
    return "" if needless else os.getcwd()


def _folder(output: str) -> Path | Remote:
    """The folder of the parts, or what their URLs begin with; InputError where it can't be one, or
    holds what is not ours.
    """
    folder = located(output)
    if isinstance(folder, Remote) and set(output) & set("*?[]"):
        raise InputError(
            f"--output {output} has one of * ? [ ] in it, which stores take for a pattern; choose"
            " another name"
        )
    if (
        output == "-"
        or (isinstance(folder, Path) and folder.is_file())
        or folder.suffix.lower() in (".csv", ".jsonl", ".parquet", ".tsv")
    ):
        raise InputError(
            "--engine ray writes a folder of parts; give it a name with --output, as in --output"
            f" scores, not {output}"
        )
    table_kind("part.parquet")  # which needs pyarrow
    if isinstance(folder, Path):
        refuse_model_folder(folder, "--output")
    others = foreign(folder) if isinstance(folder, Remote) or folder.is_dir() else []
    if others:
        raise InputError(f"--output {output} holds other things ({others[0]}); name a new folder")
    return folder
