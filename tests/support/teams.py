"""What tests of several processes share: threads in their place, which exchange what the processes
would.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from numpy.typing import NDArray

from mismatch.training.distributed.processes import Processes

__all__ = ["in_team"]


PATIENCE = 30  # seconds, after which one that waits for another that has ended is called hung


class Teammate(Processes):
    """A process whose exchange is a list; all that is built on `gather` is the real thing."""

    def __init__(
        self, index: int, count: int, barrier: threading.Barrier, board: list[Any]
    ) -> None:
        super().__init__(torch.device("cpu"), index, count)
        self.barrier, self.board = barrier, board

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        self.board[self.index] = array
        self.barrier.wait(PATIENCE)
        found = list(self.board)
        self.barrier.wait(PATIENCE)
        return found

    def wait(self) -> None:
        self.barrier.wait(PATIENCE)


def in_team(count: int, work: Callable[[Processes], object]) -> list[Any]:
    """What `work` returns in each of `count` teammates, at the same time; an error becomes what is
    returned.
    """
    barrier, board = threading.Barrier(count), [None] * count

    def one(index: int) -> Any:
        try:
            return work(Teammate(index, count, barrier, board))
        except threading.BrokenBarrierError:
            raise
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
