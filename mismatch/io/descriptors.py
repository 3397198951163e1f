"""Files that this process has open already, under the names that systems have for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["STANDARD_OUTPUT", "descriptor_of", "writing_to"]

STANDARD_OUTPUT = 1
MAX_LINKS = 40  # that lead from one to the next; as many as Linux follows


def descriptor_of(path: str | Path) -> int | None:
    """Return the number of the open file that a path names, 1 for /dev/stdout; None for others.

    /dev/stdout, /dev/fd/3, /proc/self/fd/3 and links to them say what is open, not where it lies: a
    file behind them must never be replaced.
    """
    if os.name != "posix":
        return None
    folders = {os.path.realpath("/dev/fd"), os.path.realpath("/proc/self/fd"), "/dev/fd"}
    current = os.path.abspath(path)
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(os.path.dirname(current))
        name = os.path.basename(current)
        if folder in folders and name.isdecimal() and name.isascii():
            return int(name)
        current = os.path.join(folder, name)
        try:
            target = os.readlink(current)
        except OSError:  # no link
            return None
        current = os.path.join(folder, target)
    return None


@contextmanager
def writing_to(descriptor: int, mode: str, **options: Any) -> Iterator[Any]:
    """Yield a file that writes where an open one stands; the open one stays open.

    `mode`, `options`: as of `open`. OSError where no file of that number is open.
    """
    for stream in (sys.stdout, sys.stderr):  # what they hold stands before
        with suppress(AttributeError, ValueError):  # there is none, or it is closed
            stream.flush()
    with open(os.dup(descriptor), mode, **options) as file:
        yield file
