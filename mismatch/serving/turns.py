"""One piece of work at a time: clients take turns, and each may have only so much waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from mismatch.serving.batching import NONE_READING, FullError

__all__ = ["Turns"]

RETRY = 2  # seconds
T = TypeVar("T")
OVERBOOKED = 2  # times the limit, up to which a client of which nothing waits yet may still wait


class Turns:
    """Turns in one event loop; `async with turns.turn(client)` waits until the client has one."""

    def __init__(self, limit: int, what: str) -> None:
        """Take `limit`: how many may wait, half of them of one client; `what`: their name in
        errors.

        One of a client that has none yet may wait in any case, up to twice the limit.
        """
        self._limit = limit
        self._limit_of_client = max(1, limit // 2)
        self._what = what
        self._running = False
        self._served = ""  # the client whose turn it is, or was
        self._idle = asyncio.Event()
        self._idle.set()
        # The client whose turn is next comes first, and its oldest work first; none is empty.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for this client's turn, and pass it on in the end; FullError where too many wait."""
        if self._running:
            await self._wait(client)
        self._running = True
        self._served = client
        self._idle.clear()
        try:
            yield
        finally:
            self._pass_on()

    async def on_thread(self, client: str, work: Callable[[], T]) -> T:
        """Run work on a thread in this client's turn; FullError where too many wait. The turn lasts
        as long as the thread works, also where the client leaves.
        """
        async with self.turn(client):
            task = asyncio.create_task(asyncio.to_thread(work))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                if not task.cancelled():
                    task.exception()  # nobody asks for it any more
                raise

    async def finished(self) -> None:
        """Wait until nothing runs and nothing waits."""
        await self._idle.wait()

    def check(self, client: str, reading: Mapping[str, int] = NONE_READING) -> None:
        """Raise FullError where no more of this client may wait.

        `reading`: how many of each client will be here before it.
        """
        at_once = 0 if self._running else 1  # begins as soon as it is here
        client_total = len(self._waiting.get(client, ())) + reading.get(client, 0) - at_once
        total = self.waiting + sum(reading.values()) - at_once
        if client_total > 0:
            is_full = total >= self._limit or client_total >= self._limit_of_client
        else:
            is_full = total >= OVERBOOKED * self._limit
        if is_full:
            words = f"{total} {self._what} wait already; try again in a moment"
            raise FullError(words, RETRY)

    async def _wait(self, client: str) -> None:
        self.check(client)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on()  # its turn had come at the same time
            else:
                self._forget(client, future)
            raise

    def _pass_on(self) -> None:
        """Give the turn to the next client. The one that had it comes last, also behind those that
        have come meanwhile.
        """
        rest = self._waiting.pop(self._served, None)
        if rest is not None:
            self._waiting[self._served] = rest
        while self._waiting:
            client = next(iter(self._waiting))
            futures = self._waiting.pop(client)
            future = futures.popleft()
            if futures:
                self._waiting[client] = futures
            if not future.cancelled():  # else its task has yet to hear of that
                future.set_result(None)
                return
        self._running = False
        self._idle.set()

    def _forget(self, client: str, future: asyncio.Future[None]) -> None:
        futures = self._waiting.get(client, deque())
        if future not in futures:
            return  # `_pass_on` has taken it off
        futures.remove(future)
        if not futures:
            del self._waiting[client]
