"""mismatch.io.web_connections: connections to addresses that were checked."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from mismatch.io.web_connections import IdleConnections, PinnedConnection, cut_off, resolved

PLACE = ("http", "shop.test", 80)


def connected(port: int, seconds: float = 5.0) -> PinnedConnection:
    until = time.monotonic() + seconds
    connection = PinnedConnection("shop.test", port, "127.0.0.1", trust=None, until=until)
    connection.connect()
    return connection


def test_one_that_is_quiet_is_used_again_and_one_that_spoke_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        idle = IdleConnections()
        connection = connected(server.getsockname()[1])
        other_end, _ = server.accept()
        assert idle.take(PLACE) is None
        idle.put(PLACE, connection)
        assert idle.take(("http", "other.test", 80)) is None
        assert idle.take(PLACE) is connection
        other_end.sendall(b"HTTP/1.1 200 OK\r\n")  # an answer to nothing
        time.sleep(0.05)
        idle.put(PLACE, connection)
        assert idle.take(PLACE) is None
        other_end.close()


def test_closing_ends_what_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        idle = IdleConnections()
        connection = connected(server.getsockname()[1])
        with idle.in_use(connection):
            idle.close()
            assert connection.sock.recv(1) == b""
        with pytest.raises(ConnectionError), idle.in_use(connection):
            pass
        idle.put(PLACE, connection)
        assert idle.take(PLACE) is None


def test_a_line_is_cut_at_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = connected(server.getsockname()[1], 0.2)
        connection.sock.settimeout(10)
        with cut_off(connection):
            assert connection.sock.recv(1) == b""
        connection.close()


def test_a_name_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: gate.wait(20) and [])
    with pytest.raises(TimeoutError):
        resolved("shop.test", 80, time.monotonic() + 0.05)
    gate.set()
