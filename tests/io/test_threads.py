"""mismatch.io.threads: in order, on threads, and only a little ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from mismatch.io.threads import LOOK_AHEAD, map_ahead


def test_results_come_in_order_and_each_is_told_of() -> None:
    done: list[int] = []
    assert list(
        map_ahead(lambda number: number * number, range(100), workers=3, advance=done.append)
    ) == [number * number for number in range(100)]
    assert sum(done) == 100


def test_few_items_wait_at_any_time() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    found = map_ahead(lambda number: number, numbers(), workers=2)
    assert next(found) == 0
    assert len(asked) == 2 * LOOK_AHEAD + 1
    assert len(list(found)) == 999
    assert asked[-1] == 999


def test_the_threads_work_at_the_same_time() -> None:
    """Four threads meet at a barrier, which one thread alone would never pass."""
    barrier = threading.Barrier(4, timeout=20)
    assert len(list(map_ahead(lambda number: barrier.wait(), range(8), workers=4))) == 8


def test_an_error_ends_it_without_beginning_the_rest() -> None:
    calls: list[int] = []

    def broken(number: int) -> None:
        calls.append(number)
        time.sleep(0.002)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(map_ahead(broken, range(500), workers=2))
    assert len(calls) < 40


def test_no_workers_is_one() -> None:
    assert list(map_ahead(str, [1, 2], workers=0)) == ["1", "2"]
