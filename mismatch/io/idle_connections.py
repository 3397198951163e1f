"""Connections that wait for a further request to the same host."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from mismatch.io.web import PinnedConnection

__all__ = ["IdleConnections"]

MAX_IDLE = 64  # connections that wait, of all hosts
Place = tuple[str, str, int]  # scheme, host and port
Connection = TypeVar("Connection", bound="PinnedConnection")


class IdleConnections(Generic[Connection]):
    """Connections by where they lead. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Place, list[Connection]] = {}
        self._count = 0  # of those that wait
        self._used: set[Connection] = set()
        self._closed = False

    def take(self, place: Place) -> Connection | None:
        """Return a connection on which nothing has come; None where there is none."""
        while True:
            with self._lock:
                connections = self._waiting.get(place)
                if not connections:
                    return None
                connection = connections.pop()
                self._count -= 1
            if _is_quiet(connection):
                return connection
            connection.close()

    def put(self, place: Place, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        with self._lock:
            if not self._closed and self._count < MAX_IDLE:
                self._waiting.setdefault(place, []).append(connection)
                self._count += 1
                return
        connection.close()

    @contextmanager
    def in_use(self, connection: Connection) -> Iterator[None]:
        """Let `close` cut a connection until the block ends; ConnectionError once that was done."""
        with self._lock:
            if self._closed:
                raise ConnectionError("the client is closed")
            self._used.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._used.discard(connection)

    def close(self) -> None:
        """Close what waits, cut what is in use, and keep nothing from now on."""
        with self._lock:
            self._closed = True
            waiting = [one for connections in self._waiting.values() for one in connections]
            self._waiting.clear()
            self._count = 0
            used = list(self._used)
        for connection in waiting:
            connection.close()
        for connection in used:
            connection.cut()


def _is_quiet(connection: PinnedConnection) -> bool:
    """Return whether nothing has come on a connection since its last answer: neither its end, nor
    bytes beyond the length that the host named, which would be taken for the next answer.
    """
    if connection.line is None:
        return False
    try:
        poll = select.poll()
        poll.register(connection.line, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)
    except (OSError, ValueError, AttributeError):  # closed; systems without poll
        return False
