"""Log records of a library, given to one handler for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["handled_by"]


@contextmanager
def handled_by(name: str, handler: logging.Handler) -> Iterator[None]:
    """Give a logger's records of INFO and above to this handler alone until the block
    ends.
    """
    logger = logging.getLogger(name)
    level = logger.level
    propagated = logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagated
        logger.setLevel(level)
        logger.removeHandler(handler)
