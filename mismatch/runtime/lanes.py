"""How pictures wait for the processes that decode them: turns by client and by request, and lanes
of workers, each with bounds of its own.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import ImageError, ImageRefusedError, MachineError, MismatchError
from mismatch.runtime.nursery import Nursery, closed

__all__ = ["Job", "Lane", "Limits", "Pixels", "Turns"]

STALLED = 60.0  # seconds that a worker may take, however little of them it computes
LOOK = 0.25  # seconds, after which it is looked whether anybody waits still
JOBS = 5_000  # pictures of a worker, after which a fresh one takes its place
MEGABYTE = 2**20

Pixels = NDArray[np.uint8]


@dataclass(eq=False)
class Job:
    """One picture that is wanted. Cancelling its result drops it, also where it
    is being decoded.
    """

    header: dict[str, Any]  # as decode_worker.py reads it
    data: bytes
    client: Hashable = None
    request: Hashable = None
    result: Future[Pixels] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.result.add_done_callback(self._drop_data)

    def _drop_data(self, _result: Future[Pixels]) -> None:
        self.data = b""

    @property
    def name(self) -> str:
        """Of the picture, in messages."""
        return str(self.header["name"])

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.result.cancelled()

    def finish(self, pixels: Pixels) -> None:
        """Give the picture (H, W, 3) to whoever waits."""
        with suppress(InvalidStateError):
            self.result.set_result(pixels)

    def fail(self, error: Exception) -> None:
        """Raise an error where somebody waits."""
        with suppress(InvalidStateError):
            self.result.set_exception(error)


class Turns:
    """A queue in which each client has its turn, and each request of a client. Thread-safe."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, OrderedDict[Hashable, deque[Job]]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: Job) -> None:
        """Add a job behind those of its request."""
        with self._changed:
            if self._closed:
                job.fail(closed())
                return
            requests = self._clients.setdefault(job.client, OrderedDict())
            requests.setdefault(job.request, deque()).append(job)
            self._changed.notify()

    def get(self) -> Job | None:
        """Wait for the next job; None once it is closed."""
        with self._changed:
            while not self._clients and not self._closed:
                self._changed.wait()
            return None if self._closed else self._take()

    def _take(self) -> Job:
        """The first client's first request has its turn; both go behind the others then."""
        client, requests = self._clients.popitem(last=False)
        request, jobs = requests.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            requests[request] = jobs
        if requests:
            self._clients[client] = requests
        return job

    def close(self) -> list[Job]:
        """Let every `get` end; return the jobs that are left."""
        with self._changed:
            self._closed = True
            left = [
                job
                for requests in self._clients.values()
                for jobs in requests.values()
                for job in jobs
            ]
            self._clients.clear()
            self._changed.notify_all()
            return left


@dataclass(frozen=True)
class Limits:
    """What a lane's worker may take for one picture."""

    seconds: float  # of processor time
    memory: int  # bytes beyond what it has when it begins
    seconds_for_megabyte: float = 0.0  # of processor time, for each megabyte of the file
    niceness: int = 0

    def seconds_of(self, job: Job) -> float:
        """Processor time that one picture may take."""
        return self.seconds + self.seconds_for_megabyte * len(job.data) / MEGABYTE


class _EndedError(Exception):
    """A worker ended with its picture undone."""

    def __init__(self, *, overtime: bool) -> None:
        super().__init__()
        self.overtime = overtime  # rather than by a fault


