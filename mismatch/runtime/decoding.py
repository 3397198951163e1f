"""Images from strangers, decoded in processes of their own, whose processor time and memory are bounded.

Whatever a picture does to a decoder, it costs that picture. Each begins in the fast lane, where it may take `FAST_SECONDS` of processor time; one that takes
longer is begun again in the slow lane, which yields to all else. So many costly pictures keep each other waiting, and no others.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mismatch.errors import ImageError, ImageRefusedError, MachineError, MismatchError
from mismatch.retries import retried
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.nursery import Nursery, closed
from mismatch.runtime.preprocess import RGB8, ImageSource, image_error, open_image_file, source_name
from mismatch.specs import ImageSpec

__all__ = ["DecodingPool", "can_isolate"]

FAST_SECONDS = 0.1  # of processor time: a photo of 12 megapixels takes half of it
SLOW_SECONDS = 10.0  # likewise, in the slow lane
LARGE = 2**20  # bytes of a file, from which on it goes to the slow lane at once
STALLED = 60.0  # seconds that a worker may take, however little of them it computes
NICENESS = 5  # of the slow lane's workers
PIXEL_BYTES = 20  # that decoding a pixel may take: its own four, five times over where an image is transparent
SPARE_BYTES = 256 * 2**20  # beyond the pixels'
FILE_BYTES = 8  # of a file, for each pixel that is allowed
JOBS = 5_000  # pictures of a worker, after which a fresh one takes its place

Pixels = NDArray[np.uint8]


def can_isolate() -> bool:
    """Whether this system can fork, which the workers need."""
    return hasattr(os, "fork") and hasattr(socket, "send_fds")


@dataclass(eq=False)
class _Job:
    """One picture that is wanted."""

    header: dict[str, Any]
    data: bytes
    group: Hashable
    result: Future[Pixels] = field(default_factory=Future)
    begun: bool = False

    def begin(self) -> bool:
        """Whether it is wanted still."""
        self.begun = self.begun or self.result.set_running_or_notify_cancel()
        return self.begun


class _Queue:
    """Jobs of several groups, of which each has its turn. Thread-safe."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                job.result.set_exception(closed())
                return
            self._groups.setdefault(job.group, deque()).append(job)
            self._changed.notify()

    def get(self) -> _Job | None:
        """Wait for a job; None once it is closed."""
        with self._changed:
            while not self._groups and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            group, jobs = self._groups.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._groups[group] = jobs  # behind all others
            return job

    def close(self) -> list[_Job]:
        """Let every `get` end; returns the jobs that are left."""
        with self._changed:
            self._closed = True
            left = [job for jobs in self._groups.values() for job in jobs]
            self._groups.clear()
            self._changed.notify_all()
            return left


class _EndedError(Exception):
    """A worker ended with its picture undone."""

    def __init__(self, *, overtime: bool) -> None:
        super().__init__()
        self.overtime = overtime  # rather than by a fault


class _Worker:
    """One process, and the connection to it."""

    def __init__(self, nursery: Nursery, niceness: int, memory: int) -> None:
        self._nursery = nursery
        self._connection, self._process_id = nursery.fork(niceness, memory)
        self._ended_by: int | None = None  # signal, 0 if none; None while it runs
        self.jobs = 0

    def decode(self, job: _Job, seconds: float) -> Pixels:
        """The picture (H, W, 3); ImageError where it can't be decoded, _EndedError where the worker has ended."""
        self.jobs += 1
        most = 3 * job.header["max_pixels"] + 1
        try:
            self._connection.send_bytes(json.dumps(job.header | {"seconds": seconds}).encode())
            self._connection.send_bytes(job.data)
            if not self._connection.poll(STALLED):
                raise _EndedError(overtime=True)
            answer = json.loads(self._connection.recv_bytes(2**20))
            pixels = self._connection.recv_bytes(most) if "size" in answer else b""
        except (OSError, EOFError):
            raise _EndedError(overtime=self.close() == signal.SIGPROF) from None
        return _answered(job.header, answer, pixels)

    def close(self) -> int:
        """End the process; the signal by which it had ended, 0 if by none."""
        if self._ended_by is None:
            self._connection.close()
            status = self._nursery.end(self._process_id)
            self._ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return self._ended_by


def _answered(header: dict[str, Any], answer: dict[str, Any], data: bytes) -> Pixels:
    """What a worker said, as a picture or an ImageError."""
    if "refused" in answer:
        raise ImageRefusedError(str(answer["refused"]))
    if "damaged" in answer:
        raise ImageError(str(answer["damaged"]))
    if "memory" in answer:
        raise ImageError(f"{header['name']} takes more memory to decode than its pixels explain; save it anew, or drop the row")
    width, height = answer["size"]
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


