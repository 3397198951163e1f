"""`mismatch predict --engine ray`: blocks of rows, each scored by an actor and written as a part of Parquet; a manifest once all parts are there."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, TypedDict

import click

from mismatch.cli.parts import hold
from mismatch.cli.predict import Counts, Source, described, kept_columns, load_predictor, long_texts, windows
from mismatch.cli.progress import progress_bar
from mismatch.cli.tables import COLUMNS, ParquetTable, table_kind
from mismatch.data.pairs import Columns, Row
from mismatch.errors import CheckpointError, InputError
from mismatch.files import atomic_binary, explained, finite, is_sealed, read_json, sealed, sweep, write_json
from mismatch.scale.ray import actors

__all__ = ["Block", "BlockScorer", "Job", "Journal", "predict_spread"]

MANIFEST, PROGRESS = "manifest.json", "progress.jsonl"
PART = re.compile(r"part-[0-9]{5,}\.parquet")
OURS = re.compile(rf"{PART.pattern}|{re.escape(MANIFEST)}|{re.escape(PROGRESS)}|\..*\.(part|lock)|\.lock")
ANEW = "leave --resume out to begin anew"


class Block(TypedDict):
    """A part that is on the disk."""

    number: int
    part: str  # file
    bytes: int
    rows: int
    failed: int  # rows without a score
    long_texts: int
    worker: str  # HOST:PID


@dataclass(frozen=True)
class Job:
    """All that an actor has to know."""

    options: dict[str, Any]
    base: str
    columns: Columns | None
    kept: dict[str, str]
    folder: str  # of the parts
    directory: str  # that relative paths are relative to

    def source(self) -> Source:
        """Where an actor's rows come from, without the rows."""
        return Source("rows", (), self.base, [], lambda: iter(()), str, columns=self.columns)


class BlockScorer:
    """What an actor holds: a predictor."""

    def __init__(self, job: Job) -> None:
        """CheckpointError where this machine lacks the working directory, or the model can't be loaded."""
        try:
            os.chdir(job.directory)
        except OSError as error:
            raise CheckpointError(f"{socket.gethostname()} has no folder {job.directory}; mount it under the same name on all machines") from error
        self._job, self._predictor = job, load_predictor(job.options)

    def described(self) -> dict[str, Any]:
        """All that scores depend on, but for the rows."""
        return described(self._predictor, self._job.source(), self._job.options, "parts of Parquet", self._job.kept)

    def long_texts(self, number: int) -> str | None:
        """What to say of so many long texts."""
        self._predictor.pipeline.long_texts = number
        return long_texts(self._predictor)

    def score(self, number: int, rows: list[Row]) -> Block:
        """Write a part, whole or not at all."""
        counts, path = Counts(), Path(self._job.folder) / f"part-{number:05}.parquet"
        self._predictor.pipeline.long_texts = 0
        with atomic_binary(path) as file:
            table = ParquetTable(file, list(self._job.kept.values()))
            table.begin()
            for entries in windows(self._predictor, iter(rows), self._job.source(), list(self._job.kept), counts, lambda _: None):
                for prediction, values in entries:
                    table.add(prediction, values)
            table.end()
        return {
            "number": number,
            "part": path.name,
            "bytes": path.stat().st_size,
            "rows": counts.rows,
            "failed": counts.failed,
            "long_texts": counts.long_texts,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
        }


class Journal:
    """Which parts are done, a line each in progress.jsonl; the first line says of what run. At the end manifest.json takes its place."""

    def __init__(self, folder: Path, run: dict[str, Any], *, resume: bool) -> None:
        """Begin, or go on with the parts of the same run; InputError for those of another one."""
        self.folder = folder
        self._run = json.loads(json.dumps(finite(run)))
        self.blocks = self._earlier() if resume else {}
        self._clear()
        self._file: IO[str] = (folder / PROGRESS).open("a", encoding="utf-8")
        self._write({"run": self._run}, *self.blocks.values())

    def add(self, block: Block) -> None:
        """Note a part."""
        self.blocks[block["number"]] = block
        self._write(block)

    def total(self, name: str) -> int:
        """The sum over all parts of rows, failed or long_texts."""
        return sum(block[name] for block in self.blocks.values())  # type: ignore[literal-required]

    def finish(self, about: dict[str, Any]) -> None:
        """Write the manifest."""
        self.close()
        sweep(self.folder, OURS)  # what killed actors have left
        first, parts = 1, []
        for _, block in sorted(self.blocks.items()):
            parts.append({"first_row": first, **block})
            first += block["rows"]
        totals = {name: self.total(name) for name in ("rows", "failed", "long_texts")}
        write_json(self.folder / MANIFEST, sealed({"format_version": 1, **about, **totals, "run": self._run, "parts": parts}))
        (self.folder / PROGRESS).unlink()

    def close(self) -> None:
        """Leave everything as it is."""
        with suppress(OSError):
            self._file.close()

    def _write(self, *records: object) -> None:
        with explained(self.folder / PROGRESS, self.folder / PROGRESS):
            self._file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _clear(self) -> None:
        """Remove all but the parts that are done."""
        sweep(self.folder, OURS)
        done = {block["part"] for block in self.blocks.values()}
        for path in self.folder.iterdir():
            if path.name in (MANIFEST, PROGRESS) or (PART.fullmatch(path.name) and path.name not in done):
                path.unlink()

    def _earlier(self) -> dict[int, Block]:
        """The parts of an earlier run that are whole."""
        run, blocks = _recorded(self.folder)
        if run is not None and (differing := [name for name in {**run, **self._run} if run.get(name) != self._run.get(name)]):
            raise InputError(f"{self.folder} is of another run, which differs in {', '.join(differing)}; repeat that run with --resume, or {ANEW}")
        return {block["number"]: block for block in blocks if _size(self.folder / block["part"]) == block["bytes"]}


