"""`mismatch` and other programs in processes of their own, which never outlive their test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from socket import socket
from typing import Any

__all__ = ["PATIENCE", "command_line", "ended", "finished", "free_port", "started"]

PATIENCE = 300  # seconds, after which a process counts as hanging
GRACE = 20  # seconds, after which one that was asked to end is killed


def command_line(*args: object) -> list[str]:
    """Return the command that runs `mismatch ARGS` with this interpreter."""
    return [sys.executable, "-m", "mismatch", *map(str, args)]


@contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command; end it with the block, if need be by SIGKILL. Its standard error is a pipe,
    where `options`, those of Popen, say nothing else.
    """
    options = {"stderr": subprocess.PIPE, "text": True} | options
    with subprocess.Popen(list(map(str, command)), **options) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait until a process ends; return its exit code and what it wrote to standard error."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def finished(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code; its output and errors are texts."""
    options = {"capture_output": True, "text": True, "timeout": PATIENCE} | options
    return subprocess.run(list(map(str, command)), check=False, **options)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with closing(socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
