"""Signals that end a process, as an interrupt that cleans up."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ENDINGS", "terminate_as_interrupt"]

# signals that end a command as Ctrl-C does, and what is said then; 128 + their number
ENDINGS = {signal.SIGTERM: ("terminated", 143)}
if sys.platform != "win32":
    ENDINGS[signal.SIGHUP] = ("hung up", 129)  # its terminal was closed


@contextmanager
def terminate_as_interrupt() -> Iterator[list[signal.Signals]]:
    """Let the signals of `ENDINGS` unwind as Ctrl-C does, so that no half-written file stays; yield
    those that came. One that somebody else handles, or that `nohup` has switched off, is left
    alone.
    """
    came: list[signal.Signals] = []
    ours = (
        [number for number in ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
        if threading.current_thread() is threading.main_thread()
        else []
    )

    def stop(number: int, _frame: object) -> None:
        for each in ours:
            # `timeout` sends it twice: the second one must not end the cleaning up
            signal.signal(each, signal.SIG_IGN)
        came.append(signal.Signals(number))
        raise KeyboardInterrupt

    for number in ours:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