def predict_spread(source: Source, options: dict[str, Any]) -> None:
    """Score all rows on actors into a folder of parts; says what was done on standard error."""
    folder = _folder(options["output"])
    kept = kept_columns(source.header) if options["keep_columns"] else {}
    threads, size = options["threads"] or 1, options["block_rows"]
    provider = "cpu" if options["provider"] == "auto" else options["provider"]
    own = {**options, "threads": threads, "provider": provider, "num_workers": threads if options["num_workers"] is None else options["num_workers"]}
    job = Job(own, source.base, source.columns, kept, str(folder.absolute()), os.getcwd())
    hold(folder, folder=True)
    with actors(partial(BlockScorer, job), address=options["ray_address"], count=options["actors"], threads=threads, gpu=provider != "cpu") as pool:
        run = {**pool.ask("described"), "the rows": [source.digest()], "--block-rows": size}
        with explained(folder, folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _journal(folder, run, resume=options["resume"]) as journal, progress_bar("predict", unit="row") as advance:
            advance(journal.total("rows"))
            rows = source.rows() if options["shard"] is None else options["shard"].of(source.rows())
            for block in pool.each("score", _blocks(rows, size, journal.blocks.keys())):
                journal.add(block)
                advance(block["rows"])
            journal.finish({"input": source.name, "threshold": run["--threshold"], "columns": [*COLUMNS, *kept.values()]})
        long_line = pool.ask("long_texts", journal.total("long_texts"))
    failed = journal.total("failed")
    done = journal.total("rows") - failed
    click.echo(f"{done:,} rows scored → {folder}, {len(journal.blocks):,} parts{f'; {failed:,} could not be: see their status' if failed else ''}", err=True)
    for line in (*source.notes(), long_line):
        if line:
            click.echo(line, err=True)
    if failed and not done:
        raise InputError(f"{source.name}: not one of its {failed:,} rows could be scored; mismatch validate says why row by row")


@contextmanager
def _journal(folder: Path, run: dict[str, Any], *, resume: bool) -> Iterator[Journal]:
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


def _blocks(rows: Iterator[Row], size: int, done: Container[int]) -> Iterator[tuple[int, list[Row]]]:
    """Blocks of `size` rows, numbered from 0, but those that are done; of no rows, an empty one."""
    for number in count():
        block = list(islice(rows, size))
        if not block and number:
            return
        if number not in done:
            yield number, block
        if len(block) < size:
            return


def _folder(output: str) -> Path:
    """The folder of the parts; InputError where it can't be one, or holds what is not ours."""
    folder = Path(output)
    if output == "-" or folder.is_file() or folder.suffix.lower() in (".csv", ".jsonl", ".parquet", ".tsv"):
        raise InputError(f"--engine ray writes a folder of parts; give it a name with --output, as in --output scores, not {output}")
    table_kind("part.parquet")  # which needs pyarrow
    others = [path.name for path in folder.iterdir() if not OURS.fullmatch(path.name)] if folder.is_dir() else []
    if others:
        raise InputError(f"--output {output} holds other things ({min(others)}); name a new folder")
    return folder


def _recorded(folder: Path) -> tuple[dict[str, Any] | None, list[Block]]:
    """The run and the parts that a folder's manifest, else its progress, tells of; a last line that was cut off is left out."""
    if (folder / MANIFEST).is_file():
        manifest = read_json(folder / MANIFEST)
        if not is_sealed(manifest):
            raise InputError(f"{folder / MANIFEST} is not what was written to it; {ANEW}")
        return manifest["run"], [{name: part[name] for name in Block.__annotations__} for part in manifest["parts"]]  # type: ignore[misc]
    if not (folder / PROGRESS).is_file():
        return None, []
    lines = (folder / PROGRESS).read_bytes().split(b"\n")[:-1]
    try:
        records: Iterable[Any] = [json.loads(line) for line in lines]
    except ValueError as error:
        raise InputError(f"{folder / PROGRESS} can't be used; {ANEW}") from error
    first, *blocks = records or [{}]
    return first.get("run"), blocks


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
