"""Models in forked processes: an engine's threads stay behind in the parent."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol

__all__ = ["Inherited", "has_threads", "keep_alive", "watch"]


class Inherited(Protocol):
    """Something that a forked child has from its parent."""

    def after_fork(self) -> None:
        """Take note, in the child, that this is one."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(inherited: Inherited) -> None:
    """Call `after_fork` in each process that is forked while the object lives."""
    _watched.add(inherited)


def has_threads(engine: object) -> bool:
    """Return whether an engine has threads, or a GPU, that a forked child lacks. One that has an
    `after_fork` sees to them itself.
    """
    if hasattr(engine, "after_fork"):
        return False
    is_alone = getattr(engine, "threads", 1) == 1
    return not is_alone or getattr(engine, "provider", "cpu") != "cpu"


def keep_alive(value: object) -> None:
    """Let an object live as long as the process: its end would wait for threads that are not
    there.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _after_fork() -> None:
    for inherited in list(_watched):
        inherited.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
