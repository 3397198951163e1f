"""The workers that decode images, and the threads that hand them one picture after the other."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from mismatch.errors import ImageError, ImageRefusedError, MachineError, MismatchError
from mismatch.runtime.lanes import OVERBOOKED, DecodingTurns, Job, Lane, Pixels
from mismatch.runtime.nursery import Nursery, closed

__all__ = ["Crew"]

STALLED = 60.0  # seconds that a worker may take, however little of them it computes
LOOK = 0.25  # seconds, after which it is looked whether anybody waits still
JOBS = 5_000  # pictures; then a fresh worker takes the place
MAX_ANSWER = 2**20  # bytes, without the pixels
NICENESS = 0  # a usual worker's
NICE_YIELDING = 15  # that of a worker whose pictures yield
TRIES = 2  # a picture whose worker has died gets so many
# signals that end a process for what it does itself
FAULTS = {
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP")
    if hasattr(signal, name)
}


class _Cause(Enum):
    """Why a worker ended with its picture undone."""

    OVERTIME = "the picture took longer than it may"
    FAULT = "the picture brought it down"
    ACCIDENT = "it was killed from outside, or memory is short"


class _EndedError(Exception):
    """A worker ended with its picture undone."""

    def __init__(self, cause: _Cause, error: Exception | None = None) -> None:
        """Note why a worker has ended. `error`: of ours, by which that was noticed."""
        super().__init__(cause.value)
        self.cause = cause
        self.error = error


class _Worker:
    """One process, and the connection to it."""

    def __init__(self, nursery: Nursery, niceness: int, memory: int) -> None:
        """Start a worker. `memory`: bytes that a picture may take."""
        self._nursery = nursery
        self._connection: Connection
        self._connection, self._process = nursery.fork(niceness, memory)
        self._is_open = True
        self.niceness = niceness
        self.jobs = 0

    def decode(self, job: Job) -> Pixels:
        """Return the picture (H, W, 3). ImageError where it can't be decoded, _EndedError where the
        worker has ended.
        """
        self.jobs += 1
        header = job.header | {"seconds": job.lane.seconds_of(job)}
        max_bytes = 3 * job.header["max_pixels"] + 1
        try:
            self._connection.send_bytes(json.dumps(header).encode())
            self._connection.send_bytes(job.data)
            self._await(job)
            answer = json.loads(self._connection.recv_bytes(MAX_ANSWER))
            pixels = self._connection.recv_bytes(max_bytes) if "size" in answer else b""
        except (OSError, EOFError):
            raise _EndedError(_cause(self.close())) from None
        return _answered(job.name, answer, pixels)

    def _await(self, job: Job) -> None:
        """Wait for the answer, as long as anybody waits for the picture."""
        until = time.monotonic() + STALLED
        while not self._connection.poll(LOOK):
            if job.is_abandoned or time.monotonic() > until:
                raise _EndedError(_Cause.ACCIDENT)

    def close(self) -> int | None:
        """End the process; return how it had ended, as waitpid tells, None where nobody knows."""
        if not self._is_open:
            return None
        self._is_open = False
        self._connection.close()
        return self._nursery.end(self._process)


def _cause(status: int | None) -> _Cause:
    """Return why a worker ended by itself."""
    if status is None:
        return _Cause.ACCIDENT
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return _Cause.FAULT
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if ended_by == signal.SIGPROF:
        return _Cause.OVERTIME
    return _Cause.FAULT if ended_by in FAULTS else _Cause.ACCIDENT


def _answered(name: str, answer: dict[str, Any], data: bytes) -> Pixels:
    """Return the picture that a worker answered with, or raise what it said: ImageError,
    _EndedError.
    """
    if "refused" in answer:
        raise ImageRefusedError(str(answer["refused"]))
    if "damaged" in answer:
        raise ImageError(str(answer["damaged"]))
    if "short" in answer:
        raise _EndedError(_Cause.ACCIDENT)
    if "memory" in answer:
        raise ImageError(
            f"{name} takes more memory to decode than its pixels explain; save it again, or drop"
            " the row"
        )
    width, height = answer["size"]
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


class Crew:
    """Threads that each hand a worker one picture after the other; they start where there are
    pictures for them.
    """

    def __init__(
        self, nursery: Nursery, workers: int, lanes: Sequence[Lane], *, memory: int
    ) -> None:
        """Make a crew. `workers`: CPUs to use; `lanes`: the first ones go first; `memory`: bytes
        that a picture may take.
        """
        self._nursery = nursery
        self._memory = memory
        self._turns = DecodingTurns(workers, lanes)
        self._max_threads = OVERBOOKED * sum(lane.room for lane in lanes)
        self._max_idle = workers
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # niceness → workers; the one that had a picture last is the next one
        self._idle: dict[int, list[_Worker]] = {NICENESS: [], NICE_YIELDING: []}

    def submit(self, job: Job) -> None:
        """Let a picture wait for its turn."""
        self._turns.put(job)
        with self._lock:
            count = len(self._threads)
            if count < self._max_threads and count < self._turns.pictures:
                self._start_thread(job)

    def _start_thread(self, job: Job) -> None:
        """Start one more thread; where none can be had, those that there are do the work."""
        thread = threading.Thread(target=self._run, name="mismatch-decoding", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                job.fail(_undone(job.name, error))
            return
        self._threads.append(thread)

    def close(self) -> None:
        """Give up what waits, and take nothing more."""
        for job in self._turns.close():
            job.fail(closed())

    def join(self) -> None:
        """Wait for the threads, which end once the nursery has ended their workers."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        for workers in self._idle.values():
            for worker in workers:
                _end(worker)

    def _run(self) -> None:
        while (job := self._turns.get()) is not None:
            ended = self._decode(job)
            self._turns.done(job)
            if ended is not None and not job.is_abandoned:
                self._go_on(job, ended)

    def _decode(self, job: Job) -> _EndedError | None:
        """Decode one picture; return why its worker has ended, None where it has not."""
        # the caller that waits has to hear of it, whatever goes wrong, and the next picture must
        # not suffer
        try:
            worker = self._take_worker(job)
        except Exception as error:  # noqa: BLE001
            return _EndedError(_Cause.ACCIDENT, error)
        try:
            job.finish(worker.decode(job))
        except ImageError as error:
            job.fail(error)
        except _EndedError as error:
            _end(worker)
            return error
        except Exception as error:  # noqa: BLE001
            _end(worker)
            return _EndedError(_Cause.ACCIDENT, error)
        self._put_back(worker)
        return None

    def _take_worker(self, job: Job) -> _Worker:
        """Return an idle worker, or a new one: always for a picture whose last worker has died."""
        niceness = NICE_YIELDING if job.yields else NICENESS
        if not job.faults and not job.accidents:
            with self._lock:
                if self._idle[niceness]:
                    return self._idle[niceness].pop()
        return _Worker(self._nursery, niceness, self._memory)

    def _put_back(self, worker: _Worker) -> None:
        if worker.jobs < JOBS:
            with self._lock:
                idle = self._idle[worker.niceness]
                if len(idle) < self._max_idle:
                    idle.append(worker)
                    return
        _end(worker)

    def _go_on(self, job: Job, ended: _EndedError) -> None:
        """Do with a picture whose worker has ended what is left to do."""
        if ended.cause is _Cause.OVERTIME:
            self._pass_on(job)
        elif ended.cause is _Cause.FAULT:
            job.faults += 1
            self._try_again(job, job.faults, _deadly(job.name))
        else:
            job.accidents += 1
            self._try_again(job, job.accidents, _undone(job.name, ended.error))

    def _pass_on(self, job: Job) -> None:
        if job.lane.slower is not None:
            job.lane = job.lane.slower
            self._turns.put(job)
            return
        seconds = job.lane.seconds_of(job)
        job.fail(
            ImageError(
                f"{job.name} takes more than {seconds:g} seconds of processor time to decode; save"
                " it again, or drop the row"
            )
        )

    def _try_again(self, job: Job, tries: int, error: MismatchError) -> None:
        if tries < TRIES:
            self._turns.put(job)
        else:
            job.fail(error)


def _deadly(name: str) -> ImageError:
    return ImageError(
        f"{name} ended the process that decoded it: it is damaged; replace the file or drop the row"
    )


def _undone(name: str, error: Exception | None) -> MachineError:
    if isinstance(error, MachineError):
        return error
    if error is not None:
        return MachineError(f"an image could not be handed to a worker: {error}")
    return MachineError(
        f"{name} was not decoded: the processes that do it are being killed, or memory is short;"
        " free some, then try again"
    )


def _end(worker: _Worker) -> None:
    with suppress(MachineError, OSError):
        worker.close()