class _Lane:
    """Threads that each hand a worker one picture after the other."""

    def __init__(self, nursery: Nursery, count: int, seconds: float, memory: int, *, niceness: int = 0, slower: _Lane | None = None) -> None:
        """`seconds`: of processor time; `memory`: bytes; `slower`: where a picture goes that takes longer."""
        self.queue = _Queue()
        self._nursery, self._seconds, self._memory, self._niceness, self._slower = nursery, seconds, memory, niceness, slower
        self._threads = [threading.Thread(target=self._run, name="mismatch-decoding", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Give up what waits, and take nothing more."""
        for job in self.queue.close():
            if not job.result.cancel():  # it has been begun once
                job.result.set_exception(closed())

    def join(self) -> None:
        """Wait for its threads, which end with their workers."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        worker = None
        while (job := self.queue.get()) is not None:
            if not job.begin():
                continue
            try:
                worker = worker or _Worker(self._nursery, self._niceness, self._memory)
                job.result.set_result(worker.decode(job, self._seconds))
                if worker.jobs >= JOBS:
                    worker = _without(worker)
            except _EndedError as error:
                worker = _without(worker)
                self._give_up(job, error)
            except ImageError as error:
                job.result.set_exception(error)
            except Exception as error:  # noqa: BLE001 - whoever waits has to hear of it, and the next picture must not suffer
                worker = _without(worker)
                job.result.set_exception(error if isinstance(error, MismatchError) else MachineError(f"an image could not be handed to a worker: {error}"))
        _without(worker)

    def _give_up(self, job: _Job, error: _EndedError) -> None:
        """A picture whose worker has ended."""
        name = job.header["name"]
        if error.overtime and self._slower is not None:
            self._slower.queue.put(job)
        elif error.overtime:
            message = f"{name} takes more than {self._seconds:g} seconds of processor time to decode; save it anew, or drop the row"
            job.result.set_exception(ImageError(message))
        else:
            job.result.set_exception(ImageError(f"{name} ended the process that decoded it: it is damaged; replace the file or drop the row"))


def _without(worker: _Worker | None) -> _Worker | None:
    """No worker, the one that there was ended."""
    if worker is not None:
        with suppress(MachineError, OSError):
            worker.close()
    return None


class DecodingPool:
    """Worker processes that decode. Thread-safe; a `Decoder` for `Preprocessor` and `decoded_by`. Starts at the first picture."""

    def __init__(self, *, workers: int | None = None, seconds: float = SLOW_SECONDS, max_pixels: int | None = None, formats: Collection[str] = ()) -> None:
        """`workers`: processes a lane, by default one a CPU; `seconds`: of processor time for a picture; `max_pixels`: of one, by default as Pillow has it;
        `formats`: Pillow's names of those that are read, by default all. MachineError where the system can't fork.
        """
        if not can_isolate():
            raise MachineError("images can't be decoded in processes of their own on this system; leave out --isolate-decoding")
        self.max_pixels = max_pixels or Image.MAX_IMAGE_PIXELS or 2**31
        self._workers, self._seconds, self._formats = workers or available_cpus(), seconds, tuple(formats)
        self._lock = threading.Lock()
        self._lanes: tuple[_Lane, _Lane] | None = None
        self._nursery = Nursery()
        self._owner = os.getpid()

    def __enter__(self) -> DecodingPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A picture that is asked for afterwards starts them again."""
        with self._lock:
            lanes, self._lanes = self._lanes, None
        if lanes is not None and self._owner == os.getpid():
            for lane in lanes:
                lane.close()
            self._nursery.close()
            for lane in lanes:
                lane.join()
            self._nursery = Nursery()

    def submit(self, data: bytes, spec: ImageSpec | None, *, name: str = "", background: RGB8 = (255, 255, 255), group: Hashable = None) -> Future[Pixels]:
        """Decode an image's bytes: with a spec to what its tower sees, (S, S, 3); without to all of it, upright, (H, W, 3), uint8.

        `name`: of it in messages; `group`: of several that have pictures waiting, each has its turn. The future raises ImageError, MachineError where
        no worker could be had.
        """
        header = {
            "name": name or source_name(data),
            "spec": None if spec is None else spec.to_dict(),
            "background": background,
            "formats": self._formats,
            "max_pixels": self.max_pixels,
        }
        job = _Job(header, data, group)
        fast, slow = self._started()
        (slow if len(data) > LARGE else fast).queue.put(job)
        return job.result

    def picture(self, spec: ImageSpec, source: ImageSource) -> Image.Image:
        """What `Preprocessor(spec).picture` gives of a file or its bytes."""
        return self._decoded(source, spec, spec.background)

    def image(self, source: ImageSource, background: RGB8) -> Image.Image:
        """What `open_image` gives of a file or its bytes."""
        return self._decoded(source, None, background)

    def _decoded(self, source: ImageSource, spec: ImageSpec | None, background: RGB8) -> Image.Image:
        name = source_name(source)
        data = source if isinstance(source, bytes) else self._read(source, name)
        result = self.submit(data, spec, name=name, background=background, group=threading.get_ident())
        return Image.fromarray(result.result())

    def _read(self, source: Any, name: str) -> bytes:
        """The bytes of a file or an object, which this process reads and does not look into."""
        most = FILE_BYTES * self.max_pixels

        def read() -> bytes:
            with open_image_file(source) as file:
                return file.read(most + 1)

        try:
            data = retried(read)
        except (ImageError, MachineError):
            raise
        except Exception as error:
            raise image_error(error, source, name) from error
        if len(data) > most:
            raise ImageRefusedError(f"{name} has more than {most:,} bytes; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust its source")
        return data

    def _started(self) -> tuple[_Lane, _Lane]:
        """The fast and the slow lane, of this process: a forked one has none of its parent's threads."""
        with self._lock:
            if self._owner != os.getpid():
                self._owner, self._lanes, self._nursery = os.getpid(), None, Nursery()
            if self._lanes is None:
                memory = SPARE_BYTES + PIXEL_BYTES * self.max_pixels
                slow = _Lane(self._nursery, self._workers, self._seconds, memory, niceness=NICENESS)
                fast = _Lane(self._nursery, self._workers, min(FAST_SECONDS, self._seconds), memory, slower=slow)
                self._lanes = fast, slow
            return self._lanes
