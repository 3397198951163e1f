"""Turns of fetches: which one gets a thread next, so that no client and no host takes them all."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Any

__all__ = ["FETCHES", "HOST_SHARE", "RESERVED", "SHARE", "FetchTurns"]

FETCHES = 32  # images that are fetched at a time
HOST_SHARE = 16  # fetches from one host
SHARE = 8  # fetches for one client
RESERVED = 8  # fetches, of all and of a host's, for clients of which none runs
Pair = tuple[str, str]  # client and host


class FetchTurns:
    """Who may fetch. Used by one event loop alone.

    The next turn is of the client with the fewest running fetches, and among these of the one that
    waits longest. So the more clients there are, the fewer fetches each has at a time.
    """

    def __init__(self) -> None:
        self._waiting: dict[Pair, deque[asyncio.Future[None]]] = {}  # the next in turn first
        self._running: Counter[Pair] = Counter()
        self._clients: Counter[str] = Counter()  # running fetches of each
        self._hosts: Counter[str] = Counter()  # likewise

    async def take(self, client: str, host: str) -> None:
        """Wait for a turn; `give_back` ends it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pair = (client, host)
        self._waiting.setdefault(pair, deque()).append(turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # granted in the same moment
                self.give_back(client, host)
            else:
                self._forget(pair, turn)
            raise

    def give_back(self, client: str, host: str) -> None:
        """End a turn, and let others have theirs."""
        self._count(client, host, -1)
        self._grant()

    def _forget(self, pair: Pair, turn: asyncio.Future[None]) -> None:
        """Take a turn off that is no longer wanted, if `_grant` has not done so."""
        turns = self._waiting.get(pair, deque())
        if turn not in turns:
            return
        turns.remove(turn)
        if not turns:
            del self._waiting[pair]

    def _count(self, client: str, host: str, change: int) -> None:
        _add(self._running, (client, host), change)
        _add(self._clients, client, change)
        _add(self._hosts, host, change)

    def _grant(self) -> None:
        """Begin all turns that may begin."""
        while self._waiting:
            pair = self._next()
            if pair is None:
                return
            turns = self._waiting.pop(pair)
            turn = turns.popleft()
            if turns:
                self._waiting[pair] = turns  # the last in turn
            if turn.cancelled():  # its task has yet to hear of that
                continue
            self._count(*pair, 1)
            turn.set_result(None)

    def _next(self) -> Pair | None:
        """Return whose turn it is; None where nobody may begin."""
        used = self._clients.total()
        allowed = []
        for client, host in self._waiting:
            fits = _fits(self._clients[client], used, FETCHES)
            running = self._running[client, host]
            if fits and _fits(running, self._hosts[host], HOST_SHARE):
                allowed.append((client, host))
        return min(allowed, key=lambda pair: self._clients[pair[0]], default=None)


def _add(counter: Counter[Any], key: Any, change: int) -> None:
    """Count; what is at zero is forgotten."""
    counter[key] += change
    if not counter[key]:
        del counter[key]


def _fits(running: int, used: int, size: int) -> bool:
    """Return whether a client with so many running fetches may begin one more; `used` of `size`
    run now.
    """
    if not running:
        return used < size
    return running < SHARE and used < size - RESERVED
