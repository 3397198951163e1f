"""mismatch.runtime.host_turns: so many requests a host, pauses that take no thread."""

from __future__ import annotations

import threading
import time

import pytest

from mismatch.runtime.host_turns import FETCHES, HostTurns


def test_no_host_has_more_than_its_share_and_others_come_meanwhile() -> None:
    turns = HostTurns(2)
    gate = threading.Event()
    lock = threading.Lock()
    running: list[int] = [0, 0]  # now, and at most
    done = threading.Semaphore(0)

    def work() -> None:
        with lock:
            running[0] += 1
            running[1] = max(running)
        gate.wait(20)
        with lock:
            running[0] -= 1
        done.release()

    for _ in range(7):
        turns.submit("slow.test", work)
    other = threading.Event()
    turns.submit("quick.test", other.set)
    assert other.wait(20)
    gate.set()
    for _ in range(7):
        assert done.acquire(timeout=20)
    assert running[1] == 2
    turns.close()


def test_what_waits_takes_no_thread() -> None:
    turns = HostTurns(FETCHES)
    for _ in range(5 * FETCHES):
        turns.later(3600, "shop.test", lambda: None)
    came = threading.Event()
    turns.later(0.01, "shop.test", came.set)
    assert came.wait(20)
    turns.close()


def test_a_host_that_asks_for_a_pause_has_it() -> None:
    turns = HostTurns(1)
    times: list[float] = []
    done = threading.Semaphore(0)

    def note() -> None:
        times.append(time.monotonic())
        done.release()

    start = time.monotonic()
    turns.rest("shop.test", 0.3)
    for _ in range(3):
        turns.submit("shop.test", note)
    turns.submit("other.test", note)
    for _ in range(4):
        assert done.acquire(timeout=20)
    assert times[0] < start + 0.3 <= times[1]
    turns.close()


def test_nothing_is_begun_once_it_is_closed() -> None:
    turns = HostTurns(1)
    turns.close()
    for begin in (turns.submit, lambda *more: turns.later(1, *more)):
        with pytest.raises(RuntimeError):
            begin("shop.test", lambda: None)
