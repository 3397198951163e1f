"""A limit on the time of calls into libraries that know no limit: the caller goes on, whatever they
do.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

__all__ = ["GRACE", "OverdueError", "answer_within", "within"]

GRACE = 5.0  # seconds that a call has to end after it was stopped

Result = TypeVar("Result")


class OverdueError(Exception):
    """A call took longer than it may."""


def within(seconds: float, act: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """Return what `act` returns, or raise what it raises. After `seconds`, call `stop`, which
    should make it end, and raise OverdueError.

    Where it doesn't end even so, its thread is left behind, and ends with the process.
    """
    call = _Call(act)
    thread = Thread(target=call, daemon=True, name="mismatch-time-limit")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        stop()
        thread.join(GRACE)
        raise OverdueError(f"it was given up after {seconds:.0f} seconds")
    if call.error is not None:
        raise call.error
    return call.results[0]


def answer_within(seconds: float, act: Callable[[], Result], otherwise: Result) -> Result:
    """Return what `act` returns, or raise what it raises; `otherwise`, where it takes longer than
    `seconds`. Its thread is left behind then, and ends with the process.
    """
    call = _Call(act)
    thread = Thread(target=call, daemon=True, name="mismatch-answer")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return otherwise
    if call.error is not None:
        raise call.error
    return call.results[0]


class _Call(Generic[Result]):
    """A call whose outcome another thread takes."""

    def __init__(self, act: Callable[[], Result]) -> None:
        self._act = act
        self.results: list[Result] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.results.append(self._act())
        except BaseException as error:  # noqa: BLE001 - raised where its outcome is taken
            self.error = error
