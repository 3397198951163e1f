"""mismatch.runtime.time_limit: what ends in time gives its outcome, and what doesn't is stopped and
given up.
"""

from __future__ import annotations

from threading import Event

import pytest

from mismatch.runtime import time_limit
from mismatch.runtime.time_limit import OverdueError, answer_within, within


def never() -> None:
    raise AssertionError("stopped")


def test_what_ends_in_time_gives_its_result() -> None:
    assert within(60, lambda: 5, never) == 5
    assert within(60, lambda: None, never) is None


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_its_errors_are_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        within(60, fail, never)


def test_what_takes_longer_is_stopped() -> None:
    stopped, ended = Event(), Event()

    def wait() -> None:
        stopped.wait(60)
        ended.set()

    with pytest.raises(OverdueError, match="given up after 0 seconds"):
        within(0.01, wait, stopped.set)
    assert ended.is_set()


def test_what_can_not_be_stopped_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "GRACE", 0.01)
    end = Event()
    try:
        with pytest.raises(OverdueError):
            within(0.01, lambda: end.wait(60), lambda: None)
    finally:
        end.set()


def test_an_answer_that_does_not_come_has_another_in_its_place() -> None:
    assert answer_within(60, lambda: 5, 6) == 5
    done = Event()
    assert answer_within(0.05, lambda: int(done.wait(30)), 6) == 6
    done.set()

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        answer_within(60, fail, 6)
