"""Starts commands of mismatch by forking a process that has imported all that is heavy: a tenth of
a second each, where a new one takes ten.

As a program it answers each line of JSON on standard input: a `Command` by the process's id, a list
of ids by an exit code. No thread runs in it and no model is loaded, so that forking is safe.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Command", "ForkServer"]

ROOT = Path(__file__).resolve().parents[2]
FAILED = 70  # exit code of a command that ended by an exception
POLL_SECONDS = 0.002
GRACE_SECONDS = 10  # in which the others may end by themselves when one has failed


@dataclass(frozen=True)
class Command:
    """`mismatch ARGS` as a process that is forked."""

    args: list[str]
    out: str  # files that its output and its errors are appended to
    err: str
    env: dict[str, str]  # all of its environment
    cwd: str = str(ROOT)
    prelude: str = ""  # Python that runs before it
    fault: str = ""  # for the shim; see tests/faults/faults.c
    limits: dict[str, int] = field(default_factory=dict)  # by their names in `resource`


class ForkServer:
    """The process that forks; it ends when this one does, as its standard input ends then."""

    def __init__(
        self,
        modules: Sequence[str],
        *,
        shim: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """`modules`: what it imports; `shim`: a library with `fault_arm`, which `env` preloads."""
        setup = json.dumps({"modules": list(modules), "shim": str(shim) if shim else None})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", setup],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(self, command: Command) -> int:
        """Start a command; return its process's id."""
        return int(self._ask(asdict(command)))

    def wait(self, *processes: int) -> int:
        """Wait until all have ended; return 0, or the exit code of the first that failed, soon
        after which the others are killed.
        """
        return int(self._ask(processes))

    def close(self) -> None:
        """End it, and what it has started."""
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()

    def _ask(self, request: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


# --- as a program


def main(modules: list[str], shim: str | None) -> None:
    """Answer until standard input ends."""
    import torch

    for name in modules:
        import_module(name)
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # else each child's collector visits, and so copies, all that was imported
    arm = ctypes.CDLL(shim).fault_arm if shim else lambda fault: None
    children: set[int] = set()
    try:
        for line in iter(sys.stdin.readline, ""):
            request = json.loads(line)
            if isinstance(request, list):
                answer = wait_for(set(request))
                children.difference_update(request)
            else:
                answer = os.fork()
                if not answer:
                    run(Command(**request), arm)
                children.add(answer)
            print(json.dumps(answer), flush=True)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def wait_for(children: set[int]) -> int:
    """Return the code of the first that fails, which ends the others, as torchrun does; else 0."""
    found = 0
    killed_at = float("inf")
    while children:
        for child in sorted(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            children.discard(child)
            code = os.waitstatus_to_exitcode(status)
            if code and not found:
                found = code
                killed_at = time.monotonic() + GRACE_SECONDS
        if time.monotonic() > killed_at:
            killed_at = float("inf")
            for other in children:
                os.kill(other, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return found


def run(command: Command, arm: Any) -> None:
    """Be the command, to its end."""
    code = FAILED
    try:
        prepare(command)
        arm(command.fault.encode())
        import_module("mismatch.cli").main(command.args)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (what the command line should have caught)
        traceback.print_exc()
    finally:
        arm(b"")
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


def prepare(command: Command) -> None:
    """Take its streams, folder, environment and limits."""
    import resource

    for descriptor, name in enumerate(("/dev/null", command.out, command.err)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
    os.setsid()
    os.chdir(command.cwd)
    os.environ.clear()
    os.environ.update(command.env)
    sys.argv = ["mismatch", *command.args]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exec(command.prelude, {"__name__": "prelude"})  # noqa: S102 (the test's own)
    for name, value in command.limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
