"""The file that predictions are written to: which kinds there are, and where rows go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO, cast

from mismatch.data.pairs import DELIMITERS
from mismatch.errors import InputError, MachineError
from mismatch.io.atomic import SHOWN, atomic_binary, atomic_file
from mismatch.io.descriptors import STANDARD_OUTPUT, descriptor_of
from mismatch.io.outputs import OutputKind, check_outputs
from mismatch.io.remote import is_url, located
from mismatch.jobs.output.resumable_file import parts, resumable_file
from mismatch.jobs.output.tables import (
    COLUMNS,
    CsvTable,
    JsonLinesTable,
    ParquetTable,
    Table,
)
from mismatch.jobs.row_tables import harmless, table_kind
from mismatch.jobs.scored_windows import Entry, RunCounts
from mismatch.jobs.table_kinds import read_names

__all__ = ["STDOUT", "PredictionFile", "Sink"]

STDOUT = "-"  # the name of standard output


@dataclass
class Sink:
    """Where entries go, and what is called when a window of them has gone there."""

    table: Table
    # begins with those of an earlier run's rows, which are there already
    counts: RunCounts = field(default_factory=RunCounts)
    commit: Callable[[], object] = lambda: None

    def write(self, entries: Iterable[Entry]) -> None:
        """Write entries for good."""
        for entry in entries:
            self.table.add(entry.prediction, entry.kept)
        self.commit()


@dataclass(frozen=True)
class PredictionFile:
    """A file, a pipe, a device or standard output, and its format."""

    name: str  # "-": standard output
    kind: str  # csv, tsv, jsonl or parquet
    safe: bool  # no cell is a formula

    @classmethod
    def of(
        cls,
        output: str | Path,
        inputs: Iterable[Path],
        *,
        safe: bool,
        copied: Sequence[str] = (),
    ) -> PredictionFile:
        """Return the file of this name; InputError where it can't be written, or would replace an
        input or what is no table of predictions. `copied`: names of columns that may stand behind
        the scores there; a table with others is somebody's own.
        """
        name = os.fspath(output)
        if descriptor_of(name) == STANDARD_OUTPUT:
            name = STDOUT
        if is_url(name):
            raise InputError(
                f"`output` {located(name)} is a URL, and one file is written here; add"
                " `engine='ray'`, which writes parts there, or name a file"
            )
        if name.replace(os.sep, "/").endswith(("/", "/.", "/..")):
            raise InputError(
                f"`output` {name} names a folder, and a file is written; leave out what follows its"
                " name"
            )
        kind = table_kind(name)
        if name != STDOUT:
            sources = list(inputs)
            check_outputs([("`output`", Path(name), _replaceable(copied))], sources)
            check_outputs([("the unfinished `output`", at, None) for at in parts(name)], sources)
        if safe and kind not in DELIMITERS:
            raise InputError(
                f"`safe_csv` goes with CSV, and {name} is none: no spreadsheet runs what is in it"
            )
        return cls(name, kind, safe)

    @property
    def format(self) -> str:
        """Return its format in words, as the record of a run has it."""
        return f"{self.kind} without formulas" if self.safe else self.kind

    @property
    def is_plain(self) -> bool:
        """Return whether it is a file on a disk, there or not, that nobody has open for this
        process.
        """
        if self.name == STDOUT or descriptor_of(self.name) is not None:
            return False
        return Path(self.name).is_file() or not Path(self.name).exists()

    @contextmanager
    def open(self, kept: Sequence[str]) -> Iterator[Sink]:
        """Yield a sink; the file takes its name when the block ends, and vanishes if it fails.

        `kept`: names of the columns behind the scores.
        """
        if self.kind == "parquet" and self.name != STDOUT:
            with atomic_binary(self.name) as file, ParquetTable(file, kept) as parquet:
                yield from _whole(parquet)
        elif self.name == STDOUT:
            text = _standard_output()
            yield from _whole(self._text_table(text, kept), text.flush)
            text.flush()
        else:
            with atomic_file(self.name) as text:
                yield from _whole(self._text_table(text, kept))

    @contextmanager
    def open_resumable(
        self, kept: Sequence[str], run: dict[str, Any], *, resume: bool
    ) -> Iterator[Sink]:
        """Yield a sink of a file that can be continued. `run`: all that its bytes depend on."""
        with resumable_file(self.name, run, resume=resume) as part:
            counts = RunCounts(**part.counts)
            sink = Sink(
                self._text_table(part.text, kept), counts, lambda: part.commit(vars(counts))
            )
            if not counts.rows:
                sink.table.begin()
            yield sink
            sink.table.end()
            sink.commit()

    def _text_table(self, file: TextIO, kept: Sequence[str]) -> Table:
        if self.kind == "jsonl":
            return JsonLinesTable(file, kept)
        return CsvTable(file, kept, safe=self.safe, delimiter=DELIMITERS[self.kind])


def _replaceable(copied: Sequence[str]) -> OutputKind:
    """Return the kind of a table of predictions, with copied columns or without."""
    headers = [
        [*COLUMNS],
        [*COLUMNS, *copied],
        [*COLUMNS, *(str(harmless(name)) for name in copied)],
    ]
    return OutputKind("an unchanged table of predictions", lambda path: read_names(path) in headers)


def _whole(table: Table, commit: Callable[[], object] = lambda: None) -> Iterator[Sink]:
    table.begin()
    yield Sink(table, commit=commit)
    table.end()


class _Utf8:
    """Text for a stream of bytes, in UTF-8 whatever the terminal's own encoding: the bytes are
    those of a file.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text.encode(errors=SHOWN))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def _standard_output() -> TextIO:
    """Return what writes to standard output. MachineError where a program has none."""
    stream = sys.stdout
    if stream is None:
        raise MachineError("there is no standard output; name a file")
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    return stream if buffer is None else cast(TextIO, _Utf8(buffer))  # a notebook has no buffer
