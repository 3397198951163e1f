"""Pairs of many requests are scored together: clients take turns, within bounds, on one thread."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mismatch.errors import MismatchError
from mismatch.runtime.predictor import Prediction

__all__ = ["CLOSED", "NONE_READING", "Batcher", "ClosedError", "FullError"]

Score = Callable[[Sequence[Mapping[str, Any]]], Sequence[Prediction]]
KEPT = 0.8  # share of the earlier times and costs that stays at each batch
ANYONE = ""  # the client of a caller that names none
NONE_READING: Mapping[str, int] = MappingProxyType({})
# A pair's cost is counted in characters of ASCII, of which the worst text takes about 10 µs each to
# clean and tokenize; of what may be mojibake, 30 µs. An image tower takes about 10 ms an image.
PAIR_COST = 1_000  # characters beyond the text's; as many for each further pass of its tower
FOREIGN_COST = 3  # of a character of a text beyond ASCII
MAX_BATCH_TEXT = 2**15  # characters of a batch's distinct texts: a third of a second at worst
CLOSED = "the service is going down; ask another one"
OVERBOOKED = 2  # times the bound, beyond which even a client's first pair is refused


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

    client: str
    rows: Sequence[Mapping[str, Any]]
    sizes: Sequence[int]  # the rows' texts, in characters that take as long
    done: asyncio.Future[list[Prediction]]
    since: float = field(default_factory=time.perf_counter)
    results: list[Prediction] = field(default_factory=list)
    taken: int = 0  # rows
    cost: int = field(init=False)  # cost of the rows that are in no batch yet

    def __post_init__(self) -> None:
        self.cost = PAIR_COST * len(self.rows) + sum(self.sizes)

    @property
    def left(self) -> int:
        """Return how many rows are in no batch yet."""
        return len(self.rows) - self.taken


@dataclass(eq=False)
class _Client:
    """One client's requests, which take turns with each other."""

    served: int  # cost of what it has had, counted from where the others stood when it came
    requests: deque[_Waiting] = field(default_factory=deque)
    pairs: int = 0  # pairs that wait
    cost: int = 0  # their cost

    def add(self, request: _Waiting) -> None:
        self.requests.append(request)
        self.pairs += len(request.rows)
        self.cost += request.cost

    def next_row(self) -> tuple[Mapping[str, Any], int]:
        """Return the pair whose turn it is, and the size of its text."""
        request = self.requests[0]
        return request.rows[request.taken], request.sizes[request.taken]

    def take(self) -> _Waiting:
        """Take that pair, and return the request it is of, which then goes behind the others."""
        _, size = self.next_row()
        cost = PAIR_COST + size
        request = self.requests.popleft()
        request.taken += 1
        request.cost -= cost
        self.pairs -= 1
        self.cost -= cost
        self.served += cost
        if request.left:
            self.requests.append(request)
        return request

    def forget(self, request: _Waiting) -> None:
        """Drop what still waits of a request."""
        self.requests.remove(request)
        self.pairs -= request.left
        self.cost -= request.cost


def _nothing(*_: Any) -> Any:
    """Stand for what a closed batcher no longer calls."""


