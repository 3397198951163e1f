"""mismatch.runtime.crew: what becomes of a picture whose worker ends, and of those that nobody waits
for.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from benchmarks import hostile_pictures as hostile
from mismatch.errors import ImageError, MachineError
from mismatch.runtime import crew as module
from mismatch.runtime.crew import Crew
from mismatch.runtime.lanes import Job, Lane
from mismatch.runtime.nursery import Nursery, WorkerId

HEADER: dict[str, Any] = {
    "name": "image 'a'",
    "spec": None,
    "background": (0, 0, 0),
    "formats": [],
    "max_pixels": 50_000_000,
}
SLOW = Lane("slow", 0.2, 1, is_fast=False)
FAST = Lane("fast", 0.05, 1, slower=SLOW)
ENDLESS = Lane("endless", 600.0, 1)
LANES = (FAST, ENDLESS, SLOW)


def picture(size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture
def crew(nursery: Nursery) -> Iterator[Crew]:
    found = Crew(nursery, 1, LANES, memory=0)
    yield found
    found.close()
    nursery.close()
    found.join()


def decode(crew: Crew, data: bytes, lane: Lane = ENDLESS) -> Job:
    job = Job(HEADER, data, lane)
    crew.submit(job)
    return job


@pytest.fixture
def forks(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> list[WorkerId]:
    """The workers so far."""
    found = []
    real = nursery.fork

    def fork(niceness: int, memory: int) -> Any:
        connection, worker = real(niceness, memory)
        found.append(worker)
        return connection, worker

    monkeypatch.setattr(nursery, "fork", fork)
    return found


@pytest.fixture
def strike(
    crew: Crew, forks: list[WorkerId], monkeypatch: pytest.MonkeyPatch
) -> Callable[[int, Callable[[WorkerId], object]], None]:
    """Have something done to each of the next workers as it gets its picture."""

    def strike(times: int, act: Callable[[WorkerId], object]) -> None:
        real = module._Worker.decode
        left = [act] * times

        def struck(self: Any, job: Job) -> Any:
            if left:
                left.pop()(self._process)
            return real(self, job)

        monkeypatch.setattr(module._Worker, "decode", struck)

    return strike


def kill(by: int) -> Callable[[WorkerId], None]:
    return lambda worker: os.kill(worker.process_id, by)


def test_a_picture_that_takes_longer_goes_on_to_the_slower_lane(crew: Crew) -> None:
    costly = decode(crew, hostile.jpeg_of_scans(7_000, 64), FAST)
    cheap = decode(crew, picture())
    broken = decode(crew, picture()[:50])
    assert cheap.result.result().shape == (8, 8, 3)
    with pytest.raises(ImageError, match="damaged or cut short"):
        broken.result.result()
    with pytest.raises(
        ImageError, match=r"image 'a' takes more than 0\.2 seconds of processor time"
    ):
        costly.result.result()
    assert costly.data == b"", "nothing is kept of what is done"


def test_one_that_is_given_up_while_it_is_decoded_frees_its_worker(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    data = hostile.jpeg_of_scans(7_000, 64)
    endless = [decode(crew, data + bytes([number])) for number in range(50)]
    for job in endless:
        job.result.cancel()
    last = decode(crew, picture())
    assert last.result.result(30).shape == (8, 8, 3)


def test_a_worker_is_replaced_after_many_pictures(
    crew: Crew, forks: list[WorkerId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOBS", 2)
    for _ in range(5):
        decode(crew, picture()).result.result()
    assert len(forks) == 3


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_worker_that_dies_once_costs_its_picture_nothing(
    crew: Crew, strike: Any, by: signal.Signals
) -> None:
    strike(1, kill(by))
    assert decode(crew, picture()).result.result(30).shape == (8, 8, 3)


def test_workers_that_are_killed_from_outside_are_the_machines_failure(
    crew: Crew, strike: Any
) -> None:
    strike(2, kill(signal.SIGKILL))
    with pytest.raises(MachineError, match=r"image 'a' was not decoded: .*killed"):
        decode(crew, picture()).result.result(30)
    assert decode(crew, picture()).result.result(30).shape == (8, 8, 3)


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT])
def test_a_picture_that_brings_down_two_workers_is_damaged(
    crew: Crew, strike: Any, by: signal.Signals
) -> None:
    strike(2, kill(by))
    with pytest.raises(ImageError, match="image 'a' ended the process that decoded it"):
        decode(crew, picture()).result.result(30)
    assert decode(crew, picture()).result.result(30).shape == (8, 8, 3)


def test_a_nursery_that_is_killed_costs_no_picture_anything(
    crew: Crew, forks: list[WorkerId], strike: Any
) -> None:
    def end_nursery(worker: WorkerId) -> None:
        os.kill(worker.nursery, signal.SIGKILL)

    strike(1, end_nursery)
    costly = decode(crew, hostile.jpeg_of_scans(3_000, 16))
    assert costly.result.result(60).shape == (3_000, 3_000, 3)
    assert forks[0].nursery != forks[1].nursery


def test_overtime_is_known_after_a_nursery_was_killed(crew: Crew, strike: Any) -> None:
    strike(1, lambda worker: os.kill(worker.nursery, signal.SIGKILL))
    with pytest.raises(ImageError, match=r"more than 0\.2 seconds"):
        decode(crew, hostile.jpeg_of_scans(7_000, 64), FAST).result.result(60)


def test_threads_that_cannot_be_had_are_the_machines_failure(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", start)
        with pytest.raises(MachineError, match="can't start new thread"):
            decode(crew, picture()).result.result(1)
    assert decode(crew, picture()).result.result(30).shape == (8, 8, 3)


@pytest.mark.parametrize("times", [1, 2])
def test_a_fork_that_fails_is_tried_once_more(
    crew: Crew, nursery: Nursery, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    real = nursery.fork
    left = [1] * times

    def fork(niceness: int, memory: int) -> Any:
        if left:
            left.pop()
            raise MachineError("no process can be had")
        return real(niceness, memory)

    monkeypatch.setattr(nursery, "fork", fork)
    job = decode(crew, picture())
    if times == 1:
        assert job.result.result(30).shape == (8, 8, 3)
    else:
        with pytest.raises(MachineError, match="no process can be had"):
            job.result.result(30)


@pytest.mark.parametrize(
    ("answer", "kind"), [({"short": True}, MachineError), ({"memory": True}, ImageError)]
)
def test_only_its_own_thirst_for_memory_is_a_pictures_fault(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, answer: dict[str, bool], kind: type[Exception]
) -> None:
    real = module._answered
    monkeypatch.setattr(module, "_answered", lambda name, _answer, data: real(name, answer, data))
    with pytest.raises(kind) as raised:
        decode(crew, picture()).result.result(30)
    assert type(raised.value) is kind


def test_costly_pictures_of_one_who_sends_many_yield(
    crew: Crew, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    niceness = []
    real = nursery.fork

    def fork(nice: int, memory: int) -> Any:
        niceness.append(nice)
        return real(nice, memory)

    monkeypatch.setattr(nursery, "fork", fork)
    jobs = [decode(crew, hostile.jpeg_of_scans(7_000, 64), FAST) for _ in range(3)]
    for job in jobs:
        with pytest.raises(ImageError, match="processor time"):
            job.result.result(60)
    assert set(niceness) == {module.NICENESS, module.NICE_YIELDING}
    assert niceness[0] == module.NICENESS, "it begins as all others do"
