"""Ctrl-C, SIGTERM and SIGHUP while a run is at work: the first one waits for the step, a second
Ctrl-C doesn't.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

__all__ = ["Interruption"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else []))
# seconds in which a second signal is the first one's echo: launchers hand on what the terminal has
# sent already
ONE_PRESS = 0.5


class Interruption:
    """Turns these signals into KeyboardInterrupt, at once, or behind the block that `held` guards.
    Does nothing outside the main thread.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal that came
        self._since = 0.0
        self._held = 0  # blocks that are open
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            # SIGHUP stays ignored under `nohup`
            heard = [
                number
                for number in SIGNALS
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
            ]
            self._before = {number: signal.signal(number, self._come) for number in heard}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the earlier handlers back. One that was set for SIGTERM or SIGHUP learns of it, as
        the command line makes its exit code of that.
        """
        for number, handler in self._before.items():
            signal.signal(number, handler)
        handler = self._before.get(self.number or 0)
        if (
            self.number not in (None, signal.SIGINT)
            and isinstance(error, KeyboardInterrupt)
            and callable(handler)
        ):
            handler(self.number, None)

    @property
    def came(self) -> bool:
        """Return whether the run has to end."""
        return self.number is not None

    def follow(self) -> None:
        """End as a signal to another process of the run says."""
        self.number = self.number or signal.SIGTERM

    def check(self) -> None:
        """Raise KeyboardInterrupt where a signal has come."""
        if self.came:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the block finish first; KeyboardInterrupt behind it where a signal came meanwhile,
        and inside it for a second Ctrl-C.
        """
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()

    def _come(self, number: int, _frame: object) -> None:
        if self.number is None:
            self.number = number
            self._since = time.monotonic()
            if not self._held:
                raise KeyboardInterrupt
        # only a second Ctrl-C counts: `timeout` sends SIGTERM twice
        elif number == signal.SIGINT and time.monotonic() - self._since > ONE_PRESS:
            raise KeyboardInterrupt
