"""The nursery and its workers, asked as the pool asks them: forks, how a worker has ended, and what
it may not do.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import hostile_pictures as hostile
from mismatch.runtime import decode_worker
from mismatch.runtime.decode_worker import END, FORK, NOT_KNOWN, REQUEST, STATUS

PROGRAM = (
    f"import sys; sys.path[:0] = {json.dumps([one for one in sys.path if one])}; from"
    " mismatch.runtime.decode_worker import main; main()"
)
HEADER = {
    "name": "image 'a'",
    "spec": None,
    "background": (255, 255, 255),
    "formats": ["PNG", "JPEG"],
    "max_pixels": 50_000_000,
    "seconds": 0.2,
}


@pytest.fixture(scope="module")
def line() -> Iterator[socket.socket]:
    """A connection to a nursery."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    with ours:
        yield ours
    assert process.wait(20) == 0, "it ends where its connection does"


def ask(
    line: socket.socket, kind: bytes, first: int, second: int = 0, descriptors: tuple[int, ...] = ()
) -> int:
    socket.send_fds(line, [REQUEST.pack(kind, first, second)], descriptors)
    return int(STATUS.unpack(line.recv(STATUS.size))[0])


def forked(line: socket.socket, *, niceness: int = 0, memory: int = 0) -> tuple[Connection, int]:
    ours, theirs = socket.socketpair()
    with theirs:
        process_id = ask(line, FORK, niceness, memory, (theirs.fileno(),))
    return Connection(ours.detach()), process_id


def decoded(worker: Connection, data: bytes, **options: object) -> dict[str, Any]:
    worker.send_bytes(json.dumps(HEADER | options).encode())
    worker.send_bytes(data)
    answer: dict[str, Any] = json.loads(worker.recv_bytes())
    if "size" in answer:
        width, height = answer["size"]
        assert len(worker.recv_bytes()) == 3 * width * height
    return answer


def test_a_worker_decodes_one_picture_after_the_other(line: socket.socket) -> None:
    worker, process_id = forked(line)
    assert decoded(worker, hostile.png_of_zeros(50)) == {"size": [50, 50]}
    assert decoded(worker, b"hello") == {
        "refused": "image 'a' is of no known format; one of PNG, JPEG is needed"
    }
    assert "damaged or cut short" in str(decoded(worker, hostile.png_of_zeros(50)[:60])["damaged"])
    assert "pixels" in str(decoded(worker, hostile.png_of_zeros(50), max_pixels=100)["refused"])
    worker.close()
    ask(line, END, process_id)
    assert ask(line, END, process_id) == NOT_KNOWN


def test_overtime_ends_it_by_a_signal_of_its_own(line: socket.socket) -> None:
    worker, process_id = forked(line)
    with pytest.raises((EOFError, ConnectionResetError)):
        decoded(worker, hostile.jpeg_of_scans(7_000, 64))
    assert os.WTERMSIG(ask(line, END, process_id)) == signal.SIGPROF


def test_a_worker_that_is_ended_tells_that_it_was_killed(line: socket.socket) -> None:
    worker, process_id = forked(line)
    assert os.WTERMSIG(ask(line, END, process_id)) == signal.SIGKILL
    with pytest.raises((EOFError, OSError)):
        decoded(worker, b"")


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs /proc")
def test_what_a_worker_may_not(line: socket.socket) -> None:
    worker, process_id = forked(line, niceness=3, memory=50 * 2**20)
    assert decoded(worker, hostile.png_of_zeros(50)) == {"size": [50, 50]}
    limits = {
        one[:26].strip(): one[26:].split()[0]
        for one in Path(f"/proc/{process_id}/limits").read_text().splitlines()
    }
    assert (limits["Max core file size"], limits["Max file size"], limits["Max open files"]) == (
        "0",
        "0",
        "64",
    )
    assert limits["Max address space"] != "unlimited"
    assert Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[16] == str(
        os.nice(0) + 3
    )
    descriptors = [os.readlink(one) for one in Path(f"/proc/{process_id}/fd").iterdir()]
    assert sum(one.startswith("socket") for one in descriptors) == 1, (
        "it has no way to the nursery or to other workers"
    )
    worker.close()
    ask(line, END, process_id)


def test_a_fork_that_fails_ends_no_other_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    ours, theirs = socket.socketpair()
    children = {1}
    with ours, theirs:
        monkeypatch.setattr(os, "fork", fork)
        for descriptors, expected in (((ours.fileno(),), errno.EAGAIN), ((), errno.EMFILE)):
            socket.send_fds(ours, [REQUEST.pack(FORK, 0, 0)], descriptors)
            assert decode_worker._answer(theirs, children)
            assert STATUS.unpack(ours.recv(STATUS.size)) == (-expected,)
    assert children == {1}


def test_a_machine_that_is_short_of_memory_is_no_fault_of_a_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def image(header: object, data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(decode_worker, "_image", image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    for is_short, answer in ((True, "short"), (False, "memory")):
        monkeypatch.setattr(decode_worker, "_is_memory_short", lambda short=is_short: short)
        assert decode_worker._decoded(HEADER | {"seconds": 60.0}, b"") == ({answer: True}, None)


def test_memory_is_short_where_less_than_the_limit_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def limited_to(size: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (size, size))

    limited_to(decode_worker._own_size() + 50 * 2**20)
    assert not decode_worker._is_memory_short()
    limited_to(2**60)
    assert decode_worker._is_memory_short()
    limited_to(resource.RLIM_INFINITY)
    assert decode_worker._is_memory_short()
