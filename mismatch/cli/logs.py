"""What the library logs while a command runs, as lines."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext, suppress

import click

from mismatch.cli.flags import with_flags
from mismatch.io.logs import handled_by

__all__ = ["lines_on_stdout", "logs_as_lines"]

LOGGER = "mismatch"


def logs_as_lines() -> AbstractContextManager[None]:
    """Print records of INFO on stderr as they are, more severe ones as `mismatch: warning: …`."""
    return handled_by(LOGGER, _Lines("mismatch: warning: ", err=True))


def lines_on_stdout(name: str) -> AbstractContextManager[None]:
    """Print what this logger and those below it log on stdout: records of INFO as they are, more
    severe ones as `warning: …`.
    """
    return handled_by(name, _Lines("warning: ", err=False))


class _Lines(logging.Handler):
    """Writes each record as one line. A stdout that is closed ends the work, as of any command; a
    closed stderr does not.
    """

    def __init__(self, before_warnings: str, *, err: bool) -> None:
        super().__init__()
        self.before_warnings = before_warnings
        self.err = err

    def emit(self, record: logging.LogRecord) -> None:
        start = self.before_warnings if record.levelno >= logging.WARNING else ""
        with suppress(OSError) if self.err else nullcontext():
            click.echo(start + _message(record), err=self.err)


def _message(record: logging.LogRecord) -> str:
    """Return what a record says, options as the running command's flags."""
    context = click.get_current_context(silent=True)
    return with_flags(record.getMessage(), None if context is None else context.command)
