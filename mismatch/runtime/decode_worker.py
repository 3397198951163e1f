"""The processes that decode untrusted images: a nursery, which holds the libraries, and the
workers that it forks.

Started by `decoding.DecodingPool`, which is the only one to talk to them. What comes from a worker
is JSON and pixels, never a pickle: native code that a picture has taken over must not reach
further. Runs on systems that can fork.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from PIL import Image

from mismatch.errors import ImageError, ImageRefusedError, MachineError
from mismatch.io.parents import end_with_parent
from mismatch.runtime.foreign_formats import heif_opener
from mismatch.runtime.preprocess import ImageLimits, Preprocessor, open_part
from mismatch.specs import ImageSpec

__all__ = ["END", "FORK", "STATUS", "main"]

# requests to the nursery: a worker, which comes with its end of a connection; the end of one
FORK = b"F"
END = b"E"
REQUEST = struct.Struct("<cqq")  # kind; its niceness and bytes of memory, or its process id and 0
# process id, or how it ended, as waitpid tells; < 0 for no worker: an errno, or NOT_KNOWN
STATUS = struct.Struct("<q")
NOT_KNOWN = -1
MAX_HEADER = 2**20  # bytes
OPEN_FILES = 64
SPARE = 2**20  # bytes of address space that are left out when memory is tried


def main() -> NoReturn:
    """Be the nursery: `sys.argv[1]` is the file descriptor of the connection to the pool. When that
    is closed, all workers end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    Image.init()  # what a worker would have to import, and could not read any more
    heif_opener()
    line = socket.socket(fileno=int(sys.argv[1]))
    children: set[int] = set()
    with suppress(OSError):
        while _answer(line, children):
            pass
    for child in children:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


def _answer(line: socket.socket, children: set[int]) -> bool:
    """Answer one request; False where there will be no more."""
    message, descriptors, _, _ = socket.recv_fds(line, REQUEST.size, 1)
    if len(message) < REQUEST.size:
        return False
    kind, first, second = REQUEST.unpack(message)
    if kind == FORK:
        child = _fork(line, descriptors, niceness=first, memory=second)
        if child > 0:
            children.add(child)
        for descriptor in descriptors:
            os.close(descriptor)
        line.sendall(STATUS.pack(child))
        return True
    status = NOT_KNOWN
    if first in children:  # not waited for yet, so the number is still its own
        children.remove(first)
        os.kill(first, signal.SIGKILL)
        _, status = os.waitpid(first, 0)
    line.sendall(STATUS.pack(status))
    return True


def _fork(line: socket.socket, descriptors: Sequence[int], *, niceness: int, memory: int) -> int:
    """Return the process id of a new worker, or why there is none, an errno below 0: other workers
    go on.
    """
    if not descriptors:  # the system had no number for it
        return -errno.EMFILE
    nursery = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        return -(error.errno or errno.EAGAIN)
    if not child:
        line.close()
        end_with_parent(nursery)
        _work(Connection(descriptors[0]), niceness=niceness, memory=memory)
    return child


def _work(connection: Connection, *, niceness: int, memory: int) -> NoReturn:
    """Be a worker: one picture after the other, until the connection is closed."""
    try:
        _restrict(niceness, memory)
        while True:
            header = json.loads(connection.recv_bytes(MAX_HEADER))
            answer, pixels = _decoded(header, connection.recv_bytes())
            connection.send_bytes(json.dumps(answer).encode())
            if pixels is not None:
                connection.send_bytes(pixels)
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is, the pool sees that this worker is gone
        os._exit(1)


def _restrict(niceness: int, memory: int) -> None:
    """Take from this process what decoding doesn't need. `memory`: bytes beyond what it has now; 0:
    any.
    """
    import resource

    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # what ends a picture that takes too long
    os.nice(niceness)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    size = _own_size()
    if memory and size:
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))


def _own_size() -> int:
    """Return bytes of address space that this process takes; 0 where the system doesn't tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _decoded(header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes | None]:
    """Return what is said of a picture, and its pixels, (height, width, 3) uint8, if it has any."""
    Image.MAX_IMAGE_PIXELS = header["max_pixels"]  # pictures within pictures are bounded too
    # processor time of all threads together
    signal.setitimer(signal.ITIMER_PROF, header["seconds"])
    try:
        image = _image(header, data)
        return {"size": image.size}, image.tobytes()
    except ImageRefusedError as error:
        return {"refused": str(error)}, None
    except ImageError as error:
        return {"damaged": str(error)}, None
    except (MachineError, MemoryError):
        return {"short" if _is_memory_short() else "memory": True}, None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _is_memory_short() -> bool:
    """Return whether the machine has less memory than this process may take, so that its limit was
    not what a picture ran into.
    """
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return True
    room = limit - _own_size() - SPARE
    if room <= 0:  # it has all that it may have
        return False
    try:
        mmap.mmap(-1, room).close()
    except (OSError, ValueError, MemoryError):
        return True
    return False


def _image(header: dict[str, Any], data: bytes) -> Image.Image:
    name = header["name"]
    limits = ImageLimits(tuple(header["formats"]), header["max_pixels"])
    if header["spec"] is None:
        image, _ = open_part(data, tuple(header["background"]), name=name, limits=limits)
        return image
    return _preprocessor(json.dumps(header["spec"])).local_picture(data, name=name, limits=limits)


@lru_cache(8)
def _preprocessor(spec: str) -> Preprocessor:
    return Preprocessor(ImageSpec.from_dict(json.loads(spec)))
