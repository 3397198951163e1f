"""The parent's side of the nursery: the process that forks the workers which decode images,
started, asked and ended.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from mismatch.errors import MachineError

__all__ = ["Nursery", "WorkerId", "closed"]

PATIENCE = 5.0  # seconds for the nursery to end
ANSWER_BYTES = 8


class WorkerId(NamedTuple):
    """What a worker is ended by."""

    process_id: int
    nursery: int  # process id of the nursery that forked it


class Nursery:
    """The process that forks workers. Thread-safe; starts itself, again where it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._closed = False

    def fork(self, niceness: int, memory: int) -> tuple[Connection, WorkerId]:
        """Return a connection to a new worker, and its name; MachineError where none can be had."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                worker = self._fork(niceness, memory, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        return Connection(ours.detach()), worker

    def end(self, worker: WorkerId) -> int | None:
        """End a worker; how it has ended, as waitpid tells: by this, or before. None where its
        nursery has ended, and nobody knows.
        """
        from mismatch.runtime.decode_worker import END, REQUEST, STATUS

        with self._lock:
            if self._closed:
                raise closed()
            if self._line is None or self._process is None or self._process.pid != worker.nursery:
                return None
            try:
                answer = _exchanged(self._line, REQUEST.pack(END, worker.process_id, 0), [])
            except OSError:
                self._stop()
                return None
            status = int(STATUS.unpack(answer)[0])
            return None if status < 0 else status

    def close(self) -> None:
        """End all workers, whatever they do, for good."""
        with self._lock:
            self._closed = True
            self._stop()

    def _fork(self, niceness: int, memory: int, descriptor: int) -> WorkerId:
        from mismatch.runtime.decode_worker import FORK, REQUEST, STATUS

        with self._lock:
            if self._closed:
                raise closed()
            message = REQUEST.pack(FORK, niceness, memory)
            answer, nursery = self._answer(message, [descriptor])
            process_id = int(STATUS.unpack(answer)[0])
        if process_id < 0:
            raise _unusable(os.strerror(-process_id))
        return WorkerId(process_id, nursery)

    def _answer(self, message: bytes, descriptors: list[int]) -> tuple[bytes, int]:
        """Return what a nursery says, and its process id."""
        if self._line is not None and self._process is not None:
            with suppress(OSError):  # it has ended, by whatever: another one takes its place
                return _exchanged(self._line, message, descriptors), self._process.pid
            self._stop()
        try:
            line, process = self._start()
            return _exchanged(line, message, descriptors), process.pid
        except OSError as error:
            self._stop()
            raise _unusable(str(error)) from error

    def _start(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """Start a new process; return the connection to it, and the process."""
        line, theirs = socket.socketpair()
        self._line = line
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-c",
                    _PROGRAM,
                    str(theirs.fileno()),
                    json.dumps(_import_path()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries write what they think of a picture
                env=_environment(),
                start_new_session=True,
            )
        self._process = process
        return line, process

    def _stop(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            _wait_or_kill(self._process)
        self._line = self._process = None


def _exchanged(line: socket.socket, message: bytes, descriptors: list[int]) -> bytes:
    """Return the answer to a request; OSError where there is none."""
    socket.send_fds(line, [message], descriptors)
    answer = line.recv(ANSWER_BYTES)
    if len(answer) < ANSWER_BYTES:
        raise OSError("it has ended")
    return answer


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    """Let the nursery end its workers, which it does where its line is closed."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# Isolated, so that no module of the working directory is imported in place of ours.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from mismatch.runtime.decode_worker"
    " import main; main()"
)


def _import_path() -> list[str]:
    """Return where this package lies, and where this process looks for modules, but for its working
    directory.
    """
    return [str(Path(__file__).resolve().parents[2]), *(str(place) for place in sys.path if place)]


def _environment() -> dict[str, str]:
    """Return what a worker needs of this process's environment, in which there may be secrets."""
    wanted = ("PATH", "TMPDIR", "TZ", "LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.startswith(("LD_", "DYLD_", "LC_"))
    }
    return ours | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def _unusable(why: str) -> MachineError:
    return MachineError(
        f"the process that decodes images can't be started or asked: {why}; free memory or"
        " handles, then try again"
    )


def closed() -> MachineError:
    """Return what those hear who wait for a pool that is being closed."""
    return MachineError("the processes that decode images are being ended")
