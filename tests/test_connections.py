"""mismatch.serving.connections: the head of a request comes in time and in bounds, or the connection is closed."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from mismatch.runtime.predictor import Predictor
from tests.serving import image, post, server, text64

PAIR = {"image": text64(image("red")), "text": "red"}


@pytest.fixture
def port(colour_engine: Any) -> Iterator[int]:
    with server(Predictor(colour_engine()), header_deadline=0.5) as found:
        yield found


def closed(line: socket.socket) -> bool:
    """Whether the other side closes it, within ten seconds."""
    line.settimeout(10)
    with suppress(ConnectionError):
        while line.recv(65536):
            pass
    return True


def test_a_silent_or_slow_client_is_hung_up_on_and_others_are_served(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    slow = socket.create_connection(("127.0.0.1", port))
    with pytest.raises(OSError):  # noqa: PT012
        for byte in b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 1000:
            slow.send(bytes([byte]))
            time.sleep(0.02)
    assert post(f"http://127.0.0.1:{port}", "/v1/predict", PAIR)["prediction"] == "match"
    assert all(closed(line) for line in silent)
    for line in (*silent, slow):
        line.close()


def test_a_slow_second_head_on_a_kept_connection_is_hung_up_on_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as line:
        for _ in range(3):
            line.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += line.recv(65536)
            assert b"200 OK" in answer
        line.sendall(b"GET /hea")
        assert closed(line)


def test_a_huge_head_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as line, suppress(ConnectionError):
        line.sendall(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(10_000):
            line.sendall(b"a: " + b"b" * 1000 + b"\r\n")
        raise AssertionError("ten megabytes of a head were taken")
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read() == b"ok\n"


def test_a_body_that_takes_longer_than_a_head_may_is_no_matter(port: int) -> None:
    body = json.dumps(PAIR).encode()
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), len(body) // 5):
            line.sendall(body[start : start + len(body) // 5])
            time.sleep(0.2)
        assert b"200 OK" in line.recv(65536)
