"""mismatch.serving.turns: one piece of work at a time, by turns of clients."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mismatch.serving.batching import FullError
from mismatch.serving.turns import Turns


class Work:
    """Notes who had a turn, in order; the first lasts until `go` is set."""

    def __init__(self, limit: int) -> None:
        self.turns = Turns(limit, "explanations")
        self.go = asyncio.Event()
        self.order: list[str] = []

    async def one(self, name: str, client: str) -> None:
        async with self.turns.turn(client):
            self.order.append(name)
            await self.go.wait()

    async def ask(self, *names: str) -> list[asyncio.Task[None]]:
        """Ask for a turn each; the first letter of a name is its client."""
        tasks = []
        for name in names:
            tasks.append(asyncio.create_task(self.one(name, name[0])))
            await asyncio.sleep(0)
        return tasks


def test_clients_take_turns() -> None:
    async def run() -> None:
        work = Work(8)
        tasks = await work.ask("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        assert (work.order, work.turns.waiting) == (["a1"], 6)
        work.go.set()
        await asyncio.gather(*tasks)
        assert work.order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
        assert work.turns.waiting == 0

    asyncio.run(run())


def test_who_comes_while_another_is_served_comes_before_what_that_one_has_waiting() -> None:
    async def run() -> None:
        work = Work(8)
        tasks = await work.ask("a1", "a2", "a3", "b1")
        work.go.set()
        await asyncio.gather(*tasks)
        assert work.order == ["a1", "b1", "a2", "a3"]

    asyncio.run(run())


def test_a_client_may_have_half_of_those_waiting_and_another_one_in_any_case() -> None:
    async def run() -> None:
        work = Work(4)
        tasks = await work.ask("a1", "a2", "a3")
        with pytest.raises(FullError, match="2 explanations wait already"):
            await work.one("a4", "a")
        tasks += await work.ask("b1", "b2", "c1", "d1")
        for name in ("b3", "c2"):
            with pytest.raises(FullError):
                await work.one(name, name[0])
        tasks += await work.ask("e1", "f1")
        with pytest.raises(FullError):
            await work.one("g1", "g")
        work.go.set()
        await asyncio.gather(*tasks)
        assert work.order == ["a1", "b1", "c1", "d1", "e1", "f1", "a2", "b2", "a3"]

    asyncio.run(run())


def test_of_one_that_may_wait_each_client_may_have_one() -> None:
    async def run() -> None:
        work = Work(1)
        tasks = await work.ask("a1", "a2")
        with pytest.raises(FullError):
            await work.one("a3", "a")
        tasks += await work.ask("b1")
        work.go.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_who_has_gone_has_no_turn() -> None:
    async def run() -> None:
        work = Work(8)
        running, *waiting = await work.ask("a1", "a2", "b1", "b2", "c1")
        waiting[1].cancel()
        waiting[3].cancel()
        await asyncio.sleep(0)
        assert work.turns.waiting == 2
        running.cancel()
        await asyncio.sleep(0)
        work.go.set()
        found = await asyncio.gather(running, *waiting, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in found] == [1, 0, 1, 0, 1]
        assert work.order == ["a1", "b2", "a2"]
        await work.ask("d1")
        assert work.order[-1] == "d1"

    asyncio.run(run())


def test_one_that_goes_as_its_turn_comes_passes_it_on() -> None:
    async def run() -> None:
        work = Work(8)
        running, second, third = await work.ask("a1", "b1", "c1")
        work.go.set()
        await running
        second.cancel()
        found = await asyncio.gather(second, third, return_exceptions=True)
        assert found[1] is None
        assert work.order[-1] == "c1"
        assert work.turns.waiting == 0

    asyncio.run(run())


def test_it_is_finished_when_nothing_runs_or_waits() -> None:
    async def run() -> None:
        work = Work(8)
        await asyncio.wait_for(work.turns.finished(), 5)
        tasks = await work.ask("a1", "b1")
        finished = asyncio.create_task(work.turns.finished())
        await asyncio.sleep(0)
        assert not finished.done()
        work.go.set()
        await asyncio.wait_for(finished, 5)
        assert work.order == ["a1", "b1"]
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_a_turn_that_ends_while_the_next_is_being_cancelled_goes_on() -> None:
    """The task hears of it only in the event loop's next round."""

    async def run() -> None:
        work = Work(8)
        first, second, third, fourth = await work.ask("a1", "b1", "c1", "c2")
        first.cancel()
        second.cancel()
        fourth.cancel()
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.wait_for(third, 5)
        assert work.order == ["a1", "c1"]
        assert second.cancelled()
        assert work.turns.waiting == 0
        await asyncio.wait_for(work.turns.finished(), 5)

    asyncio.run(run())


def test_a_turn_lasts_as_long_as_its_thread_though_its_client_leaves() -> None:
    go = threading.Event()

    async def run() -> None:
        turns = Turns(8, "bodies")
        first = asyncio.create_task(turns.on_thread("a", lambda: go.wait(20)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(turns.on_thread("b", lambda: "second"))
        first.cancel()
        await asyncio.sleep(0.05)
        assert turns.waiting == 1
        go.set()
        assert await second == "second"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(run())
