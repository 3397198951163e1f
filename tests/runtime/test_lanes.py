"""mismatch.runtime.lanes: whose turn it is, and how many pictures of whom are decoded at once."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from mismatch.errors import MachineError
from mismatch.runtime.lanes import DecodingTurns, Job, Lane

WORKERS = 2
LAST = Lane("last", 10.0, 1, is_fast=False)
SLOW = Lane("slow", 2.0, WORKERS, is_fast=False, slower=LAST)
FAST = Lane("fast", 0.1, WORKERS, slower=SLOW)


def new_turns(workers: int = WORKERS) -> DecodingTurns:
    return DecodingTurns(workers, (FAST, SLOW, LAST))


def a_job(data: bytes, client: str = "a", request: int = 1, lane: Lane = FAST) -> Job:
    return Job({}, data, lane, client, request)


def taken(turns: DecodingTurns, count: int) -> list[bytes]:
    """The next pictures, each of which ends before the next one begins."""
    found = []
    for _ in range(count):
        job = turns.get()
        assert job is not None
        found.append(job.data)
        turns.done(job)
    return found


def begun(turns: DecodingTurns) -> list[Job]:
    """Every picture that need not wait for another one to end."""
    found = []
    while (job := turns._next()) is not None:
        found.append(job)
    return found


def test_each_client_has_its_turn_and_each_of_its_requests() -> None:
    turns = new_turns()
    for number in range(4):
        turns.put(a_job(b"large %d" % number))
    turns.put(a_job(b"a's other", request=2))
    turns.put(a_job(b"b's", "b"))
    assert taken(turns, 6) == [b"large 0", b"b's", b"a's other", b"large 1", b"large 2", b"large 3"]
    assert turns.pictures == 0


def test_whoever_comes_later_does_not_wait_for_all_that_one_has_sent() -> None:
    turns = new_turns()
    for number in range(3):
        turns.put(a_job(b"a%d" % number, request=number))
    assert taken(turns, 1) == [b"a0"]
    turns.put(a_job(b"b0", "b"))
    assert taken(turns, 3) == [b"a1", b"b0", b"a2"]


def test_a_client_that_is_alone_has_all_cpus() -> None:
    turns = new_turns()
    for number in range(9):
        turns.put(a_job(b"%d" % number, lane=SLOW))
    assert len(begun(turns)) == WORKERS


def test_one_who_sends_many_costly_pictures_keeps_no_other_waiting() -> None:
    turns = new_turns()
    for number in range(30):
        turns.put(a_job(b"%d" % number, "many", number, SLOW))
    many = begun(turns)
    turns.put(a_job(b"another first try", "many"))
    [another] = begun(turns)
    assert another.yields, "its costly pictures count"
    turns.done(another)
    turns.put(a_job(b"first try", "few"))
    [first] = begun(turns)
    assert first.data == b"first try"
    turns.done(first)
    first.lane = SLOW
    turns.put(first)
    assert begun(turns) == [first]
    assert all(job.yields for job in many)
    assert not first.yields
    turns.done(many[0])
    assert begun(turns) == [], "each has one of the two CPUs"
    turns.done(first)
    assert len(begun(turns)) == 1, "alone again, it has both"


def test_costly_pictures_keep_none_of_the_same_client_from_beginning() -> None:
    for workers in (1, 2):
        turns = new_turns(workers)
        for number in range(9):
            turns.put(a_job(b"", request=number, lane=LAST))
        assert len(begun(turns)) == 1
        turns.put(a_job(b"middling", lane=SLOW))
        turns.put(a_job(b"small"))
        assert [job.data for job in begun(turns)] == [b"small", b"middling"]


def test_a_lane_is_overbooked_no_further_than_twice() -> None:
    turns = new_turns()
    for number in range(30):
        turns.put(a_job(b"", str(number), lane=SLOW))
    first = begun(turns)
    assert len(first) == 2 * WORKERS
    turns.done(first[0])
    turns.done(first[1])
    assert len(begun(turns)) == 2


def test_what_is_given_up_is_passed_over() -> None:
    turns = new_turns()
    jobs = [a_job(b"%d" % number, str(number)) for number in range(5)]
    for job in jobs:
        turns.put(job)
    for job in jobs[:4]:
        job.result.cancel()
    assert taken(turns, 1) == [b"4"]
    assert turns.pictures == 0


def test_closing_ends_those_who_wait_and_gives_back_what_is_left() -> None:
    turns = new_turns()
    ended = threading.Thread(target=turns.get)
    ended.start()
    late = a_job(b"")
    assert turns.close() == []
    ended.join(10)
    assert not ended.is_alive()
    turns.put(late)
    with pytest.raises(MachineError, match="being ended"):
        late.result.result()


def test_a_job_that_is_given_up_holds_no_bytes() -> None:
    job = a_job(b"many")
    assert job.result.cancel()
    assert (job.data, job.is_abandoned) == (b"", True)
    job.finish(None)  # type: ignore[arg-type]  # comes too late, and is no error
    job.fail(ValueError())
    with pytest.raises(CancelledError):
        job.result.result()


def test_a_large_file_may_take_longer() -> None:
    lane = Lane("large", 0.1, 1, seconds_for_megabyte=0.06)
    assert lane.seconds_of(a_job(bytes(10 * 2**20), lane=lane)) == pytest.approx(0.7)
