"""What the checks of images' structures share."""

from __future__ import annotations

from typing import IO

__all__ = ["CostlyError", "read_exactly"]


class CostlyError(Exception):
    """What a file has too much of."""


def read_exactly(file: IO[bytes], count: int) -> bytes:
    """Return `count` bytes; EOFError where the file ends before."""
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
