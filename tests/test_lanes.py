"""mismatch.runtime.lanes: whose turn it is, what becomes of pictures that nobody waits for, and how
long each may take.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
from PIL import Image

from benchmarks import hostile_pictures as hostile
from mismatch.errors import ImageError, MachineError
from mismatch.runtime import lanes
from mismatch.runtime.lanes import Job, Lane, Limits, Turns
from mismatch.runtime.nursery import Nursery

HEADER = {
    "name": "image 'a'",
    "spec": None,
    "background": (0, 0, 0),
    "formats": [],
    "max_pixels": 50_000_000,
}


def picture(size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


def taken(turns: Turns, count: int) -> list[bytes]:
    return [job.data for _ in range(count) if (job := turns.get()) is not None]


def test_each_client_has_its_turn_and_each_of_its_requests() -> None:
    turns = Turns()
    for number in range(4):
        turns.put(Job({}, b"large %d" % number, "a", 1))
    turns.put(Job({}, b"a's other", "a", 2))
    turns.put(Job({}, b"b's", "b", 1))
    assert taken(turns, 6) == [b"large 0", b"b's", b"a's other", b"large 1", b"large 2", b"large 3"]


def test_whoever_comes_later_does_not_wait_for_all_that_one_has_sent() -> None:
    turns = Turns()
    for number in range(3):
        turns.put(Job({}, b"a%d" % number, "a", number))
    assert taken(turns, 1) == [b"a0"]
    turns.put(Job({}, b"b0", "b", 0))
    assert taken(turns, 3) == [b"a1", b"b0", b"a2"]


def test_closing_ends_those_who_wait_and_gives_back_what_is_left() -> None:
    turns = Turns()
    ended = threading.Thread(target=turns.get)
    ended.start()
    left = Job({}, b"", "a", 1)
    assert turns.close() == []
    ended.join(10)
    assert not ended.is_alive()
    turns.put(left)
    with pytest.raises(MachineError, match="being ended"):
        left.result.result()


def test_a_job_that_is_given_up_holds_no_bytes() -> None:
    job = Job({}, b"many", "a", 1)
    assert job.result.cancel()
    assert (job.data, job.is_abandoned) == (b"", True)
    job.finish(None)  # type: ignore[arg-type]  # comes too late, and is no error
    job.fail(ValueError())
    with pytest.raises(CancelledError):
        job.result.result()


def test_a_large_file_may_take_longer() -> None:
    limits = Limits(0.1, 0, seconds_for_megabyte=0.06)
    assert limits.seconds_of(Job({}, bytes(10 * 2**20))) == pytest.approx(0.7)


def test_a_picture_that_takes_longer_goes_on_to_the_slower_lane(nursery: Nursery) -> None:
    slow = Lane(nursery, 1, Limits(0.2, 0, niceness=1))
    fast = Lane(nursery, 1, Limits(0.05, 0), slow)
    costly, cheap, broken = (
        Job(HEADER, hostile.jpeg_of_scans(7_000, 64)),
        Job(HEADER, picture()),
        Job(HEADER, picture()[:50]),
    )
    for job in (costly, cheap, broken):
        fast.waiting.put(job)
    assert cheap.result.result().shape == (8, 8, 3)
    with pytest.raises(ImageError, match="damaged or cut short"):
        broken.result.result()
    with pytest.raises(
        ImageError, match=r"image 'a' takes more than 0\.2 seconds of processor time"
    ):
        costly.result.result()
    assert costly.data == b"", "nothing is kept of what is done"
    for lane in (fast, slow):
        lane.close()
    nursery.close()
    for lane in (fast, slow):
        lane.join()


def test_one_that_is_given_up_while_it_is_decoded_frees_its_worker(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LOOK", 0.01)
    lane = Lane(nursery, 1, Limits(600.0, 0))
    endless = [
        Job(HEADER, hostile.jpeg_of_scans(7_000, 64) + bytes([number]), request=number)
        for number in range(50)
    ]
    for job in endless:
        lane.waiting.put(job)
    for job in endless:
        job.result.cancel()
    last = Job(HEADER, picture())
    lane.waiting.put(last)
    assert last.result.result(30).shape == (8, 8, 3)
    lane.close()
    nursery.close()
    lane.join()


def test_a_worker_is_replaced_after_many_pictures(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "JOBS", 2)
    forks = []
    real = nursery.fork
    monkeypatch.setattr(nursery, "fork", lambda *args: (forks.append(1), real(*args))[1])
    lane = Lane(nursery, 1, Limits(1.0, 0))
    for _ in range(5):
        job = Job(HEADER, picture())
        lane.waiting.put(job)
        job.result.result()
    assert len(forks) == 3
    lane.close()
    nursery.close()
    lane.join()
