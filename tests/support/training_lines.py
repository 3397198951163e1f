"""What training logs while a test runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mismatch.cli.flags import with_flags

__all__ = ["training_lines"]


@contextmanager
def training_lines() -> Iterator[list[str]]:
    """The lines that training logs until the block ends, as `mismatch train` prints them."""
    from mismatch.cli.train import command

    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            severe = record.levelno >= logging.WARNING
            lines.append("warning: " * severe + with_flags(record.getMessage(), command))

    logger = logging.getLogger("mismatch.training")
    handler = Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
