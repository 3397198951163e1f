"""mismatch.serving.listening: how many connections are accepted, and of whom."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import pytest

from mismatch.runtime.predictor import Predictor
from mismatch.serving.budget import UNKNOWN
from mismatch.serving.configuration import Settings
from mismatch.serving.listening import RESERVED, Connections, LoopFaults, connections_within_limits
from tests.support.paths import BUNDLE
from tests.support.serving import running, served_process, server


class One:
    """A connection."""

    def __init__(self, *, idle: bool = True) -> None:
        self.idle = idle
        self.dropped = False

    def is_idle(self) -> bool:
        return self.idle

    def drop(self) -> None:
        self.dropped = True


def test_a_clients_oldest_idle_connection_makes_room_for_its_next() -> None:
    connections = Connections(8)
    own = [One(idle=number != 0) for number in range(4)]
    assert all(connections.admit(one, "a") for one in own)
    assert connections.admit(One(), "a")
    assert [one.dropped for one in own] == [False, True, False, False], "the first is busy"
    assert len(connections) == 4


def test_a_client_whose_connections_are_all_busy_gets_no_more_and_others_do() -> None:
    connections = Connections(8)
    own = [One(idle=False) for _ in range(9)]
    assert [connections.admit(one, "a") for one in own] == [True] * 4 + [False] * 5
    assert connections.admit(One(), "b")
    assert not any(one.dropped for one in own)
    connections.discard(own[8], "a")  # never admitted
    connections.discard(own[0], "a")
    connections.discard(own[0], "a")
    assert len(connections) == 4
    assert connections.admit(own[8], "a")


def test_where_all_are_taken_the_client_with_the_most_makes_room() -> None:
    connections = Connections(8)
    first, many = One(), [One() for _ in range(4)]
    assert connections.admit(first, "first")
    assert all(connections.admit(one, "many") for one in many)
    assert all(connections.admit(One(), f"client {number}") for number in range(3))
    assert connections.admit(One(), "new")
    assert len(connections) == 8
    assert [first.dropped, many[0].dropped] == [False, True]


def test_no_room_is_made_where_all_are_busy() -> None:
    connections = Connections(4)
    assert all(connections.admit(One(idle=False), str(number)) for number in range(4))
    assert not connections.admit(One(), "new")
    assert len(connections) == 4


def test_clients_without_an_address_have_no_share() -> None:
    connections = Connections(8)
    assert all(connections.admit(One(idle=False), UNKNOWN) for _ in range(8))
    assert not connections.admit(One(), UNKNOWN)


def test_one_connection_is_enough_for_one_client() -> None:
    connections = Connections(1)
    assert connections.admit(One(), "a")
    assert connections.admit(One(), "b")
    assert len(connections) == 1


def test_the_event_loops_faults_are_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([10.0, *([10.5] * 2000), 11.2, 13.0])
    faults = LoopFaults(lambda: next(times))
    context: dict[str, Any] = {"message": "socket.accept() out of system resource"}
    context["exception"] = OSError(24, "Too many open files")
    loop: Any = None
    with caplog.at_level(logging.INFO, "mismatch.serving"):
        for _ in range(2002):
            faults(loop, context)
        faults(loop, {"message": "a bug", "exception": KeyError("x")})
    lines: list[Any] = [record.msg for record in caplog.records]
    assert [line["more"] for line in lines] == [0, 2000, 0]
    assert "Too many open files" in lines[0]["error"]
    assert [bool(record.exc_info) for record in caplog.records] == [False, False, True]


def test_the_server_has_that_handler(colour_engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = colour_engine()
    loops: list[asyncio.AbstractEventLoop] = []
    real = asyncio.BaseEventLoop.set_exception_handler
    with pytest.MonkeyPatch.context() as patch:

        def note(loop: asyncio.BaseEventLoop, handler: Any) -> None:
            loops.append(loop)
            real(loop, handler)

        patch.setattr(asyncio.BaseEventLoop, "set_exception_handler", note)
        with server(Predictor(engine)):
            pass
    assert isinstance(loops[0].get_exception_handler(), LoopFaults)


LIMITS = """
import logging, resource, sys
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from mismatch.serving.listening import connections_within_limits
print(connections_within_limits(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "limit", "raised"),
    [
        (512, 2048, 1000, 1000 + RESERVED),
        (512, 1024, 1024 - RESERVED, 1024),
        (2000, 2048, 1000, 2000),
        (100, 100, 50, 100),
    ],
)
def test_open_files_bound_the_connections(soft: int, hard: int, limit: int, raised: int) -> None:
    code = LIMITS.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(limit), str(raised)]
    assert (f"{limit} connections" in done.stderr) == (limit < 1000)


def test_few_connections_need_no_other_limit() -> None:
    assert connections_within_limits(1) == 1


class Echo:
    """An application that answers with the address of its client and the scheme."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = f"{scope['client'][0]} {scope['scheme']}".encode()
        await send({"type": "http.response.body", "body": body})


def test_no_client_says_who_it_is_itself() -> None:
    headers = {"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https"}
    with running(Echo(), Settings("m")) as (_, port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)
        assert urllib.request.urlopen(request, timeout=30).read() == b"127.0.0.1 http"


def test_idle_connections_keep_nobody_out(colour_engine: Any) -> None:
    with (
        server(Predictor(colour_engine()), connections=8, header_deadline=60) as port,
        ExitStack() as stack,
    ):
        for _ in range(40):
            stack.enter_context(create_connection(("127.0.0.1", port), timeout=30))
        address = f"http://127.0.0.1:{port}/healthz"
        assert urllib.request.urlopen(address, timeout=30).read() == b"ok\n"


def test_below_the_limit_of_open_files_it_goes_on_and_logs_json() -> None:
    with (
        served_process("--model", BUNDLE, shell="ulimit -n 300") as (process, address),
        ExitStack() as stack,
    ):
        port = urlsplit(address).port
        for _ in range(500):
            stack.enter_context(create_connection(("127.0.0.1", port), timeout=30))
        said = urllib.request.urlopen(f"{address}/healthz", timeout=30).read()
        process.terminate()
        written = process.stderr.read() if process.stderr else ""
    assert said == b"ok\n"
    rows = written.splitlines()
    entries = [json.loads(row) for row in rows if row.startswith("{")]
    assert [entry for entry in entries if "150 connections" in entry.get("message", "")]
    assert len(rows) < 20
    assert "Traceback" not in written
