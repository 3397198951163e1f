"""Which parts of a spread run are done: a record each as soon as it is, on a disk or in a store,
and a sealed manifest at the end.
"""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NotRequired, Protocol, TypedDict, cast

from mismatch.errors import CheckpointError, InputError, MismatchError
from mismatch.io.atomic import explained, finite, is_sealed, sealed, sweep, write_json
from mismatch.io.reading import read_json
from mismatch.io.remote import Remote
from mismatch.io.retries import reason, retried
from mismatch.jobs.output.run_record import BEGIN_AGAIN, check_same_run

__all__ = ["Block", "PartLog", "foreign"]

MANIFEST = "manifest.json"
PROGRESS = "progress.jsonl"
OBJECTS = "_progress"
WRITER = "writer"
RECORDS = re.compile(r"[0-9a-f]+-[0-9]{7}\.jsonl")  # objects of a store, below OBJECTS
RUN = b'{"run": '  # how the records of a run begin
PART = re.compile(r"part-[0-9]{5,}\.parquet")
OURS = re.compile(
    rf"{PART.pattern}|{re.escape(MANIFEST)}|{re.escape(PROGRESS)}|{OBJECTS}"
    r"|\..*\.(part|lock)|\.lock"
)


class Block(TypedDict):
    """A part that is there."""

    number: int
    part: str  # file or object
    bytes: int
    rows: int
    failed: int  # rows without a score
    long_texts: int
    sliced: NotRequired[int]  # rows whose slice has a threshold, of a model with such ones
    worker: str  # HOST:PID


class Log(Protocol):
    """Records that are there for good once they are written."""

    def read(self) -> list[Any]:
        """Return all that are whole."""

    def begin(self, *records: object) -> None:
        """Write these in place of all others."""

    def append(self, *records: object) -> None:
        """Write these behind the others."""

    def remove(self) -> None:
        """Leave nothing."""

    def close(self) -> None:
        """Leave everything as it is."""


class LineLog:
    """Lines of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def read(self) -> list[Any]:
        """Return the whole lines; one that was cut off is left out."""
        return (
            _parsed(self._path, self._path.read_bytes().split(b"\n")[:-1])
            if self._path.is_file()
            else []
        )

    def begin(self, *records: object) -> None:
        self._path.unlink(missing_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        self.append(*records)

    def append(self, *records: object) -> None:
        if self._file is None:
            raise CheckpointError(f"{self._path} is not open")
        with explained(self._path, self._path):
            self._file.write(_lines(records))
            self._file.flush()
            os.fsync(self._file.fileno())

    def remove(self) -> None:
        self.close()
        self._path.unlink()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


class ObjectLog:
    """Objects of a few lines, one for each time that something is written: those of a store can't
    be appended to.

    A store has no locks. `writer` says who writes, from the first record on until the run ends,
    unless its process is killed. A run that does not resume is refused while it is there; one that
    resumes takes its place, and the one before ends as soon as it has its next part to note.
    """

    def __init__(self, folder: Remote, *, resume: bool) -> None:
        self._folder = folder
        self._resume = resume
        # HOST:PID, and what no other run has
        self._me = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._count = 0
        self._open = False

    def read(self) -> list[Any]:
        names = self._records()
        return [
            record
            for name, data in zip(names, self._folder.read_all(names), strict=True)
            for record in _parsed(self._folder / name, data.splitlines())
        ]

    def begin(self, *records: object) -> None:
        """Write the first records. CheckpointError where another run writes, or was killed, and
        this one does not resume it.
        """
        if not self._resume and (other := self._writer()):
            cure = (
                "wait for it or, if it was killed, continue with `resume=True` or remove that"
                " object"
            )
            raise CheckpointError(
                f"{self._folder / WRITER} says that {_people(other)} writes there; {cure}"
            )
        (self._folder / WRITER).write(self._me.encode())
        self._open = True
        if not self._resume:
            self._folder.remove(self._records())
        earlier = self._records()  # stays until its records stand again
        self.append(*records)
        self._folder.remove(earlier)

    def append(self, *records: object) -> None:
        """Write records. CheckpointError where another run has taken this one's place."""
        if (other := self._writer()) != self._me:
            self._open = False
            who = f"was taken over by {_people(other)}" if other else f"has lost its {WRITER}"
            raise CheckpointError(
                f"{self._folder} {who}; this run ends, and what it had noted is kept"
            )
        (self._folder / f"{self._me.rpartition(':')[2]}-{self._count:07}.jsonl").write(
            _lines(records).encode()
        )
        self._count += 1

    def remove(self) -> None:
        self._folder.remove([*self._records(), WRITER])
        self._open = False

    def close(self) -> None:
        """Make room for others."""
        if self._open:
            with suppress(MismatchError):
                if self._writer() == self._me:
                    self._folder.remove([WRITER])
        self._open = False

    def _records(self) -> list[str]:
        return sorted(name for name in self._folder.listing() if RECORDS.fullmatch(name))

    def _writer(self) -> str | None:
        try:
            return retried(lambda: (self._folder / WRITER).read(0, 2**12)).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(f"{self._folder / WRITER}: {reason(error)}") from error


