"""What is wrong with a file of images, in a line."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mismatch.errors import InputError

__all__ = ["explained_damage"]


@contextmanager
def explained_damage(path: str | Path, kind: str, *more: type[Exception]) -> Iterator[None]:
    """Turn what damage makes a library raise, `more` of its own classes included, into an
    InputError: the file can't be read as `kind`. The system's own errors stay.
    """
    kinds: tuple[type[Exception], ...] = (OSError, struct.error, ValueError, IndexError, *more)
    try:
        yield
    except kinds as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} can't be read as {kind}: {reason}") from error
