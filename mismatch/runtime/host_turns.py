"""Requests to many hosts on a few threads: so many a host at a time, and a pause where one asks for
it. What waits takes no thread.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

__all__ = ["FETCHES", "HostTurns"]

FETCHES = 64  # requests at a time, to all hosts
Work = Callable[[], None]


class HostTurns:
    """Pieces of work, each for a host, in the order in which they come. Thread-safe."""

    def __init__(self, per_host: int) -> None:
        """Make threads. `per_host`: pieces of one host at a time."""
        self._threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="mismatch-fetch")
        self._per_host = per_host
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[Work]] = {}
        self._resting: dict[str, float] = {}  # hosts that asked for a pause, until when
        self._later: list[tuple[float, int, str, Work]] = []  # a heap: when, number, host
        self._numbers = itertools.count()
        self._clock: threading.Thread | None = None
        self._closed = False

    def submit(self, host: str, work: Work) -> None:
        """Let `work` have its turn. RuntimeError once this is closed."""
        with self._lock:
            self._submit(host, work)

    def later(self, seconds: float, host: str, work: Work) -> None:
        """Let `work` have its turn in so many seconds at the earliest. RuntimeError as `submit`."""
        with self._lock:
            self._defer(time.monotonic() + seconds, host, work)

    def rest(self, host: str, seconds: float) -> None:
        """Begin nothing of a host for so long."""
        with self._lock:
            until = time.monotonic() + seconds
            self._resting[host] = max(until, self._resting.get(host, 0.0))

    def close(self) -> None:
        """Wait for what runs; begin nothing more."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown(cancel_futures=True)
        if self._clock is not None:
            self._clock.join()

    def _submit(self, host: str, work: Work) -> None:
        until = self._resting.get(host, 0.0)
        if until > time.monotonic():
            self._defer(until, host, work)
            return
        self._resting.pop(host, None)
        if self._running.get(host, 0) >= self._per_host:
            self._waiting.setdefault(host, deque()).append(work)
            return
        self._threads.submit(self._run, host, work)
        self._running[host] = self._running.get(host, 0) + 1

    def _defer(self, due: float, host: str, work: Work) -> None:
        if self._closed:
            raise RuntimeError("no turns are given any more")
        heapq.heappush(self._later, (due, next(self._numbers), host, work))
        if self._clock is None:
            self._clock = threading.Thread(
                target=self._watch, name="mismatch-fetch-clock", daemon=True
            )
            self._clock.start()
        self._changed.notify_all()

    def _watch(self) -> None:
        """Submit what is due, until this is closed."""
        with self._lock, suppress(RuntimeError):
            while not self._closed:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    _, _, host, work = heapq.heappop(self._later)
                    self._submit(host, work)
                self._changed.wait(self._later[0][0] - now if self._later else None)

    def _run(self, host: str, work: Work) -> None:
        """Do a piece of work, and hand the turn on."""
        try:
            work()
        finally:
            with self._lock:
                self._hand_on(host)

    def _hand_on(self, host: str) -> None:
        self._running[host] -= 1
        waiting = self._waiting.get(host)
        if not self._running[host]:
            del self._running[host]
        if not waiting:
            self._waiting.pop(host, None)
            return
        with suppress(RuntimeError):  # closed: nothing that waits is begun
            self._submit(host, waiting.popleft())
            if self._resting.get(host):  # all that waits rests with it
                while waiting:
                    self._submit(host, waiting.popleft())
