"""A long output under a temporary name next to its own, so that a run which was cut short goes on
where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import SHOWN, explained, finite, is_sealed, sealed, sweep, write_json
from mismatch.io.reading import read_json
from mismatch.io.replacing import Identity, earlier_output, take_name
from mismatch.jobs.output.run_record import BEGIN_AGAIN, check_same_run

__all__ = ["ResumableFile", "parts", "resumable_file"]

RECORD_HEAD = b'{\n  "run": {'  # how the record of such a file begins

logger = logging.getLogger(__name__)


def parts(output: str | Path) -> tuple[Path, Path]:
    """Return where the rows that are done stand, and the record of their run."""
    target = Path(os.path.realpath(output))
    return (
        target.with_name(f"{target.name}.part"),
        target.with_name(f"{target.name}.part.json"),
    )


class ResumableFile:
    """The rows that are done, in OUTPUT.part; OUTPUT.part.json says of what run. `commit` makes
    what is written to `text` a state to continue from.
    """

    def __init__(self, output: str | Path, run: Mapping[str, Any]) -> None:
        """Describe what is written. `run`: all that the bytes depend on, by a name for people."""
        self.target = Path(os.path.realpath(output))
        self.path, self.record = parts(output)
        self.text = io.StringIO(newline="")
        self.counts: dict[str, int] = {"rows": 0}
        self._run = json.loads(json.dumps(finite(run)))
        # bytes that are committed, and their hash
        self._size = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._earlier_output: Identity | None = None  # the file that is replaced

    def open(self, *, resume: bool) -> None:
        """Begin, or go on behind the last commit of the same run; InputError for a part of another
        one.
        """
        state = self._earlier() if resume else None
        self._check_own()
        self._earlier_output = earlier_output(self.target)
        if self.target.parent.is_dir():
            sweep(self.target.parent, re.compile(re.escape(self.record.name)))
        if state is None:  # the record first: a part without one is not ours
            self._write_record({"rows": 0})
        with explained(self.target, self.path):
            self._file = self.path.open("wb" if state is None else "r+b")
        if state is None:
            return
        self._check(self._file, state)
        self.counts = state["counts"]

    def commit(self, counts: Mapping[str, int]) -> None:
        """Put `text` on the disk, and that so much is done. A process that ends before this is
        through loses `text`, no more.
        """
        if self._file is None:
            raise CheckpointError(f"{self.path} is not open")
        data = self.text.getvalue().encode(errors=SHOWN)
        self.text.seek(0)
        self.text.truncate()
        with explained(self.target, self.path):
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._digest.update(data)
        self._size += len(data)
        self._write_record(counts)
        self.counts = dict(counts)

    def _write_record(self, counts: Mapping[str, int]) -> None:
        state = {
            "run": self._run,
            "counts": dict(counts),
            "bytes": self._size,
            "sha256": self._digest.hexdigest(),
        }
        write_json(self.record, sealed(state))

    def _check_own(self) -> None:
        """Raise InputError where another program's file has the name of the part or of its record:
        they are overwritten, and removed at the end.
        """
        for path in (self.record, self.path):
            if os.path.lexists(path) and not (
                path.is_file() and not path.is_symlink() and _is_record(self.record)
            ):
                raise InputError(
                    f"{path} is in the way and was not written by mismatch; move it, or choose"
                    " another name"
                )

    def finish(self) -> None:
        """Give the file its name; CheckpointError where somebody else has taken it."""
        self.close()
        with explained(self.target, self.path):
            take_name(self.path, self.target, self._earlier_output)
            self.record.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave everything as it is."""
        if self._file is not None:
            with suppress(OSError):  # the disk may be full; what counts has been committed
                self._file.close()

    def discard(self) -> None:
        """Leave nothing."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _earlier(self) -> dict[str, Any] | None:
        """Return the state to go on from; None where there is none."""
        if not (self.path.is_file() and self.record.is_file()):
            return None
        try:
            state = read_json(self.record)
            run = state["run"]
            complete = {"counts", "bytes", "sha256"} <= state.keys() and is_sealed(state)
        except (CheckpointError, TypeError, KeyError) as error:
            raise InputError(f"{self.record} can't be used; {BEGIN_AGAIN}") from error
        if not complete:
            raise InputError(f"{self.record} can't be used; {BEGIN_AGAIN}")
        check_same_run(self.path, run, self._run)
        return dict(state)

    def _check(self, file: IO[bytes], state: Mapping[str, Any]) -> None:
        """Read what is committed, and cut off what stands behind it."""
        left = self._size = int(state["bytes"])
        while left and (data := file.read(min(left, 2**20))):
            self._digest.update(data)
            left -= len(data)
        if left or self._digest.hexdigest() != state["sha256"]:
            file.close()
            raise InputError(f"{self.path} is not what was written to it; {BEGIN_AGAIN}")
        file.seek(self._size)
        file.truncate()


def _is_record(path: Path) -> bool:
    """Return whether a file is a part's record, whole or not; a damaged one still begins as
    `write_json` writes it.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(RECORD_HEAD)) == RECORD_HEAD
    except OSError:
        return False


@contextmanager
def resumable_file(
    output: str | Path, run: Mapping[str, Any], *, resume: bool
) -> Iterator[ResumableFile]:
    """Yield a file that takes its name when the block ends.

    If the block fails, what is committed stays and the log says how to go on; but for a fault of
    the input, which has to be changed first.
    """
    file = ResumableFile(output, run)
    file.open(resume=resume)
    try:
        yield file
        file.finish()
    except InputError:
        file.discard()
        raise
    except BaseException:
        if not file.counts["rows"] or not file.path.exists():  # it may have another name by now
            file.discard()
            raise
        file.close()
        rows = file.counts["rows"]
        logger.info(f"{rows:,} rows are kept in {file.path}; continue with `resume=True`")
        raise
