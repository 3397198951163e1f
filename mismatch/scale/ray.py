"""Blocks of work on actors of a Ray cluster. Each holds what it works with, few blocks wait, and
what a lost actor had is done again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mismatch.errors import InputError, MachineError, MismatchError, MissingExtraError
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.libraries import send_nothing

__all__ = ["Actors", "actors"]

AHEAD = 2  # blocks that an actor has been given: one it works on, one that waits
ATTEMPTS = 4  # at a block whose actor dies
# bytes of shared memory of a cluster of one's own: it holds the blocks that wait, no more
OBJECT_STORE = 256 * 2**20
KEEP_CUDA = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"  # 0: actors without a GPU leave CUDA alone


class Worker:
    """What an actor runs. It makes its tool at the first call, so that errors of making it come
    back as they are.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._tool = None

    def ask(self, method: str, *values: Any) -> Any:
        """Call a method of the tool."""
        self._tool = self._tool or self._make()
        return getattr(self._tool, method)(*values)


class Actors:
    """Actors that each hold one tool."""

    def __init__(self, ray: Any, handles: list[Any]) -> None:
        self._ray = ray
        self._handles = handles

    def __len__(self) -> int:
        return len(self._handles)

    def ask(self, method: str, *values: Any) -> Any:
        """Return what one of them says."""
        return self._got(self._handles[0].ask.remote(method, *values))

    def each(self, method: str, blocks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the results of all blocks in the order in which they are ready. No more than
        `AHEAD` blocks an actor are taken ahead.
        """
        places = list(range(len(self._handles))) * AHEAD
        running: dict[Any, int] = {}  # with the place of its actor
        for block in blocks:
            if not places:
                yield from self._ready(running, places)
            place = places.pop(0)
            running[self._handles[place].ask.remote(method, *block)] = place
        while running:
            yield from self._ready(running, places)

    def _ready(self, running: dict[Any, int], places: list[int]) -> Iterator[Any]:
        [done], _ = self._ray.wait(list(running), num_returns=1)
        places.append(running.pop(done))
        yield self._got(done)

    def _got(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MismatchError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayActorError as error:
            if "creation task" in str(error):
                raise MachineError(
                    f"a worker could not begin ({str(error).strip().splitlines()[-1]}); install the"
                    " same mismatch on all machines"
                ) from error
            raise MachineError(
                f"a worker died {ATTEMPTS} times at the same block (of memory?); pass a smaller"
                " `block_rows` or `batch_size`"
            ) from error


@contextmanager
def actors(
    make: Callable[[], Any],
    *,
    address: str | None = None,
    count: int | None = None,
    threads: int = 1,
    gpu: bool = False,
) -> Iterator[Actors]:
    """Yield `count` actors of `threads` CPUs each, and a GPU each with `gpu`; without a count as
    many as the cluster holds.

    `address`: of a cluster that runs, `auto` or HOST:PORT; None starts one on this machine.
    MissingExtraError without ray, InputError where there is no cluster or no room in it.
    """
    ray = _import_ray()
    _connect(ray, address, (count or max(1, available_cpus() // threads)) * threads)
    try:
        room = _room(ray.cluster_resources(), threads, gpu)
        if (count or 1) > room:
            wanted = f"{count or 1} actors of {threads} CPUs{' and a GPU' if gpu else ''}"
            raise InputError(
                f"the Ray cluster has no room for {wanted} each, it has for {room}; lower `actors`"
                " or `threads`, or add machines"
            )
        kind = ray.remote(
            num_cpus=threads, num_gpus=int(gpu), max_restarts=-1, max_task_retries=ATTEMPTS - 1
        )(Worker)
        yield Actors(ray, [kind.remote(make) for _ in range(count or room)])
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    send_nothing("ray")
    os.environ.setdefault(KEEP_CUDA, "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("`engine='ray'`", "ray") from error
    return ray


def _connect(ray: Any, address: str | None, cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}; `ray"
            " start --head` starts one"
        ) from error


def _room(resources: dict[str, float], threads: int, gpu: bool) -> int:
    """Return how many actors a cluster holds at most."""
    room = int(resources.get("CPU", 0)) // threads
    return min(room, int(resources.get("GPU", 0))) if gpu else room
