"""mismatch.serving.connections: the head of a request comes in time and in bounds, or the
connection is closed.
"""

from __future__ import annotations

import asyncio
import json
import re
import select
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import uvicorn

from mismatch.runtime.predictor import Predictor
from mismatch.serving import connections
from mismatch.serving.app import create_app
from mismatch.serving.configuration import Settings
from mismatch.serving.connections import MAX_HEAD_BYTES, MAX_HEAD_LINES
from tests.support.processes import free_port
from tests.support.serving import image, post, running, server, settings_of, text64

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
        line.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type:"
            b" application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        for start in range(0, len(body), len(body) // 5):
            line.sendall(body[start : start + len(body) // 5])
            time.sleep(0.2)
        assert b"200 OK" in line.recv(65536)


BODY = json.dumps(PAIR).encode()
INNER = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
OFFERS = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    (
        b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key:"
        b" dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    ),
    b"Upgrade: foo, h2c\r\nConnection: keep-alive, upgrade\r\n",
    b"Upgrade: TLS/1.2\r\n",
)


def request(
    offer: bytes, body: bytes, path: bytes = b"/v1/predict", method: bytes = b"POST"
) -> tuple[bytes, bytes]:
    """Head and body."""
    kind = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return method + b" " + path + b" HTTP/1.1\r\nhost: a\r\n" + offer + kind, body


def answers(port: int, *pieces: bytes) -> list[bytes]:
    """Statuses of what comes back for pieces that are sent one after the other."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line, suppress(OSError):
        for piece in pieces:
            line.sendall(piece)
            time.sleep(0.1)
        line.shutdown(socket.SHUT_WR)
        while piece := line.recv(65536):
            said += piece
    return re.findall(rb"HTTP/1\.1 (\d+)", said)


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offered_upgrade_changes_nothing(port: int, offer: bytes) -> None:
    head, body = request(offer, BODY)
    assert answers(port, head + body) == [b"200"]
    assert answers(port, head, body) == [b"200"]
    assert answers(port, head, body[:9], body[9:], head + body, INNER) == [
        b"200",
        b"200",
        b"200",
    ], "the connection goes on"
    chunked = head.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
    assert answers(port, chunked, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")[0] == b"411"


@pytest.mark.parametrize("path", [b"/v1/predict", b"/nowhere"])
def test_a_body_is_never_the_next_request(port: int, path: bytes) -> None:
    for offer in OFFERS:
        head, body = request(offer, INNER, path)
        assert len(answers(port, head + body)) == 1
        assert len(answers(port, head, body)) == 1


@pytest.mark.slow
def test_nor_is_it_with_uvicorns_other_parser(colour_engine: Any) -> None:
    """`uvicorn mismatch.serving.app:app` with httptools: refused, as the body is lost there."""
    pytest.importorskip("httptools")
    port = free_port()
    app = create_app(*settings_of(Predictor(colour_engine())))
    found = uvicorn.Server(
        uvicorn.Config(app, port=port, http="httptools", log_config=None, access_log=False)
    )
    thread = threading.Thread(target=found.run)
    thread.start()
    while not found.started:
        time.sleep(0.01)
    try:
        for offer in OFFERS:
            for path in (b"/v1/predict", b"/nowhere", b"/v1/models", b"/healthz"):
                for method in (b"POST", b"GET", b"DELETE", b"OPTIONS"):
                    head, body = request(offer, INNER, path, method)
                    # none where the connection was reset
                    assert len(answers(port, head, body)) <= 1, (offer, path, method)
    finally:
        found.should_exit = True
        thread.join()


def test_who_still_sends_reads_the_answer(port: int) -> None:
    """A socket closed with bytes unread would reset the connection, and the answer with it."""
    head = b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(head + b" " * 2**20)
        time.sleep(0.3)
        said = line.recv(65536)
        assert said.startswith(b"HTTP/1.1 413")
        assert closed(line)


def test_nonsense_behind_an_answer_ends_the_connection_without_a_trace(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    chunked = b"POST /nowhere HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    for path in (b"/nowhere", b"/healthz", b"/v1/predict"):
        assert len(answers(port, chunked.replace(b"/nowhere", path), b"no chunk\r\n", b"more")) == 1
    assert answers(port, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nno request\r\n\r\n")[0] == b"200"
    assert answers(port, b"no request\r\n\r\n") == [b"400"]
    assert [record for record in caplog.records if record.exc_info] == []


def test_lengths_that_disagree_are_no_request(port: int) -> None:
    for lines in (
        b"content-length: 3\r\ncontent-length: 4\r\n",
        b"content-length: 3,4\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x3\r\n",
    ):
        said = answers(
            port, b"POST /v1/predict HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\nabc" + INNER
        )
        assert said in ([b"400"], [b"411"]), lines
    both = b"content-length: 3\r\ntransfer-encoding: chunked\r\n"
    assert answers(
        port, b"POST /v1/predict HTTP/1.1\r\nhost: a\r\n" + both + b"\r\n0\r\n\r\n" + INNER
    )[0] in (b"400", b"411")


LARGE = 16 * 2**20  # bytes, more than the kernel keeps for a connection
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Large:
    """An application with large answers, that counts what it is asked."""

    def __init__(self, size: int = LARGE) -> None:
        self.size = size
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        self.asked += 1
        length = str(self.size).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * self.size})


def not_reading(port: int, data: bytes) -> socket.socket:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    line.connect(("127.0.0.1", port))
    line.sendall(data)
    return line


def is_reset(line: socket.socket) -> bool:
    """Whether the other side ends it within ten seconds, though nothing is read from it."""
    poll = select.poll()
    poll.register(line, 0)  # errors and hang-ups alone
    return bool(poll.poll(10_000))


@pytest.mark.parametrize(
    "head", [GET * 100, GET, GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")]
)
def test_who_does_not_read_is_hung_up_on_and_asked_for_nothing_more(head: bytes) -> None:
    app = Large()
    with running(app, Settings("m", deadline=0.5)) as (found, port):
        lines = [not_reading(port, head) for _ in range(4)]
        assert all(is_reset(line) for line in lines)
        assert app.asked == 4, "what is behind an answer that is not read waits"
        for line in lines:
            line.close()
        until = time.monotonic() + 10
        while found.server_state.connections or found.server_state.tasks:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_who_reads_late_gets_all_answers_in_order() -> None:
    app = Large()
    with running(app, Settings("m")) as (_, port):
        for half_closed in (False, True):
            app.asked = 0
            with not_reading(port, GET * 2) as line:
                if half_closed:
                    line.shutdown(socket.SHUT_WR)
                time.sleep(0.3)
                assert app.asked == 1
                wanted = 2
                if not half_closed:
                    line.sendall(GET)
                    wanted = 3
                said = read_answers(line, wanted)
                assert said == wanted * LARGE
                assert app.asked == wanted


class Stubborn(Large):
    """An application that works on, whether its clients are there or not, until `go` is set."""

    def __init__(self) -> None:
        super().__init__(1)
        self.go = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" and scope["path"] == "/":
            self.asked += 1
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        await super().__call__(scope, receive, send)


def first_said(port: int, address: str) -> bytes:
    """What a new connection from an address is told, whether it asks for anything or not."""
    source = (address, 0)
    with socket.create_connection(("127.0.0.1", port), 30, source_address=source) as line:
        line.settimeout(0.5)
        with suppress(TimeoutError):
            return line.recv(100)
        line.sendall(GET.replace(b"/ HTTP", b"/other HTTP"))
        return line.recv(100)


def test_work_for_a_client_that_has_gone_counts_as_its_connection_and_keeps_no_other_out() -> None:
    app = Stubborn()
    with running(app, Settings("m", connections=8)) as (_, port), ExitStack() as stack:
        stack.callback(app.go.set)
        for number in range(4):
            line = not_reading(port, GET)
            while app.asked <= number:
                time.sleep(0.01)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, connections.RESET)
            line.close()
        time.sleep(0.1)
        assert b"503" in first_said(port, "127.0.0.1"), "half of the connections are its own"
        assert b"200" in first_said(port, "127.0.0.9")
        app.go.set()
        until = time.monotonic() + 10
        while b"200" not in first_said(port, "127.0.0.1"):
            assert time.monotonic() < until


def read_answers(line: socket.socket, count: int) -> int:
    """Bytes of the bodies of so many answers."""
    reader = line.makefile("rb")
    total = 0
    for _ in range(count):
        assert b"200" in reader.readline()
        while reader.readline() != b"\r\n":
            pass
        total += len(reader.read(LARGE))
    return total


def test_who_does_not_read_does_not_keep_it_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LEAVING", 0.3)
    app = Large()
    with running(app, Settings("m", deadline=300)) as (_, port):
        lines = [not_reading(port, GET * 3) for _ in range(4)]
        until = time.monotonic() + 10
        while app.asked < 4:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert all(is_reset(line) for line in lines)
    for line in lines:
        line.close()


@pytest.mark.parametrize(
    ("size", "status"),
    [(MAX_HEAD_BYTES, b"200"), (MAX_HEAD_BYTES + 1, b"400"), (MAX_HEAD_BYTES + 5000, b"400")],
)
@pytest.mark.parametrize("cut", [0, 100, MAX_HEAD_BYTES - 10])
def test_the_bound_of_a_head_is_exact_however_it_comes(
    port: int, size: int, status: bytes, cut: int
) -> None:
    start = b"GET /healthz HTTP/1.1\r\nhost: a\r\n"
    lines = b"a: " + b"b" * 1000 + b"\r\n"
    head = start + lines * ((size - len(start) - 100) // len(lines))
    head += b"c: " + b"d" * (size - len(head) - 7) + b"\r\n\r\n"
    assert len(head) == size
    pieces = [head[:cut], head[cut:]] if cut else [head]
    assert answers(port, *pieces) == [status]
    if not cut:
        first = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
        assert answers(port, first + head) == [b"200", status], "behind another request, too"


@pytest.mark.parametrize(
    ("lines", "status"), [(MAX_HEAD_LINES, b"200"), (MAX_HEAD_LINES + 1, b"400"), (16_000, b"400")]
)
def test_a_head_of_many_lines_is_refused_before_they_are_parsed(
    port: int, lines: int, status: bytes
) -> None:
    start = b"GET /healthz HTTP/1.1\r\nhost: a\r\n"
    head = start + b"a:\r\n" * (lines - 2) + b"\r\n"
    assert answers(port, head) == [status]
    assert answers(port, start + b"\r\n" + head) == [b"200", status]
    # one that is refused before it is whole may lose the answer
    assert answers(port, head[:-6], head[-6:]) in ([status], [] if status == b"400" else [status])


def half_closed(port: int, data: bytes) -> bytes:
    """What comes back where the client ends its side at once."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as line,
        suppress(ConnectionError),
    ):
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))
    return b""


def test_who_ends_its_side_behind_a_whole_request_is_answered(port: int) -> None:
    head, body = request(b"", BODY)
    get = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
    for data, count in ((head + body, 1), (get, 1), (get * 5, 5), (get + head + body + get, 3)):
        said = half_closed(port, data)
        assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"200"] * count
    assert re.findall(rb"HTTP/1\.1 (\d+)", half_closed(port, get + head + body[:9])) == [b"200"]
    assert half_closed(port, head + body[:9]) == b""
    assert half_closed(port, head[:20]) == b""
    assert half_closed(port, b"") == b""


def test_too_many_at_work_are_refused_in_words(colour_engine: Any) -> None:
    head, _ = request(b"", BODY)
    with server(Predictor(colour_engine()), connections=4) as port, ExitStack() as stack:
        lines = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(2)
        ]
        for line in lines:
            line.sendall(head)
        time.sleep(0.3)
        more = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        assert more.recv(65536).startswith(b"HTTP/1.1 503")
        elsewhere = stack.enter_context(
            socket.create_connection(
                ("127.0.0.1", port), timeout=30, source_address=("127.0.0.2", 0)
            )
        )
        elsewhere.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        assert elsewhere.recv(65536).startswith(b"HTTP/1.1 200")
