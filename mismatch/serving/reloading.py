"""Models that are loaded again while requests run: at SIGHUP, or where a request asks for it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException

from mismatch.errors import MismatchError
from mismatch.runtime.hardware import give_back_memory
from mismatch.serving.hangups import can_hang_up
from mismatch.serving.models import Models
from mismatch.serving.telemetry import log

__all__ = ["Reloading"]

FAILED = "a model could not be loaded again; all stay as they are"
Loading = asyncio.Task[list[str]]


class Reloading:
    """One loading runs and one waits behind it, however many are asked for: who comes later joins
    the one that waits. It goes on where none of them waits for it any more.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self._running: Loading | None = None
        self._waiting: Loading | None = None
        self._trimming: asyncio.Task[None] | None = None

    async def __call__(self) -> list[str]:
        """Load all models again; return the names of those whose answers are other ones now.
        HTTPException where one can't be: then all stay.
        """
        return await asyncio.shield(self._next())

    async def close(self) -> None:
        """End what runs and what waits."""
        every = (self._running, self._waiting, self._trimming)
        tasks: list[asyncio.Task[Any]] = [task for task in every if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def at_hangups(self) -> Iterator[None]:
        """Load them at SIGHUP, where signals can be had: in the main thread."""
        if not can_hang_up():
            yield
            return
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, self._next)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            if before is not None:
                signal.signal(signal.SIGHUP, before)

    def _next(self) -> Loading:
        """Return the loading that waits, or a new one."""
        if self._waiting is None:
            work = self._load_behind(self._running)
            self._waiting = asyncio.get_running_loop().create_task(work)
            self._waiting.add_done_callback(_expect_failure)
        return self._waiting

    async def _load_behind(self, before: Loading | None) -> list[str]:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._waiting = self._waiting, None
        return await self._load()

    async def _load(self) -> list[str]:
        try:
            changed = await self._models.load()
        except MismatchError as error:
            log.error({"message": FAILED, "error": str(error)})
            words = "a model could not be loaded again, the log says why; all stay as they are"
            raise HTTPException(500, words) from None
        models = {served.name: served.model_id for served in self._models}
        log.info({"message": "loaded again", "models": models, "changed": changed})
        if self._trimming is None or self._trimming.done():
            self._trimming = asyncio.get_running_loop().create_task(self._give_back())
        return changed

    async def _give_back(self) -> None:
        """Give the memory of the models before back to the system, once no request uses them."""
        await self._models.retired()
        await asyncio.to_thread(give_back_memory)


def _expect_failure(task: Loading) -> None:
    """Look at an error that nobody may wait for; the log has said why."""
    if not task.cancelled():
        task.exception()
