"""Whether all processes of a run see one output folder."""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from pathlib import Path

from mismatch.errors import CheckpointError
from mismatch.training.distributed.processes import Processes
from mismatch.training.folder.output import check_usable

__all__ = ["SCRATCH", "check_shared"]

SCRATCH = re.compile("shared|rows")  # what a killed run may leave; older versions left rows


def check_shared(output_dir: str | Path, processes: Processes) -> None:
    """Raise CheckpointError, in all processes, where one of them doesn't see the folder of the main
    one, and where that can't be written to.
    """
    if processes.count == 1:
        return
    folder = Path(output_dir)
    was_there = folder.exists()
    mark = folder / f".shared.{uuid.uuid4().hex[:8]}.part"

    def leave_mark() -> str:
        check_usable(folder)
        mark.touch()
        return mark.name

    try:
        name = processes.each(lambda: leave_mark() if processes.main else "")[0]
        seen = processes.each((folder / name).exists)
    finally:
        if processes.main:
            with suppress(OSError):
                mark.unlink(missing_ok=True)
                if not was_there:
                    folder.rmdir()
    if False in seen:
        raise CheckpointError(
            f"`output_dir` {output_dir} is another folder for process {seen.index(False)} of"
            f" {processes.count} than for process 0; give them all a folder that they share"
        )
