"""Time of calls, taken in turns so that a busy machine disturbs all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["TURN_SECONDS", "Advance", "Call", "in_turns", "seconds_of_one", "seconds_per_call"]

# receives how many more turns are done
Advance = Callable[[int], object]
T = TypeVar("T")

TURN_SECONDS = 0.2  # what is quicker is called again until they have passed
Call = Callable[[], object]


def in_turns(
    runs: Sequence[Callable[[], T]], repeats: int, advance: Advance = lambda done: None
) -> list[list[T]]:
    """Return what each run gave, A B A B …; what the first turn of each gave, its warm-up, is
    thrown away.
    """
    results: list[list[T]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, values in zip(runs, results, strict=True):
            values.append(run())
            advance(1)
    return [values[1:] for values in results]


def seconds_per_call(run: Call) -> float:
    """Return the mean over `TURN_SECONDS`, after a call. That call brings the weights back into the
    caches and outlasts the waiting threads of the turn before.

    A call that takes longer than that needs neither.
    """
    seconds = seconds_of_one(run)
    if seconds >= TURN_SECONDS:
        return seconds
    calls = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < TURN_SECONDS:
        run()
        calls += 1
    return passed / calls


def seconds_of_one(run: Call) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
