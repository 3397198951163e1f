"""mismatch.serving.reloading: models that are loaded again, once for all who ask meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from mismatch.errors import CheckpointError
from mismatch.serving.reloading import Reloading


class SlowModels:
    """Each loading waits until it may go on, and says which one it was."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Semaphore(0)
        self.fails = False

    def __iter__(self) -> Any:
        return iter(())

    async def load(self) -> list[str]:
        self.begun += 1
        number = self.begun
        await self.may_end.acquire()
        if self.fails:
            raise CheckpointError("/secret/path is damaged")
        return [str(number)]


def reloading(test: Callable[[SlowModels, Reloading], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        models: Any = SlowModels()
        reload = Reloading(models)
        await test(models, reload)
        await reload.close()

    asyncio.run(run())


async def asked(reload: Reloading, count: int) -> list[asyncio.Task[list[str]]]:
    tasks = [asyncio.ensure_future(reload()) for _ in range(count)]
    await asyncio.sleep(0.01)
    return tasks


def test_sixty_that_ask_at_once_wait_for_two_loadings() -> None:
    async def test(models: SlowModels, reload: Reloading) -> None:
        first = await asked(reload, 1)
        others = await asked(reload, 60)
        assert models.begun == 1
        models.may_end.release()
        assert await first[0] == ["1"]
        await asyncio.sleep(0.01)
        late = await asked(reload, 3)
        models.may_end.release()
        assert await asyncio.gather(*others) == [["2"]] * 60
        models.may_end.release()
        assert await asyncio.gather(*late) == [["3"]] * 3, "what they asked for began later"
        assert models.begun == 3

    reloading(test)


def test_who_goes_away_takes_nothing_from_those_who_joined() -> None:
    async def test(models: SlowModels, reload: Reloading) -> None:
        await asked(reload, 1)
        gone, stays = await asked(reload, 2)
        gone.cancel()
        models.may_end.release()
        models.may_end.release()
        assert await stays == ["2"]
        assert gone.cancelled()

    reloading(test)


def test_a_failure_is_told_to_all_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def test(models: SlowModels, reload: Reloading) -> None:
        models.fails = True
        tasks = await asked(reload, 3)
        [unwanted] = await asked(reload, 1)
        unwanted.cancel()
        for _ in range(2):
            models.may_end.release()
            await asyncio.sleep(0.01)
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(error, HTTPException)
            assert error.status_code == 500
            assert "secret" not in error.detail
        models.fails = False
        models.may_end.release()
        assert await reload() == [str(models.begun)]

    reloading(test)
    assert caplog.text.count("/secret/path is damaged") == 2
    assert "never retrieved" not in caplog.text


def test_the_end_ends_what_runs_and_what_waits() -> None:
    async def test(models: SlowModels, reload: Reloading) -> None:
        tasks = await asked(reload, 1) + await asked(reload, 2)
        await reload.close()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    reloading(test)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_hangups_are_joined_too() -> None:
    async def test(models: SlowModels, reload: Reloading) -> None:
        before = signal.getsignal(signal.SIGHUP)
        with reload.at_hangups():
            await asked(reload, 1)
            for _ in range(20):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0.001)
            [joined] = await asked(reload, 1)
            for _ in range(3):
                models.may_end.release()
            assert await joined == ["2"]
            assert models.begun == 2
        assert signal.getsignal(signal.SIGHUP) is before

    reloading(test)
