"""How pictures wait to be decoded: lanes by what they may cost, and in each of them turns by client
and by request.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.runtime.nursery import closed

__all__ = ["OVERBOOKED", "DecodingTurns", "Job", "Lane", "Pixels"]

MEGABYTE = 2**20  # bytes
OVERBOOKED = 2  # times its room, up to which a lane takes clients that have nothing there yet

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Lane:
    """Pictures of like cost."""

    name: str
    seconds: float  # processor time for each
    room: int  # pictures that are decoded at once
    seconds_for_megabyte: float = 0.0  # processor time on top, for each megabyte of the file
    is_fast: bool = True  # whether pictures begin here
    slower: Lane | None = None  # where a picture goes that takes longer

    def seconds_of(self, job: Job) -> float:
        """Return the seconds of processor time that one picture may take."""
        return self.seconds + self.seconds_for_megabyte * len(job.data) / MEGABYTE


@dataclass(eq=False)
class Job:
    """One picture that is wanted. Cancelling its result drops it, also where it
    is being decoded.
    """

    header: dict[str, Any]  # as decode_worker.py reads it
    data: bytes
    lane: Lane
    client: Hashable = None
    request: Hashable = None
    faults: int = 0  # workers that died of it
    accidents: int = 0  # workers that ended, or could not begin, by no fault of it
    yields: bool = False  # whether its worker leaves the CPU to others
    result: Future[Pixels] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.result.add_done_callback(self._drop_data)

    def _drop_data(self, _result: Future[Pixels]) -> None:
        self.data = b""

    @property
    def name(self) -> str:
        """Return the picture's name in messages."""
        return str(self.header["name"])

    @property
    def is_abandoned(self) -> bool:
        """Return whether nobody waits for it any more."""
        return self.result.cancelled()

    def finish(self, pixels: Pixels) -> None:
        """Give the picture (H, W, 3) to the caller that waits."""
        with suppress(InvalidStateError):
            self.result.set_result(pixels)

    def fail(self, error: Exception) -> None:
        """Raise an error where somebody waits."""
        with suppress(InvalidStateError):
            self.result.set_exception(error)


class _Queue:
    """What waits in one lane: each client has its turn, and each request of a client."""

    def __init__(self) -> None:
        self.clients: OrderedDict[Hashable, OrderedDict[Hashable, deque[Job]]] = OrderedDict()

    def put(self, job: Job) -> None:
        """Add a job behind those of its request."""
        requests = self.clients.setdefault(job.client, OrderedDict())
        requests.setdefault(job.request, deque()).append(job)

    def take(self, client: Hashable) -> Job:
        """Return the next job of a client; both it and the request go behind the others then."""
        requests = self.clients.pop(client)
        request, jobs = requests.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            requests[request] = jobs
        if requests:
            self.clients[client] = requests
        return job

    def clear(self) -> list[Job]:
        """Drop all jobs and return them."""
        waiting = [
            job for requests in self.clients.values() for jobs in requests.values() for job in jobs
        ]
        self.clients.clear()
        return waiting


@dataclass(eq=False)
class _Client:
    """What one client has here."""

    pictures: Counter[Lane] = field(default_factory=Counter)  # those that wait or are decoded
    decoding: Counter[Lane] = field(default_factory=Counter)  # those that are decoded

    def count_decoding(self, *, fast: bool) -> int:
        """Count the pictures being decoded, of all fast lanes, or of all others."""
        return sum(count for lane, count in self.decoding.items() if lane.is_fast == fast)

    @property
    def has_costly_pictures(self) -> bool:
        """Return whether a picture of it took longer than a moment, and is still there."""
        return any(count for lane, count in self.pictures.items() if not lane.is_fast)


class DecodingTurns:
    """Which picture is decoded next. Thread-safe.

    All CPUs are one client's while it is alone. Next to others it has its share of them, twice: for
    pictures that begin, and for those that turned out costly. A client that has nothing in a lane
    yet does not wait there for pictures of others to end: the system divides the CPUs among all
    workers, and those of a client that sends many costly pictures yield to all else.
    """

    def __init__(self, workers: int, lanes: Sequence[Lane]) -> None:
        """Share CPUs among clients. `workers`: CPUs to share; `lanes`: the first ones go first."""
        self._workers = workers
        self._queues = {lane: _Queue() for lane in lanes}
        self._clients: dict[Hashable, _Client] = {}  # those of which a picture is there
        self._decoding = Counter[Lane]()  # pictures of all clients
        self._changed = threading.Condition()
        self._closed = False

    @property
    def pictures(self) -> int:
        """Return how many pictures wait or are decoded."""
        with self._changed:
            return sum(client.pictures.total() for client in self._clients.values())

    def put(self, job: Job) -> None:
        """Add a job behind those of its request."""
        with self._changed:
            if self._closed:
                job.fail(closed())
                return
            self._queues[job.lane].put(job)
            self._clients.setdefault(job.client, _Client()).pictures[job.lane] += 1
            self._changed.notify()

    def get(self) -> Job | None:
        """Wait for the next job, whose end `done` has to hear of; None once it is closed."""
        with self._changed:
            while not self._closed:
                job = self._next()
                if job is not None:
                    self._changed.notify()  # there may be room for another one
                    return job
                self._changed.wait()
        return None

    def done(self, job: Job) -> None:
        """Take note that a job is not decoded any more, whatever came of it. Before its lane is
        another one.
        """
        with self._changed:
            self._clients[job.client].decoding[job.lane] -= 1
            self._decoding[job.lane] -= 1
            self._drop(job)
            self._changed.notify()

    def close(self) -> list[Job]:
        """Let every `get` end; return the jobs that are left."""
        with self._changed:
            self._closed = True
            left = [job for queue in self._queues.values() for job in queue.clear()]
            self._changed.notify_all()
            return left

    def _next(self) -> Job | None:
        for lane, queue in self._queues.items():
            for client in list(queue.clients):
                while client in queue.clients and self._may_begin(self._clients[client], lane):
                    job = queue.take(client)
                    if not job.is_abandoned:
                        self._begin(job)
                        return job
                    self._drop(job)
        return None

    def _begin(self, job: Job) -> None:
        client = self._clients[job.client]
        client.decoding[job.lane] += 1
        self._decoding[job.lane] += 1
        # else one that sends many costly pictures takes most of the CPUs from one that sends a few
        job.yields = client.has_costly_pictures and client.pictures.total() > self._workers

    def _may_begin(self, client: _Client, lane: Lane) -> bool:
        """Return whether one more picture of a client may be decoded."""
        decoding = self._decoding[lane]
        is_new = not client.decoding[lane]
        if decoding >= lane.room and not (is_new and decoding < OVERBOOKED * lane.room):
            return False
        if self._decoding.total() < self._workers:
            return True
        # two of one that is alone, so that a picture of the last lane holds up none of the slow one
        min_share = 2 if len(self._clients) == 1 else 1
        share = max(min_share, self._workers // len(self._clients))
        return client.count_decoding(fast=lane.is_fast) < share

    def _drop(self, job: Job) -> None:
        """Note that a picture is gone from its lane."""
        pictures = self._clients[job.client].pictures
        pictures[job.lane] -= 1
        if not pictures.total():
            del self._clients[job.client]
