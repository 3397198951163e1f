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


def lines_on_stdout(name: str, of: click.Command | None = None) -> AbstractContextManager[None]:
    """Print what this logger and those below it log on stdout: records of INFO as they are, more
    severe ones as `warning: …`. `of`: the command whose options they speak of, by default the one
    that runs.
    """
    return handled_by(name, _Lines("warning: ", err=False, of=of))


class _Lines(logging.Handler):
    """Writes each record as one line. A stdout that is closed ends the work, as of any command; a
    closed stderr does not.
    """

    def __init__(self, before_warnings: str, *, err: bool, of: click.Command | None = None) -> None:
        super().__init__()
        self.before_warnings = before_warnings
        self.err = err
        self.command = of

    def emit(self, record: logging.LogRecord) -> None:
        start = self.before_warnings if record.levelno >= logging.WARNING else ""
        with suppress(OSError) if self.err else nullcontext():
            click.echo(start + self._message(record), err=self.err)

    def _message(self, record: logging.LogRecord) -> str:
        """Return what a record says, options as the command's flags."""
        context = click.get_current_context(silent=True)
        running = None if context is None else context.command
        return with_flags(record.getMessage(), self.command or running)