class _Worker:
    """One process, and the connection to it."""

    def __init__(self, nursery: Nursery, limits: Limits) -> None:
        self._nursery = nursery
        self._limits = limits
        self._connection: Connection
        self._connection, self._process_id = nursery.fork(limits.niceness, limits.memory)
        self._ended_by: int | None = None  # signal, 0 if none; None while it runs
        self.jobs = 0

    def decode(self, job: Job) -> Pixels:
        """The picture (H, W, 3); ImageError where it can't be decoded, _EndedError where the worker
        has ended.
        """
        self.jobs += 1
        header = job.header | {"seconds": self._limits.seconds_of(job)}
        most = 3 * job.header["max_pixels"] + 1
        try:
            self._connection.send_bytes(json.dumps(header).encode())
            self._connection.send_bytes(job.data)
            self._await(job)
            answer = json.loads(self._connection.recv_bytes(MEGABYTE))
            pixels = self._connection.recv_bytes(most) if "size" in answer else b""
        except (OSError, EOFError):
            raise _EndedError(overtime=self.close() == signal.SIGPROF) from None
        return _answered(job.name, answer, pixels)

    def _await(self, job: Job) -> None:
        """Wait for the answer, as long as anybody waits for the picture."""
        until = time.monotonic() + STALLED
        while not self._connection.poll(LOOK):
            if job.is_abandoned or time.monotonic() > until:
                raise _EndedError(overtime=True)

    def close(self) -> int:
        """End the process; the signal by which it had ended, 0 if by none."""
        if self._ended_by is None:
            self._connection.close()
            status = self._nursery.end(self._process_id)
            self._ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return self._ended_by


def _answered(name: str, answer: dict[str, Any], data: bytes) -> Pixels:
    """What a worker said, as a picture or an ImageError."""
    if "refused" in answer:
        raise ImageRefusedError(str(answer["refused"]))
    if "damaged" in answer:
        raise ImageError(str(answer["damaged"]))
    if "memory" in answer:
        raise ImageError(
            f"{name} takes more memory to decode than its pixels explain; save it anew, or drop"
            " the row"
        )
    width, height = answer["size"]
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


class Lane:
    """Threads that each hand a worker one picture after the other."""

    def __init__(
        self, nursery: Nursery, workers: int, limits: Limits, slower: Lane | None = None
    ) -> None:
        """`slower`: where a picture goes that takes longer."""
        self.waiting = Turns()
        self._nursery = nursery
        self._limits = limits
        self._slower = slower
        self._threads = [
            threading.Thread(target=self._run, name="mismatch-decoding", daemon=True)
            for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Give up what waits, and take nothing more."""
        for job in self.waiting.close():
            job.fail(closed())

    def join(self) -> None:
        """Wait for its threads, which end with their workers."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        worker = None
        while (job := self.waiting.get()) is not None:
            if not job.is_abandoned:
                worker = self._decode(job, worker)
        _end(worker)

    def _decode(self, job: Job, worker: _Worker | None) -> _Worker | None:
        """Decode one picture; the worker for the next one, None where it has ended."""
        try:
            worker = worker or _Worker(self._nursery, self._limits)
            job.finish(worker.decode(job))
        except ImageError as error:
            job.fail(error)
        except _EndedError as error:
            _end(worker)
            self._pass_on(job, error)
            return None
        # whoever waits has to hear of it, and the next picture must not suffer
        except Exception as error:  # noqa: BLE001
            _end(worker)
            job.fail(
                error
                if isinstance(error, MismatchError)
                else MachineError(f"an image could not be handed to a worker: {error}")
            )
            return None
        if worker is None or worker.jobs < JOBS:
            return worker
        _end(worker)
        return None

    def _pass_on(self, job: Job, error: _EndedError) -> None:
        """Do with a picture whose worker has ended what is left to do."""
        if job.is_abandoned:
            return
        if not error.overtime:
            job.fail(
                ImageError(
                    f"{job.name} ended the process that decoded it: it is damaged; replace the file"
                    " or drop the row"
                )
            )
        elif self._slower is not None:
            self._slower.waiting.put(job)
        else:
            seconds = self._limits.seconds_of(job)
            job.fail(
                ImageError(
                    f"{job.name} takes more than {seconds:g} seconds of processor time to decode;"
                    " save it anew, or drop the row"
                )
            )


def _end(worker: _Worker | None) -> None:
    if worker is not None:
        with suppress(MachineError, OSError):
            worker.close()