class PartLog:
    """The parts that are done, in progress.jsonl or, in a store, objects below _progress/; the
    first record says of what run. At the end manifest.json takes its place.
    """

    def __init__(self, folder: Path | Remote, run: dict[str, Any], *, resume: bool) -> None:
        """Begin, or go on with the parts of the same run; InputError for those of another one."""
        self.folder = folder
        self._log: Log = (
            ObjectLog(folder / OBJECTS, resume=resume)
            if isinstance(folder, Remote)
            else LineLog(folder / PROGRESS)
        )
        self._run = json.loads(json.dumps(finite(run)))
        self.blocks = self._earlier() if resume else {}
        try:
            self._log.begin({"run": self._run}, *self.blocks.values())
            self._clear()
        except BaseException:
            self._log.close()
            raise

    def add(self, block: Block) -> None:
        """Note a part."""
        self.blocks[block["number"]] = block
        self._log.append(block)

    def total(self, name: str) -> int:
        """Return the sum over all parts of rows, failed, long_texts or sliced."""
        return sum(cast(int, block.get(name, 0)) for block in self.blocks.values())

    def finish(self, about: dict[str, Any]) -> None:
        """Write the manifest; CheckpointError where a part is not as it was noted."""
        if isinstance(self.folder, Path):
            sweep(self.folder, OURS)  # what killed actors have left
        there = _sizes(self.folder)
        parts = {block["part"]: block["bytes"] for block in self.blocks.values()}
        changed = [name for name, size in parts.items() if there.get(name) != size]
        if changed:
            raise CheckpointError(
                f"{self.folder / min(changed)} was changed or removed by somebody else; continue"
                " with `resume=True`, which writes it again"
            )
        first = 1
        records = []
        for _, block in sorted(self.blocks.items()):
            records.append({"first_row": first, **block})
            first += block["rows"]
        totals = {name: self.total(name) for name in ("rows", "failed", "long_texts")}
        write_json(
            self.folder / MANIFEST,
            sealed({"format_version": 1, **about, **totals, "run": self._run, "parts": records}),
        )
        self._log.remove()

    def close(self) -> None:
        """Leave everything as it is."""
        self._log.close()

    def _clear(self) -> None:
        """Remove all but the parts that are done."""
        if isinstance(self.folder, Path):
            sweep(self.folder, OURS)
        done = {block["part"] for block in self.blocks.values()}
        left = [
            name
            for name in _sizes(self.folder)
            if name == MANIFEST or (PART.fullmatch(name) and name not in done)
        ]
        if isinstance(self.folder, Remote):
            self.folder.remove(left)
        else:
            for name in left:
                (self.folder / name).unlink()

    def _earlier(self) -> dict[int, Block]:
        """Return the parts of an earlier run that are whole."""
        run, blocks = self._recorded()
        if run is not None:
            check_same_run(self.folder, run, self._run)
        there = _sizes(self.folder)
        return {
            block["number"]: block for block in blocks if there.get(block["part"]) == block["bytes"]
        }

    def _recorded(self) -> tuple[dict[str, Any] | None, list[Block]]:
        """Return the run and the parts that the manifest, else the progress, tells of."""
        if MANIFEST in _sizes(self.folder):
            manifest = read_json(self.folder / MANIFEST)
            if not is_sealed(manifest):
                raise InputError(
                    f"{self.folder / MANIFEST} is not what was written to it; {BEGIN_AGAIN}"
                )
            blocks = [
                cast(Block, {name: part[name] for name in Block.__annotations__ if name in part})
                for part in manifest["parts"]
            ]
            return manifest["run"], blocks
        records = self._log.read()
        return next((record["run"] for record in records if "run" in record), None), [
            record for record in records if "run" not in record
        ]


def foreign(folder: Path | Remote) -> list[str]:
    """Return the names in a folder that no run has put there. Parts are a run's where its manifest
    or its records stand next to them: other tools name theirs so.
    """
    names = (
        [path.name for path in folder.iterdir()] if isinstance(folder, Path) else folder.listing()
    )
    others = [name for name in names if not OURS.fullmatch(name)]
    if MANIFEST in names and not _is_manifest(folder / MANIFEST):
        others.append(MANIFEST)
    if PROGRESS in names and not (isinstance(folder, Path) and _is_progress(folder / PROGRESS)):
        others.append(PROGRESS)
    if not {MANIFEST, PROGRESS, OBJECTS}.intersection(names) - set(others):
        others += [name for name in names if PART.fullmatch(name)]
    return sorted(others)


def _is_manifest(path: Path | Remote) -> bool:
    try:
        manifest = read_json(path)
    except CheckpointError:
        return False
    return isinstance(manifest, dict) and {"format_version", "run", "parts"} <= manifest.keys()


def _is_progress(path: Path) -> bool:
    """Return whether its first line is a run's; one that was cut off stands before all parts."""
    try:
        with path.open("rb") as file:
            first = file.readline(2**20)
    except OSError:
        return False
    return RUN.startswith(first[: len(RUN)])


def _sizes(folder: Path | Remote) -> dict[str, int]:
    """Return files or objects → bytes."""
    if isinstance(folder, Path):
        return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    return {name: size for name, size in folder.listing().items() if size is not None}


def _lines(records: Iterable[object]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _parsed(place: Path | Remote, lines: Iterable[bytes]) -> list[Any]:
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise InputError(f"{place} can't be used; {BEGIN_AGAIN}") from error


def _people(writer: str) -> str:
    """Return HOST:PID."""
    return writer.rpartition(":")[0]
