"""Clients that go away before they are answered: what is being done for them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.types import Message, Receive

__all__ = ["ended_by_disconnect", "together"]

T = TypeVar("T")

GONE: Message = {"type": "http.disconnect"}


@contextmanager
def ended_by_disconnect(receive: Receive, is_answered: Callable[[], bool]) -> Iterator[Receive]:
    """Yield a request's `receive`; cancel the block, and end it quietly, where its client goes.

    That is noticed once the body is whole, and is of no matter where the answer has begun. A client
    that only says that it sends nothing more has not gone: it may still read.
    """
    task: Any = asyncio.current_task()
    watch = _Watch(receive, task, is_answered)
    try:
        yield watch.receive
    except asyncio.CancelledError:
        if not watch.has_cancelled or task.uncancel():
            raise
    finally:
        watch.stop()


class _Watch:
    """Reads for one request: first its body, and then whether its client is still there."""

    def __init__(
        self, receive: Receive, task: asyncio.Task[Any], is_answered: Callable[[], bool]
    ) -> None:
        self._receive = receive
        self._task = task
        self._is_answered = is_answered
        self._watching: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self.has_cancelled = False

    async def receive(self) -> Message:
        """Return the next piece of the body; behind the last one, wait until the client goes."""
        if self._watching is not None:
            await self._gone.wait()
            return GONE
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        return message

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        message = await self._receive()
        if message["type"] != GONE["type"]:
            return
        self._gone.set()
        if not self._is_answered():
            self.has_cancelled = True
            self._task.cancel()


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what each coroutine gives, in order. An error of one ends the others before it is
    raised: none goes on for a request that was answered.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
