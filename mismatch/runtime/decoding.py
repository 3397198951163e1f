"""Untrusted images, decoded in processes of their own, whose processor time and memory are
bounded.

Whatever a picture does to a decoder, it costs that picture. Each begins in a lane where it may take
a moment; one that takes longer is begun again in a slower lane. So many costly pictures keep each
other waiting, and no others. Each of several clients has its share of the CPUs.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Collection, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mismatch.errors import ImageError, ImageRefusedError, MachineError
from mismatch.io.retries import retried
from mismatch.runtime.crew import Crew
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.lanes import Job, Lane, Pixels
from mismatch.runtime.nursery import Nursery
from mismatch.runtime.preprocess import RGB8, ImageSource, image_error, open_image_file, source_name
from mismatch.specs import ImageSpec

__all__ = ["DecodingPool", "can_isolate"]

FAST_SECONDS = 0.1  # processor time; a photo of 12 megapixels takes half of it
MEGABYTE_SECONDS = 0.06  # processor time on top, for each megabyte of a large file
SLOW_SECONDS = 2.0  # processor time of the slower lane
LAST_SECONDS = 10.0  # processor time of the last lane
LARGE = 2**20  # bytes of a file, from which on it keeps out of the small ones' way
# decoding a pixel may take so many: its own four, five times over in a transparent image
PIXEL_BYTES = 20
SPARE_BYTES = 256 * 2**20  # memory beyond the pixels
FILE_BYTES = 8  # a file may have so many for each pixel that is allowed


def can_isolate() -> bool:
    """Return whether this system can fork, which the workers need."""
    return hasattr(os, "fork") and hasattr(socket, "send_fds")


@dataclass(frozen=True)
class _Decoding:
    """The workers, and the lanes where pictures begin."""

    crew: Crew
    small: Lane
    large: Lane

    @classmethod
    def start(cls, nursery: Nursery, workers: int, seconds: float, memory: int) -> _Decoding:
        """Make lanes and a crew. `workers`: CPUs to use; `seconds`: of processor time for a picture
        in the last lane.
        """
        last = Lane("last", seconds, max(1, workers // 2), is_fast=False)
        slow = Lane("slow", min(SLOW_SECONDS, seconds), workers, is_fast=False, slower=last)
        fast = min(FAST_SECONDS, seconds)
        small = Lane("small", fast, workers, slower=slow)
        large = Lane("large", fast, workers, MEGABYTE_SECONDS, slower=slow)
        lanes = (small, large, slow, last)
        crew = Crew(nursery, workers, lanes, memory=memory)
        return cls(crew, small, large)

    def close(self, nursery: Nursery) -> None:
        """End all workers."""
        self.crew.close()
        nursery.close()
        self.crew.join()


class DecodingPool:
    """Worker processes that decode. Thread-safe; a `Decoder` for `Preprocessor` and `decoded_by`.
    Starts at the first picture.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        seconds: float = LAST_SECONDS,
        max_pixels: int | None = None,
        formats: Collection[str] = (),
    ) -> None:
        """Make a pool. `workers`: CPUs to use, by default all. `seconds`: of processor time for a
        picture. `max_pixels`: of one, by default as Pillow has it. `formats`: Pillow's names of
        those that are read, by default all. MachineError where the system can't fork.
        """
        if not can_isolate():
            raise MachineError(
                "images can't be decoded in processes of their own on this system; leave out"
                " `isolate_decoding`"
            )
        self.max_pixels = max_pixels or Image.MAX_IMAGE_PIXELS or 2**31
        self._workers = workers or available_cpus()
        self._seconds = seconds
        self._formats = tuple(formats)
        self._lock = threading.Lock()
        self._decoding: _Decoding | None = None
        self._nursery = Nursery()
        self._owner = os.getpid()

    def __enter__(self) -> DecodingPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A picture that is asked for afterwards starts them again."""
        with self._lock:
            decoding = self._decoding
            self._decoding = None
        if decoding is not None and self._owner == os.getpid():
            decoding.close(self._nursery)
            self._nursery = Nursery()

    def submit(
        self,
        data: bytes,
        spec: ImageSpec | None,
        *,
        name: str = "",
        background: RGB8 = (255, 255, 255),
        client: Hashable = None,
        request: Hashable = None,
    ) -> Future[Pixels]:
        """Decode an image's bytes: with a spec to what its tower sees, (S, S, 3); without to all of
        it, upright, (H, W, 3), uint8.

        `name`: of it in messages; of several clients that have pictures waiting, each has its turn,
        and each request of one. The future raises ImageError, MachineError where no worker could be
        had, or where workers were killed. Cancelling it gives the picture up.
        """
        header = {
            "name": name or source_name(data),
            "spec": None if spec is None else spec.to_dict(),
            "background": background,
            "formats": self._formats,
            "max_pixels": self.max_pixels,
        }
        decoding = self._started()
        lane = decoding.large if len(data) > LARGE else decoding.small
        job = Job(header, data, lane, client, request)
        decoding.crew.submit(job)
        return job.result

    def picture(self, spec: ImageSpec, source: ImageSource) -> Image.Image:
        """Return what `Preprocessor(spec).picture` gives of a file or its bytes."""
        return self._decoded(source, spec, spec.background)

    def image(self, source: ImageSource, background: RGB8) -> Image.Image:
        """Return what `open_image` gives of a file or its bytes."""
        return self._decoded(source, None, background)

    def _decoded(
        self, source: ImageSource, spec: ImageSpec | None, background: RGB8
    ) -> Image.Image:
        name = source_name(source)
        data = source if isinstance(source, bytes) else self._read(source, name)
        result = self.submit(
            data, spec, name=name, background=background, request=threading.get_ident()
        )
        return Image.fromarray(result.result())

    def _read(self, source: Any, name: str) -> bytes:
        """Return the bytes of a file or an object; this process doesn't look into them."""
        max_bytes = FILE_BYTES * self.max_pixels

        def read() -> bytes:
            with open_image_file(source) as file:
                return file.read(max_bytes + 1)

        try:
            data = retried(read)
        except (ImageError, MachineError):
            raise
        except Exception as error:
            raise image_error(error, source, name) from error
        if len(data) > max_bytes:
            raise ImageRefusedError(
                f"{name} has more than {max_bytes:,} bytes; make it smaller, or raise"
                " PIL.Image.MAX_IMAGE_PIXELS if you trust its source"
            )
        return data

    def _started(self) -> _Decoding:
        """Return the workers of this process: a forked one has none of its parent's threads."""
        with self._lock:
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._decoding = None
                self._nursery = Nursery()
            if self._decoding is None:
                memory = SPARE_BYTES + PIXEL_BYTES * self.max_pixels
                self._decoding = _Decoding.start(
                    self._nursery, self._workers, self._seconds, memory
                )
            return self._decoding
