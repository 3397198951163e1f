"""The nursery as the pool asks it: it starts by itself, again where it has ended, holds no secrets,
and ends for good.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import MachineError
from mismatch.runtime import nursery as module
from mismatch.runtime.decode_worker import STATUS
from mismatch.runtime.nursery import Nursery, WorkerId

HEADER: dict[str, Any] = {
    "name": "a",
    "spec": None,
    "background": (0, 0, 0),
    "formats": [],
    "max_pixels": 100,
    "seconds": 1.0,
}


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


def answer(nursery: Nursery) -> str:
    """What a new worker says of bytes that are no image."""
    connection, worker = nursery.fork(0, 0)
    with connection:
        connection.send_bytes(json.dumps(HEADER).encode())
        connection.send_bytes(b"no image")
        said = str(json.loads(connection.recv_bytes())["refused"])
    nursery.end(worker)
    return said


def test_it_starts_at_the_first_worker_and_anew_where_it_has_ended(nursery: Nursery) -> None:
    assert nursery._process is None
    assert "not an image" in answer(nursery)
    first: Any = nursery._process
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert "not an image" in answer(nursery)
    second: Any = nursery._process
    assert second.pid != first.pid


def test_nobody_knows_how_a_worker_ended_that_is_not_the_nurserys(nursery: Nursery) -> None:
    assert nursery.end(WorkerId(os.getpid(), 1)) is None
    _, worker = nursery.fork(0, 0)
    other = worker._replace(process_id=os.getpid())
    assert nursery.end(other) is None, "and this process is still there"


def test_no_worker_is_asked_for_that_another_nursery_had(nursery: Nursery) -> None:
    _, worker = nursery.fork(0, 0)
    os.kill(worker.nursery, signal.SIGKILL)
    assert nursery.end(worker) is None
    assert nursery._process is None, "nothing is started for that"
    _, fresh = nursery.fork(0, 0)
    assert nursery.end(WorkerId(fresh.process_id, worker.nursery)) is None
    assert nursery.end(fresh) == signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_workers_end_with_their_nursery(nursery: Nursery) -> None:
    connection, worker = nursery.fork(0, 0)
    os.kill(worker.nursery, signal.SIGKILL)
    with connection, pytest.raises((EOFError, OSError)):
        connection.recv_bytes()


def test_a_fork_that_fails_leaves_the_other_workers_alone(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, worker = nursery.fork(0, 0)
    real = module._exchanged
    failed = STATUS.pack(-errno.EAGAIN)
    monkeypatch.setattr(module, "_exchanged", lambda *_: failed)
    with pytest.raises(MachineError, match=os.strerror(errno.EAGAIN)):
        nursery.fork(0, 0)
    monkeypatch.setattr(module, "_exchanged", real)
    assert not connection.poll(0.1)
    assert nursery.end(worker) == signal.SIGKILL
    connection.close()


def test_it_ends_for_good(nursery: Nursery) -> None:
    connection, _ = nursery.fork(0, 0)
    nursery.close()
    with pytest.raises((EOFError, OSError)):
        connection.recv_bytes()
    connection.close()
    with pytest.raises(MachineError, match="being ended"):
        nursery.fork(0, 0)


def test_a_program_that_cannot_be_started_is_one_line(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nothing/here")
    with pytest.raises(MachineError, match=r"can't be started or asked: .*No such file"):
        nursery.fork(0, 0)


def test_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISMATCH_SERVE_TOKENS", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    environment = module._environment()
    assert "MISMATCH_SERVE_TOKENS" not in environment
    assert environment["LC_ALL"] == "C.UTF-8"
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    assert module._import_path() == [str(Path(module.__file__).parents[2]), "/somewhere"]
