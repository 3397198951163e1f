"""What the library logs while a command runs, as lines on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from mismatch.cli.flags import with_flags

__all__ = ["logs_as_lines"]

LOGGER = "mismatch"


@contextmanager
def logs_as_lines() -> Iterator[None]:
    """Print records of INFO as they are, more severe ones as `mismatch: warning: …`."""
    logger = logging.getLogger(LOGGER)
    level = logger.level
    handler = _Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    propagated = logger.propagate
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagated
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    """Writes each record as one line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        message = with_flags(record.getMessage(), _running_command())
        severe = record.levelno >= logging.WARNING
        with suppress(OSError):  # stderr may be closed; the work goes on
            click.echo(f"mismatch: warning: {message}" if severe else message, err=True)


def _running_command() -> click.Command | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.command
