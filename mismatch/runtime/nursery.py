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

from mismatch.errors import MachineError

__all__ = ["Nursery", "closed"]

PATIENCE = 5.0  # seconds for the nursery to end
ANSWER_BYTES = 8


class Nursery:
    """The process that forks workers. Thread-safe; starts itself, anew where it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._closed = False

    def fork(self, niceness: int, memory: int) -> tuple[Connection, int]:
        """A connection to a new worker, and its process id."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process_id = self._ask(b"F", niceness, memory, [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        return Connection(ours.detach()), process_id

    def end(self, process_id: int) -> int:
        """End a worker; how it has ended, as waitpid tells: by this, or before."""
        return self._ask(b"E", process_id, 0, [])

    def close(self) -> None:
        """End all workers, whatever they do, for good."""
        with self._lock:
            self._closed = True
            self._stop()

    def _ask(self, kind: bytes, first: int, second: int, descriptors: list[int]) -> int:
        from mismatch.runtime.decode_worker import REQUEST, STATUS

        with self._lock:
            if self._closed:
                raise closed()
            message = REQUEST.pack(kind, first, second)
            if self._line is not None:
                with suppress(OSError):  # it has ended, by whatever: another one takes its place
                    return int(STATUS.unpack(_exchanged(self._line, message, descriptors))[0])
                self._stop()
            try:
                return int(STATUS.unpack(_exchanged(self._start(), message, descriptors))[0])
            except OSError as error:
                self._stop()
                raise MachineError(
                    f"the process that decodes images can't be started or asked: {error}; free"
                    " memory or handles, then try again"
                ) from error

    def _start(self) -> socket.socket:
        """The connection to a new process."""
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
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
        return self._line

    def _stop(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            _wait_or_kill(self._process)
        self._line = self._process = None


def _exchanged(line: socket.socket, message: bytes, descriptors: list[int]) -> bytes:
    """The answer to a request; OSError where there is none."""
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
    """Where this package lies, and where this process looks for modules, but for its working
    directory.
    """
    return [str(Path(__file__).resolve().parents[2]), *(str(place) for place in sys.path if place)]


def _environment() -> dict[str, str]:
    """What a worker needs of this process's environment, in which there may be secrets."""
    wanted = ("PATH", "TMPDIR", "TZ", "LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    ours = {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.startswith(("LD_", "DYLD_", "LC_"))
    }
    return ours | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def closed() -> MachineError:
    """What those hear who wait for a pool that is being closed."""
    return MachineError("the processes that decode images are being ended")
