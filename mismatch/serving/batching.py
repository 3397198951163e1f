"""Pairs of many requests are scored together: a queue with bounds, a short wait for company, one thread that calls the predictor."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mismatch.errors import MismatchError
from mismatch.runtime.predictor import Prediction

__all__ = ["Batcher", "ClosedError", "FullError"]

Score = Callable[[Sequence[Mapping[str, Any]]], Sequence[Prediction]]
KEPT = 0.8  # of what is known of the speed, at each batch


class FullError(MismatchError):
    """More waits than may; `retry_after`: whole seconds after which it may be otherwise."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClosedError(MismatchError):
    """The service is going down."""


@dataclass(eq=False)
class _Waiting:
    """One request's pairs, which may be scored in several batches."""

    rows: Sequence[Mapping[str, Any]]
    done: asyncio.Future[list[Prediction]]
    since: float = field(default_factory=time.perf_counter)
    results: list[Prediction] = field(default_factory=list)
    taken: int = 0


class Batcher:
    """Requests in, predictions out, in the order of each request's pairs. Equal images and texts of a batch are encoded once, whichever request they are of."""

    def __init__(
        self,
        score: Score,
        *,
        batch: int,
        wait: float,
        queue: int,
        max_wait: float = math.inf,
        seen: Callable[[int, Sequence[float]], object] = lambda size, waits: None,
    ) -> None:
        """`batch` pairs at most are scored together, after a wait of `wait` seconds for more; `queue` pairs may wait, and none for longer than `max_wait`
        seconds as far as can be told from the batches so far; `seen` is told of each batch's size and of how long its requests have waited, in seconds.
        """
        self._score, self._batch, self._wait, self._bound, self._max_wait, self._seen = score, batch, wait, queue, max_wait, seen
        self._queue: deque[_Waiting] = deque()
        self.waiting = 0  # pairs
        self._scoring = 0  # pairs
        self._spent = self._done = 0.0  # seconds and pairs of the batches so far, the latest ones above all
        self._news = asyncio.Event()
        self._closing = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mismatch-serving")
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; within a running loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Take nothing more, finish what waits."""
        self._closing = True
        self._news.set()
        if self._worker is not None:
            await self._worker
        self._pool.shutdown()

    def expected_wait(self, ahead: int = 0) -> float:
        """Seconds until a pair that came now would be scored, as far as can be told; `ahead`: pairs that will be here before it."""
        return (self.waiting + ahead + self._scoring) * self._spent / self._done if self._done else 0.0

    def check(self, pairs: int = 1, ahead: int = 0) -> None:
        """FullError where so many more don't fit, ClosedError while it goes down; `ahead`: pairs that will be here before them."""
        if self._closing:
            raise ClosedError("the service is going down; ask another one")
        expected, waiting = self.expected_wait(ahead), self.waiting + ahead
        if waiting + pairs > self._bound or (waiting and expected > self._max_wait):
            raise FullError(f"{waiting:,} pairs wait already; try again in a moment", max(1, math.ceil(expected / 2)))

    async def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """One prediction a row, in order. FullError where they don't fit into the queue, ClosedError while it goes down; what scoring raises, is raised."""
        self.check(len(rows))
        if not rows:
            return []
        one = _Waiting(rows, asyncio.get_running_loop().create_future())
        self._queue.append(one)
        self.waiting += len(rows)
        self._news.set()
        try:
            return await one.done
        except asyncio.CancelledError:  # its client is gone, or its time is up
            self._forget(one)
            raise

    async def _work(self) -> None:
        while not (self._closing and not self._queue):
            if not self._queue:
                self._news.clear()
                await self._news.wait()
                continue
            if self.waiting < self._batch and self._wait and not self._closing:
                await asyncio.sleep(self._wait)
            await self._round()

    async def _round(self) -> None:
        """Take a batch from the front, score it, and give out what is whole."""
        start = time.perf_counter()
        parts = list(self._take())
        rows = [row for one, count in parts for row in one.rows[one.taken - count : one.taken]]
        if not rows:
            return
        self._seen(len(rows), [start - one.since for one, _ in parts])
        self._scoring = len(rows)
        try:
            found = list(await asyncio.get_running_loop().run_in_executor(self._pool, self._score, rows))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to hear of it, and the next batch must not suffer
            for one, _ in parts:
                self._drop(one, error)
            return
        finally:
            self._scoring = 0
        self._spent = KEPT * self._spent + time.perf_counter() - start
        self._done = KEPT * self._done + len(rows)
        at = 0
        for one, count in parts:
            one.results += found[at : at + count]
            at += count
            if len(one.results) == len(one.rows) and not one.done.done():
                one.done.set_result(one.results)

    def _take(self) -> Iterator[tuple[_Waiting, int]]:
        """Requests, and how many of their pairs are in this batch."""
        room = self._batch
        while room and self._queue:
            one = self._queue[0]
            left = len(one.rows) - one.taken
            count = min(left, room)
            one.taken += count
            self.waiting -= count
            room -= count
            if one.taken == len(one.rows):
                self._queue.popleft()
            yield one, count

    def _drop(self, one: _Waiting, error: Exception) -> None:
        if not one.done.done():
            one.done.set_exception(error)
        self._forget(one)  # the rest of a long request

    def _forget(self, one: _Waiting) -> None:
        """Take what still waits of a request out of the queue."""
        if one in self._queue:
            self.waiting -= len(one.rows) - one.taken
            self._queue.remove(one)
