"""One writer at a time; the one who comes second learns of whom, and a crash locks nobody out."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError
from mismatch.io.locks import locked
from tests.support.files import names
from tests.support.processes import started

fcntl = pytest.importorskip("fcntl")

HOLD = (
    "import sys, time; from mismatch.io.locks import locked\nwith locked(sys.argv[1]): print('held',"
    " flush=True); time.sleep(60)"
)


@contextmanager
def holding(target: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock, until the block ends."""
    with started([sys.executable, "-c", HOLD, target], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("kind", ["nothing", "file", "folder", "link"])
def test_the_second_is_refused_and_told_of_the_first(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "folder":
        target.mkdir()
    elif kind != "nothing":
        target.write_text("older")
    if kind == "link":
        (tmp_path / "link").symlink_to(target)
    before = names(tmp_path)
    with locked(tmp_path / "link" if kind == "link" else target):
        for _ in range(2):
            with pytest.raises(CheckpointError) as caught, locked(target):
                pytest.fail("never reached")
            who = (
                rf"process {os.getpid()} on {re.escape(socket.gethostname())} has been writing it"
                r" since 20\S+"
            )
            assert re.fullmatch(
                rf"can't write {re.escape(str(target))}: {who}; wait until it is done, or choose"
                r" another name",
                str(caught.value),
            )
        with locked(tmp_path / "other"):
            pass
    assert names(tmp_path) == before
    with locked(target):
        pass


def test_a_killed_process_locks_nobody_out_and_what_it_began_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with (
        holding(target) as process,
        pytest.raises(CheckpointError, match=rf"process {process.pid} on "),
        locked(target),
    ):
        pytest.fail("never reached")
    (tmp_path / ".out.0123abcd.part").write_text("half")
    (tmp_path / ".other.0123abcd.part").write_text("somebody else's")
    with locked(target):
        assert names(tmp_path) == [".other.0123abcd.part", ".out.lock"]
    assert names(tmp_path) == [".other.0123abcd.part"]


def test_what_was_left_inside_goes_where_it_is_known(tmp_path: Path) -> None:
    for name in (".a.json.0123abcd.part", ".b.json.0123abcd.part", "a.json"):
        (tmp_path / name).write_text("")
    with locked(tmp_path, inside=re.compile(r"a\.json")):
        pass
    assert names(tmp_path) == [".b.json.0123abcd.part", "a.json"]


def test_a_missing_folder_is_named_or_made(tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"the folder .*absent does not exist; create it"),
        locked(tmp_path / "absent" / "out"),
    ):
        pytest.fail("never reached")
    with locked(tmp_path / "a" / "b" / "out", parents=True):
        assert names(tmp_path / "a" / "b") == [".out.lock"]


def test_a_device_has_no_lock() -> None:
    with locked("/dev/null"), locked("/dev/null"):
        pass


def test_an_error_inside_lets_it_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "out"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows none."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("no_locks")
def test_without_the_kernels_locks_the_file_itself_is_one(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        with (
            pytest.raises(
                CheckpointError,
                match=(
                    rf"process {os.getpid()} on .*; if it is gone, remove {tmp_path / '.out.lock'}"
                ),
            ),
            locked(tmp_path / "out"),
        ):
            pytest.fail("never reached")
        assert names(tmp_path) == [".out.lock"]
    assert names(tmp_path) == []


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(("host", "taken"), [(socket.gethostname(), False), ("elsewhere", True)])
def test_without_the_kernels_locks_a_dead_owner_on_this_machine_counts_as_gone(
    tmp_path: Path, host: str, taken: bool
) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / ".out.lock").write_text(
        json.dumps({"pid": child.pid, "host": host, "since": "2026-01-01"})
    )
    if taken:
        with (
            pytest.raises(CheckpointError, match=f"process {child.pid} on elsewhere"),
            locked(tmp_path / "out"),
        ):
            pytest.fail("never reached")
        return
    with locked(tmp_path / "out"):
        assert json.loads((tmp_path / ".out.lock").read_text())["pid"] == os.getpid()
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}'])
def test_a_lock_that_nobody_could_sign_is_respected(tmp_path: Path, content: bytes) -> None:
    with holding(tmp_path / "out"):
        (tmp_path / ".out.lock").write_bytes(content)
        with (
            pytest.raises(CheckpointError, match="another process is writing it; wait"),
            locked(tmp_path / "out"),
        ):
            pytest.fail("never reached")


def test_a_child_of_a_killed_process_does_not_have_it(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from mismatch.io.locks import locked
with locked(sys.argv[1]):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdin=subprocess.PIPE
    )
    assert process.wait(timeout=60) == -signal.SIGKILL
    with locked(tmp_path / "out"):
        assert names(tmp_path) == [".out.lock"]
    process.communicate()


def test_a_stopped_process_still_has_it(tmp_path: Path) -> None:
    with holding(tmp_path / "out") as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(CheckpointError, match=str(process.pid)), locked(tmp_path / "out"):
            pytest.fail("never reached")


def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    """Eight processes begin together, and each tries until it has had the lock; none is ever in it
    with another.
    """
    code = """
import sys, time
from pathlib import Path
from mismatch.errors import CheckpointError
from mismatch.io.locks import locked
target = Path(sys.argv[1])
for _ in range(5):
    while True:
        try:
            with locked(target):
                (target / "inside").touch(exist_ok=False)
                time.sleep(0.001)
                (target / "inside").unlink()
            break
        except CheckpointError:
            time.sleep(0.001)
"""
    target: Any = tmp_path / "out"
    target.mkdir()
    processes = [subprocess.Popen([sys.executable, "-c", code, str(target)]) for _ in range(8)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 8
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("content", [b"mine", b"{}", b"[1]", b'{"host": "a"}'])
def test_a_file_of_somebody_elses_under_a_locks_name_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".out.lock").write_bytes(content)
    with (
        pytest.raises(
            CheckpointError, match=r"\.out\.lock is in the way and was not written by mismatch"
        ),
        locked(tmp_path / "out"),
    ):
        pytest.fail("never reached")
    assert (tmp_path / ".out.lock").read_bytes() == content


def test_what_a_link_under_a_locks_name_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "notes")
    with pytest.raises(CheckpointError, match="can't write"), locked(tmp_path / "out"):
        pytest.fail("never reached")
    assert (tmp_path / "notes").read_text() == ""


@pytest.mark.parametrize("content", [b"", b'{"p', b'{"pid": 99999999, "host": "here"}'])
def test_what_a_killed_process_left_of_a_lock_is_in_nobodys_way(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / ".out.lock").write_bytes(content)
    with locked(tmp_path / "out"):
        assert json.loads((tmp_path / ".out.lock").read_text())["pid"] == os.getpid()
