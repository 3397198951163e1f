"""mismatch.serving.fetch_turns: who may fetch next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import pytest

from mismatch.serving.fetch_turns import FETCHES, HOST_SHARE, RESERVED, SHARE, FetchTurns


class Fetches:
    """Fetches that run until they are ended."""

    def __init__(self) -> None:
        self.turns = FetchTurns()
        self.running: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, pairs: Iterable[tuple[str, str]]) -> None:
        for client, host in pairs:
            self.tasks.append(asyncio.create_task(self._one(client, host)))
        await self.settle()

    async def _one(self, client: str, host: str) -> None:
        await self.turns.take(client, host)
        self.running.append((client, host))

    async def end(self, client: str, host: str) -> None:
        self.running.remove((client, host))
        self.turns.give_back(client, host)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    def of_clients(self) -> Counter[str]:
        return Counter(client for client, _ in self.running)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        while self.running:
            await self.end(*self.running[0])
        assert self.left() == []

    def left(self) -> list[object]:
        """What is still counted."""
        turns = self.turns
        return [*turns._waiting, *turns._running, *turns._clients, *turns._hosts]


def many(client: str, host: str, count: int = 64) -> list[tuple[str, str]]:
    return [(client, host)] * count


def test_a_client_alone_has_its_share_and_the_rest_is_free() -> None:
    async def work() -> None:
        fetches = Fetches()
        await fetches.begin(many("a", "one") + many("a", "two"))
        assert fetches.of_clients() == {"a": SHARE}
        await fetches.stop()

    asyncio.run(work())


@pytest.mark.parametrize("hosts", [1, 8])
def test_another_clients_fetch_begins_at_once_next_to_many_greedy_ones(hosts: int) -> None:
    async def work() -> None:
        fetches = Fetches()
        for client in range(8):
            await fetches.begin(many(f"greedy {client}", f"host {client % hosts}"))
        await fetches.begin([("other", "elsewhere")])
        assert ("other", "elsewhere") in fetches.running
        assert len(fetches.running) <= FETCHES
        await fetches.stop()

    asyncio.run(work())


def test_a_slow_host_takes_no_more_than_its_share() -> None:
    async def work() -> None:
        fetches = Fetches()
        for client in range(50):
            await fetches.begin(many(str(client), "slow", 8))
        assert len(fetches.running) == HOST_SHARE
        await fetches.begin([(str(client), "quick") for client in range(8)])
        assert fetches.running.count(("7", "quick")) == 1
        await fetches.stop()

    asyncio.run(work())


def test_next_is_the_client_with_the_fewest_and_none_gets_more_than_a_fair_part() -> None:
    async def work() -> None:
        fetches = Fetches()
        clients = [str(client) for client in range(6)]
        for client in clients:
            await fetches.begin(many(client, f"host of {client}"))
        for _ in range(3):
            for pair in list(fetches.running):
                before = fetches.of_clients()
                await fetches.end(*pair)
                after = fetches.of_clients()
                before[pair[0]] -= 1
                for client, count in (after - before).items():
                    assert count == 1
                    assert before[client] <= min(before[other] for other in clients) + 1
        counts = fetches.of_clients()
        assert min(counts.values()) == max(counts.values())
        assert len(fetches.running) == FETCHES - RESERVED
        await fetches.stop()

    asyncio.run(work())


def test_those_that_wait_longest_come_first() -> None:
    async def work() -> None:
        fetches = Fetches()
        await fetches.begin([(str(client), "host") for client in range(HOST_SHARE + 3)])
        for number in range(3):
            await fetches.end(*fetches.running[0])
            assert fetches.running[-1] == (str(HOST_SHARE + number), "host")
        await fetches.stop()

    asyncio.run(work())


def test_a_turn_that_is_given_up_is_free_again() -> None:
    async def work() -> None:
        fetches = Fetches()
        turns = fetches.turns
        for moment in range(3):  # before it waits, while it does, and as it is granted
            task = asyncio.create_task(turns.take("a", "host"))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
                turns.give_back("a", "host")
            assert fetches.left() == []

    asyncio.run(work())


def test_a_turn_that_ends_while_its_task_is_being_cancelled_is_not_lost() -> None:
    """The task hears of it only in the event loop's next round."""

    async def run() -> None:
        fetches = Fetches()
        await fetches.begin(many("a", "x", SHARE + 2))
        assert len(fetches.running) == SHARE
        gone = fetches.tasks[SHARE]
        gone.cancel()
        await fetches.end("a", "x")
        assert gone.cancelled()
        assert len(fetches.running) == SHARE, "the turn is the next one's"
        fetches.tasks[SHARE + 1].cancel()
        await fetches.stop()

    asyncio.run(run())
