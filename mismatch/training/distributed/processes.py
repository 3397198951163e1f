"""The processes of one run: one alone, or those that `accelerate launch` or torchrun started;
accelerate tells them apart and joins them.
"""

from __future__ import annotations

import atexit
import json
import math
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mismatch.errors import DeviceError, MismatchError, named
from mismatch.training.detector import choose_device

__all__ = ["Processes"]

Indices = NDArray[np.int64]
PATIENCE = timedelta(days=1)  # of processes that wait for another's share of a large embedding
BUCKET = 2**23  # numbers that are summed together: 32 MiB
T = TypeVar("T")


class Processes:
    """Who takes part. Every process takes every step on its share of the batch; sums over all of
    them keep their weights equal, bit for bit.
    """

    def __init__(
        self,
        device: torch.device,
        index: int = 0,
        count: int = 1,
        *,
        first_of_machine: bool | None = None,
        own_group: bool = False,
    ) -> None:
        """Take this process's `index`, 0..count, its own `device`, and whether it is the first one
        of its machine; by default all are on one. `own_group`: whether torch's group of processes
        was made for this run.
        """
        self.device = device
        self.index = index
        self.count = count
        self.first_of_machine = index == 0 if first_of_machine is None else first_of_machine
        self.own_group = own_group

    @classmethod
    def start(cls, device: str) -> Processes:
        """Bring together those that a launcher's environment speaks of; `device`: auto, cpu, cuda,
        cuda:N or mps.
        """
        count = _number(("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"), 1)
        if count == 1:
            return cls(choose_device(device))
        place = _number(("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK"), 0)
        own_device = choose_device(_device_of(device, place))
        from accelerate import PartialState

        own_group = not torch.distributed.is_initialized()
        state = PartialState(cpu=own_device.type == "cpu", timeout=PATIENCE)
        return cls(
            own_device,
            state.process_index,
            state.num_processes,
            first_of_machine=place == 0,
            own_group=own_group,
        )

    def end(self) -> None:
        """Part when the interpreter ends, as all is done. A process that ends while the group's
        threads still run may be taken for one that failed.
        """
        if self.own_group:
            atexit.register(_part)

    @property
    def main(self) -> bool:
        """Return whether this is the one that writes files and speaks."""
        return self.index == 0

    def share(self, size: int) -> Indices:
        """Return which of `size` items this process takes: every `count`-th, so that what is sorted
        by length is spread evenly.
        """
        return np.arange(self.index, size, self.count)

    def even_share(self, size: int) -> Indices:
        """Return `share` and, where that is one item short of the first process's, the last of the
        `size` items once more: as long in every process.
        """
        return np.minimum(
            np.arange(self.index, math.ceil(size / self.count) * self.count, self.count), size - 1
        )

    def part(self, size: int) -> slice:
        """Return which of `size` items this process takes where neighbours stay together. The parts
        of all processes, in order, are everything.
        """
        return slice(size * self.index // self.count, size * (self.index + 1) // self.count)

    def each(self, work: Callable[[], T]) -> list[T]:
        """Return what `work` returns in each process, plain JSON types, in order. Where it fails in
        any of them, the first one's error is raised in all, so that none waits for one that has
        ended.
        """
        if self.count == 1:
            return [work()]
        failure: Exception | None = None
        try:
            reply: list[Any] = [None, work()]
        except Exception as error:  # noqa: BLE001  raised below, when all know of it
            expected = (
                ""
                if isinstance(error, MismatchError)
                else f"process {self.index} of this run failed: {type(error).__name__}: "
            )
            failure = error
            reply = [type(error).__name__, f"{expected}{error}"]
        answers = [
            json.loads(answer.tobytes())
            for answer in self.gather(np.frombuffer(json.dumps(reply).encode(), np.uint8))
        ]
        for index, (kind, value) in enumerate(answers):
            if kind is not None:
                raise failure if failure is not None and index == self.index else named(kind, value)
        return [value for _, value in answers]

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Return each process's array (n, …), of one type and width, in order; `n` may differ."""
        if self.count == 1:
            return [array]
        sizes = self._gathered(torch.tensor([len(array)], device=self.device))
        rows = [int(size) for size in sizes]
        width = array.dtype.itemsize * int(np.prod(array.shape[1:]))
        padded = torch.zeros(max(rows) * width, dtype=torch.uint8, device=self.device)
        padded[: len(array) * width] = torch.from_numpy(
            np.array(array, order="C").view(np.uint8).reshape(-1)
        ).to(self.device)
        parts = [
            row[: n * width].cpu().numpy()
            for row, n in zip(self._gathered(padded), rows, strict=True)
        ]
        return [part.view(array.dtype).reshape(-1, *array.shape[1:]) for part in parts]

    def _gathered(self, tensor: Tensor) -> list[Tensor]:
        """Return each process's tensor, all of one size."""
        tensors = [torch.empty_like(tensor) for _ in range(self.count)]
        torch.distributed.all_gather(tensors, tensor)
        return tensors

    def wait(self) -> None:
        """Wait until all are here."""
        self.largest(0)

    def largest(self, number: int) -> int:
        """Return the largest of all processes' numbers."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
        return int(tensor)

    def any(self, flag: bool) -> bool:
        """Return whether it is so in any process."""
        return self.largest(int(flag)) > 0

    def assemble(self, size: int, parts: Sequence[tuple[Indices, Tensor]]) -> Tensor:
        """Map each process's rows and their places in 0..size, (n,) and (n, D) → all rows (size,
        D), fp32, the same in every process.
        """
        width = self.largest(max((rows.shape[1] for _, rows in parts), default=0))
        table = torch.zeros(size, width, device=self.device)
        for places, rows in parts:
            table[torch.from_numpy(places).to(self.device)] = rows.detach().to(torch.float32)
        if self.count > 1:
            torch.distributed.all_reduce(table)
        return table

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; where none has one, it stays so."""
        if self.count == 1:
            return
        present = torch.tensor(
            [parameter.grad is not None for parameter in parameters],
            dtype=torch.int32,
            device=self.device,
        )
        torch.distributed.all_reduce(present)
        chosen = [
            parameter
            for parameter, count in zip(parameters, present.tolist(), strict=True)
            if count
        ]
        for parameter in chosen:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._together(
            [parameter.grad for parameter in chosen if parameter.grad is not None],
            torch.distributed.all_reduce,
        )

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each by its mean over the processes, in place; integers stay as they are."""
        floating = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
        if self.count > 1:
            self._together(floating, torch.distributed.all_reduce)
            for tensor in floating:
                tensor.div_(self.count)

    def follow_main(self, tensors: Sequence[Tensor]) -> None:
        """Replace each by what it is in the main process, in place."""
        if self.count > 1:
            self._together(
                [tensor.detach() for tensor in tensors],
                lambda flat: torch.distributed.broadcast(flat, 0),
            )

    @torch.no_grad()
    def _together(self, tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
        """Call `exchange` in place, on many small ones together."""
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).to(self.device) for tensor in bucket])
            exchange(flat)
            for tensor, total in zip(
                bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True
            ):
                tensor.copy_(total.view_as(tensor))


def _part() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _number(variables: Sequence[str], otherwise: int) -> int:
    """Return the first number that is set, by torchrun or accelerate, or by a kind of MPI."""
    return next(
        (int(text) for text in map(os.environ.get, variables) if text and text.isdecimal()),
        otherwise,
    )


def _device_of(asked: str, place: int) -> str:
    """Return the device of the process at `place` on its machine; DeviceError where one is named
    for all.
    """
    if asked not in ("auto", "cuda"):
        if asked.startswith("cuda:"):
            raise DeviceError(
                f"`device` {asked} is one device for several processes; leave it out, and each"
                " process takes its own"
            )
        return asked
    if torch.cuda.is_available():
        return f"cuda:{place}"
    return "cpu" if asked == "auto" else asked


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return neighbours of one type together, about `BUCKET` numbers each."""
    buckets: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if room < tensor.numel() or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            room = max(BUCKET, tensor.numel())
        buckets[-1].append(tensor)
        room -= tensor.numel()
    return buckets
