"""Connections to hosts: each to a network address that was checked, until a time that holds however
slowly a host sends; those that wait for a further request; and how a name becomes an address.
"""

from __future__ import annotations

import http.client
import itertools
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

__all__ = ["IdleConnections", "PinnedConnection", "cut_off", "resolved"]

MAX_IDLE = 64  # connections that wait, of all hosts
Place = tuple[str, str, int]  # scheme, host and port


class PinnedConnection(http.client.HTTPConnection):
    """A connection to a given network address, that speaks to the host by its name."""

    def __init__(
        self, host: str, port: int, address: str, *, trust: ssl.SSLContext | None, until: float
    ) -> None:
        """Take the host's name and its network `address`; `trust`: for https; `until`: of
        `time.monotonic`, when the request ends.
        """
        super().__init__(host, port)
        self._address = address
        self._trust = trust
        self.until = until
        self.is_whole = False  # whether the last answer was read to its end, and more may follow
        # the socket, which http.client forgets where the host says that it closes the connection
        self.line: socket.socket | None = None

    def begin(self, until: float) -> None:
        """Begin a further request, which ends at `until`."""
        self.until = until
        if self.line is not None:
            self.line.settimeout(self._left())

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), timeout=self._left())
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._trust is not None:
            self.sock = self._trust.wrap_socket(self.sock, server_hostname=self.host)
        self.line = self.sock
        # `cut_off` may have come before there was a line to cut
        if time.monotonic() >= self.until:
            self.sock.close()
            raise TimeoutError

    def cut(self) -> None:
        """End what runs over it, from any thread."""
        with suppress(OSError):  # closed already
            if self.line is not None:
                self.line.shutdown(socket.SHUT_RDWR)

    def _left(self) -> float:
        return max(0.01, self.until - time.monotonic())


class IdleConnections:
    """Connections by where they lead. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Place, list[PinnedConnection]] = {}
        self._count = 0  # of those that wait
        self._used: set[PinnedConnection] = set()
        self._closed = False

    def take(self, place: Place) -> PinnedConnection | None:
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

    def put(self, place: Place, connection: PinnedConnection) -> None:
        """Keep a connection whose answer was read to its end."""
        with self._lock:
            if not self._closed and self._count < MAX_IDLE:
                self._waiting.setdefault(place, []).append(connection)
                self._count += 1
                return
        connection.close()

    @contextmanager
    def in_use(self, connection: PinnedConnection) -> Iterator[None]:
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
            waiting = list(itertools.chain.from_iterable(self._waiting.values()))
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


@contextmanager
def cut_off(connection: PinnedConnection) -> Iterator[None]:
    """Cut the host's line when its time has passed, however slowly it sends; a socket's own timeout
    begins again with each byte.
    """
    timer = threading.Timer(max(0.0, connection.until - time.monotonic()), connection.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def resolved(host: str, port: int, until: float) -> list[str]:
    """Return the addresses of a name; TimeoutError at `until`.

    The operating system's resolver has no limit that a caller may set, so it runs in a thread of
    its own, which is left behind where it takes longer.
    """
    answer: Future[list[str]] = Future()

    def resolve() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.set_result([str(entry[4][0]) for entry in entries])
        except (OSError, ValueError, UnicodeError) as error:
            answer.set_exception(error)

    threading.Thread(target=resolve, name="mismatch-resolving", daemon=True).start()
    return answer.result(max(0.0, until - time.monotonic()))
