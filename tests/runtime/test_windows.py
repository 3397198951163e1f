"""Windows of rows: full ones of a source, and those of a live one as its rows come."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from mismatch.runtime.row_pairs import Pair
from mismatch.runtime.windows import WindowLimits, live_windows, windows

LIMITS = WindowLimits(rows=3)


def pairs(count: int) -> Iterator[Pair]:
    return (Pair("a.png", str(i)) for i in range(count))


def texts(found: list[Pair]) -> list[str]:
    return [pair.text for pair in found]


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_windows_are_full_but_for_the_last(count: int) -> None:
    found = [texts(one) for one in windows(pairs(count), LIMITS)]
    assert [len(one) for one in found] == [3] * (count // 3) + [count % 3] * (count % 3 > 0)
    assert list(itertools.chain.from_iterable(found)) == [str(i) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3, 7, 500])
def test_a_live_source_is_read_in_order_to_its_end(count: int) -> None:
    found = [texts(one) for one in live_windows(pairs(count), LIMITS)]
    assert list(itertools.chain.from_iterable(found)) == [str(i) for i in range(count)]
    assert all(0 < len(one) <= 3 for one in found)


@pytest.mark.parametrize("limits", [WindowLimits(encoded=4), WindowLimits(letters=2)])
def test_a_window_ends_where_it_holds_enough(limits: WindowLimits) -> None:
    source = [Pair(b"ab", "a")] * 5
    assert [len(one) for one in windows(source, limits)] == [2, 2, 1]
    assert max(len(one) for one in live_windows(source, limits)) <= 2


def test_a_row_is_given_while_the_source_waits_for_the_next() -> None:
    answered = threading.Semaphore(0)

    def source() -> Iterator[Pair]:
        for i in range(3):
            yield Pair("a.png", str(i))
            assert answered.acquire(timeout=20), "the row was not answered"

    found = []
    for window in live_windows(source(), LIMITS):
        found += texts(window)
        answered.release()
    assert found == ["0", "1", "2"]


def test_behind_a_full_window_nothing_is_read() -> None:
    taken = itertools.count()

    def source() -> Iterator[Pair]:
        for _ in range(20):
            next(taken)
            yield Pair("a.png", "red")

    found = live_windows(source(), LIMITS)
    assert len(next(found)) <= 3
    while len(next(found)) < 3:
        pass
    time.sleep(0.05)
    read = next(taken)
    assert read % 3 <= 2
    time.sleep(0.05)
    assert next(taken) == read + 1
    found.close()  # type: ignore[attr-defined]


def test_what_the_source_raises_comes_behind_its_rows() -> None:
    def source() -> Iterator[Pair]:
        yield Pair("a.png", "red")
        raise KeyError("the queue is gone")

    found = live_windows(source(), LIMITS)
    assert texts(next(found)) == ["red"]
    with pytest.raises(KeyError, match="the queue is gone"):
        next(found)


def test_a_thread_ends_with_its_windows() -> None:
    def source() -> Iterator[Pair]:
        for i in itertools.count():
            yield Pair("a.png", str(i))

    found = live_windows(source(), LIMITS)
    next(found)
    found.close()  # type: ignore[attr-defined]
    until = time.monotonic() + 20
    while any(one.name == "mismatch-rows" for one in threading.enumerate()):
        assert time.monotonic() < until, "the thread goes on"
        time.sleep(0.01)
