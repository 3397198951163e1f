"""SIGHUP before the service can load its models again: it is noted, and sent again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["can_hang_up", "deferred_hangups"]


def can_hang_up() -> bool:
    """Return whether this system has SIGHUP, and this thread may handle it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and hasattr(signal, "SIGHUP")


@contextmanager
def deferred_hangups() -> Iterator[Callable[[], None]]:
    """Keep SIGHUP from ending the process until the block ends.

    Yield a function to call once somebody else handles it: where it came before, it comes again.
    """
    if not can_hang_up():
        yield lambda: None
        return
    noted = threading.Event()

    def send_again() -> None:
        if noted.is_set():
            noted.clear()
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, lambda *_: noted.set())
    try:
        yield send_again
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)