class Batcher:
    """Requests in, predictions out, in the order of each request's pairs.

    Clients take turns, by the cost of what they have had, and so do the requests of a client: a
    long request, or one of costly texts, keeps its own client waiting and hardly any other.
    Equal images and texts of a batch are encoded once, whichever request they are of.
    """

    def __init__(
        self,
        score: Score,
        *,
        batch: int,
        wait: float,
        queue: int,
        max_wait: float = math.inf,
        seen: Callable[[int, Sequence[float]], object] = lambda size, waits: None,
        pieces: Callable[[str], int] = lambda text: 1,
    ) -> None:
        """Take `batch`: pairs that are scored together at most, after `wait` seconds for more of
        them.

        `queue`: pairs that may wait. Where they do, a client may still have its share: `queue`
        divided by the clients that are there. `max_wait`: seconds that a pair may be expected to
        wait. `seen` receives each batch's size, and how long its requests have waited, in seconds.
        `pieces`: how many passes of the text tower a text takes, about.
        """
        self._score = score
        self._batch = batch
        self._wait = wait
        self._bound = queue
        self._max_wait = max_wait
        self._seen = seen
        self._pieces = pieces
        self._clients: dict[str, _Client] = {}  # those of which something waits
        self._served = 0  # what the client whose turn was last has had: a new one begins there
        self._scoring = 0  # cost of the batch that is being scored
        self._spent = 0.0  # seconds of the batches so far, the latest ones above all
        self._done = 0.0  # cost of these batches
        self._news = asyncio.Event()
        self._closing = False
        self._closed = asyncio.Event()  # `close` was called: nothing waits for more any longer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mismatch-serving")
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Return how many pairs wait."""
        return sum(client.pairs for client in self._clients.values())

    def start(self) -> None:
        """Begin to work; within a running loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Take nothing more, finish what waits."""
        self._closing = True
        self._closed.set()
        self._news.set()
        if self._worker is not None:
            await self._worker
        self._pool.shutdown()

    def release(self) -> None:
        """Let go of what scored its pairs, once it is closed."""
        self._score = _nothing
        self._seen = _nothing
        self._pieces = _nothing
        self._worker = None

    def expected_wait(
        self, client: str = ANYONE, reading: Mapping[str, int] = NONE_READING, cost: int = PAIR_COST
    ) -> float:
        """Return the seconds that a request of this client that came now would wait, as far as it
        is known.

        As all take turns, no other client keeps it waiting for longer than what this one has, and
        no other request for longer than its own `cost`; this is counted at most, in constant time
        a client. `reading`: pairs by client that will be here before it.
        """
        if not self._done:
            return 0.0
        costs = {name: PAIR_COST * pairs for name, pairs in reading.items()}
        client_cost = costs.pop(client, 0)
        for name, other in self._clients.items():
            if name == client:
                client_cost += min(other.cost, cost * len(other.requests))
            else:
                costs[name] = costs.get(name, 0) + other.cost
        others = sum(min(other, client_cost + cost) for other in costs.values())
        return (self._scoring + client_cost + others) * self._spent / self._done

    def check(
        self,
        pairs: int = 1,
        client: str = ANYONE,
        reading: Mapping[str, int] = NONE_READING,
        cost: int = PAIR_COST,
    ) -> None:
        """Raise FullError where so many more of this client don't fit, ClosedError while it goes
        down.

        `reading`: pairs by client that will be here before them; `cost`: of all of the pairs.
        """
        if self._closing:
            raise ClosedError(CLOSED)
        waiting = self.waiting + sum(reading.values())
        expected = self.expected_wait(client, reading, cost)
        late = waiting > 0 and expected > self._max_wait
        if late or not self._fits(pairs, client, reading, waiting):
            words = f"{waiting:,} pairs wait already; try again in a moment"
            raise FullError(words, max(1, math.ceil(expected / 2)))

    def _fits(self, pairs: int, client: str, reading: Mapping[str, int], waiting: int) -> bool:
        """Return whether there is room, or the client has less than its share."""
        if waiting + pairs <= self._bound:
            return True
        client_pairs = reading.get(client, 0)
        if client in self._clients:
            client_pairs += self._clients[client].pairs
        there = {name for name, count in reading.items() if count} | {client, *self._clients}
        share = max(1, self._bound // len(there))
        return client_pairs + pairs <= share and waiting + pairs <= OVERBOOKED * self._bound

    async def predict(
        self, rows: Sequence[Mapping[str, Any]], client: str = ANYONE
    ) -> list[Prediction]:
        """Return one prediction a row, in order.

        FullError where they don't fit into the queue, ClosedError while it goes down; what scoring
        raises, is raised.
        """
        sizes = [self._size(_text(row)) for row in rows]
        request = _Waiting(client, rows, sizes, asyncio.get_running_loop().create_future())
        self.check(len(rows), client, cost=request.cost)
        if not rows:
            return []
        if client not in self._clients:
            self._clients[client] = _Client(self._served)
        self._clients[client].add(request)
        self._news.set()
        try:
            return await request.done
        except asyncio.CancelledError:  # its client is gone, or its time is up
            self._forget(request)
            raise

    async def _work(self) -> None:
        while not (self._closing and not self._clients):
            if not self._clients:
                self._news.clear()
                await self._news.wait()
                continue
            if self.waiting < self._batch and self._wait:
                await self._wait_for_more()
            await self._round()

    async def _wait_for_more(self) -> None:
        """Let `wait` seconds pass, or less where it is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                await self._closed.wait()

    async def _round(self) -> None:
        """Take a batch, score it, and give out what is whole."""
        start = time.perf_counter()
        taken = list(self._take())
        if not taken:
            return
        rows = [row for _, row, _ in taken]
        requests = dict.fromkeys(request for request, _, _ in taken)
        self._seen(len(rows), [start - request.since for request in requests])
        cost = sum(PAIR_COST + size for _, _, size in taken)
        self._scoring = cost
        loop = asyncio.get_running_loop()
        try:
            predictions = await loop.run_in_executor(self._pool, self._score, rows)
            pairs = list(zip(taken, predictions, strict=True))
        # whatever it is, those who wait have to hear of it, and the next batch must not suffer
        except Exception as error:  # noqa: BLE001
            for request in requests:
                self._drop(request, error)
            return
        finally:
            self._scoring = 0
        self._spent = KEPT * self._spent + time.perf_counter() - start
        self._done = KEPT * self._done + cost
        for (request, _, _), prediction in pairs:
            request.results.append(prediction)
        for request in requests:
            if len(request.results) == len(request.rows) and not request.done.done():
                request.done.set_result(request.results)

    def _take(self) -> Iterator[tuple[_Waiting, Mapping[str, Any], int]]:
        """Yield the next batch's requests and pairs, and the sizes of their texts.

        It ends at `batch` pairs, or before their distinct texts are too large; one pair is always
        taken.
        """
        texts = set[str]()
        total = 0
        for number in range(self._batch):
            if not self._clients:
                return
            name = min(self._clients, key=lambda name: self._clients[name].served)
            client = self._clients[name]
            row, size = client.next_row()
            text = _text(row)
            if text not in texts:
                texts.add(text)
                total += size
            if number and total > MAX_BATCH_TEXT:
                return
            self._served = client.served
            request = client.take()
            self._leave(name)
            yield request, row, size

    def _size(self, text: str) -> int:
        """Return how many characters take as long as a text: its own, and a pair's for each pass of
        the text tower beyond the first.
        """
        letters = len(text) if text.isascii() else FOREIGN_COST * len(text)
        return letters + PAIR_COST * (self._pieces(text) - 1)

    def _leave(self, name: str) -> None:
        """Drop a client of which nothing waits."""
        if not self._clients[name].requests:
            del self._clients[name]

    def _drop(self, request: _Waiting, error: Exception) -> None:
        if not request.done.done():
            request.done.set_exception(error)
        self._forget(request)  # the rest of a long request

    def _forget(self, request: _Waiting) -> None:
        """Take what still waits of a request out of the queue."""
        client = self._clients.get(request.client)
        if client is not None and request in client.requests:
            client.forget(request)
            self._leave(request.client)


def _text(row: Mapping[str, Any]) -> str:
    return str(row.get("text") or "")
