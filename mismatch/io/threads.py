"""A function over many items on threads: results in order, and only a few items under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["LOOK_AHEAD", "map_ahead"]

LOOK_AHEAD = 8  # items per thread that may wait

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    advance: Callable[[int], object] = lambda done: None,
) -> Iterator[Result]:
    """Yield each item's result, in order, on `workers` threads; `advance` receives 1 for each one
    that is done. What the function raises ends it, and nothing that still waits is begun.
    """
    rest = iter(items)
    waiting = deque[Future[Result]]()
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="mismatch-data")
    try:
        waiting.extend(
            pool.submit(function, item) for item in islice(rest, max(1, workers) * LOOK_AHEAD)
        )
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
            advance(1)
            yield done
    finally:
        pool.shutdown(cancel_futures=True)
