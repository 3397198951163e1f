"""mismatch.serving.fetching: images from addresses, against a real server that behaves badly."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from mismatch.errors import ImageError
from mismatch.io.web_connections import PinnedConnection
from mismatch.serving.budget import Budget
from mismatch.serving.fetch_turns import HOST_SHARE, SHARE
from mismatch.serving.fetching import Arrived, FairFetcher, Fetcher, ignored

FINISHED: list[str] = []  # paths that the host has sent slowly to their end
LOOPBACK = ("127.0.0.0/8",)
BAD_TARGETS = {
    "bracket": "http://[bad",
    "two-brackets": "http://[::1]]/",
    "zone": "http://[fe80::1%25x]/",
    "no-port": "http://localhost:port/",
    "large-port": "http://localhost:70000/",
    "signs": "http://local host/",
    "nothing": "http://",
    "long": "http://localhost/" + "a" * 3000,
    "long-host": "http://xn--" + "a" * 3000 + ".local.test/",
    "latin": "http://localhost/\xe9\xff",
    "script": "javascript:alert(1)",
    "word": "http://user@localhost/",
}


class Host(BaseHTTPRequestHandler):
    """Answers by its path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        self.close_connection = True
        if self.path.startswith("/ok"):
            self.answer(200, b"image bytes")
        elif self.path.startswith("/to/"):
            target = {
                "ok": "/ok",
                "itself": "/to/itself",
                "elsewhere": "http://elsewhere.test/ok",
                "file": "file:///etc/passwd",
                "metadata": "http://169.254.169.254/",
                **BAD_TARGETS,
            }
            self.answer(302, b"", location=target.get(self.path[4:], f"http://localhost:{port}/ok"))
        elif self.path == "/nowhere":
            self.answer(302, b"")
        elif self.path == "/caf%C3%A9?a=%C3%A9&b=%2F":
            self.answer(200, b"image bytes")
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 65536)
        elif self.path.startswith("/slow?") or self.path == "/slow":
            self.send_response(200)
            if self.path == "/slow?closing":
                self.send_header("connection", "close")
            self.send_header("content-length", "1000")
            self.end_headers()
            with suppress(OSError):
                for _ in range(1000):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
                FINISHED.append(self.path)
        elif self.path == "/slow-without-length":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
                FINISHED.append(self.path)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b"x")
        else:
            self.answer(404, b"/secret/path")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def fetcher(port: int, networks: Any = LOOPBACK, **options: Any) -> Fetcher:
    return Fetcher(
        [f"localhost:{port}", f"*.local.test:{port}"],
        networks,
        **{"seconds": 5.0, "max_bytes": 1000} | options,
    )


def test_an_address_may_have_letters_of_any_script(port: int) -> None:
    """They are escaped as browsers do; what is escaped already stays."""
    assert fetcher(port)(f"http://localhost:{port}/caf\xe9?a=\xe9&b=%2F") == b"image bytes"


def test_an_allowed_image_comes_whole_also_by_a_redirect(port: int) -> None:
    fetch = fetcher(port)
    for path in ("/ok", "/ok?size=2", "/to/ok", "/to/whole"):
        assert fetch(f"http://localhost:{port}{path}") == b"image bytes"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absent", "the image's host answered 404"),
        ("/to/itself", "leads on more than 3 times"),
        ("/nowhere", "answered 302 without an address"),
        ("/to/elsewhere", "leads on to one from which nothing is fetched"),
        ("/to/file", "leads on to one from which nothing is fetched"),
        ("/to/metadata", "leads on to one from which nothing is fetched"),
        ("/endless", "more than 1,000 bytes"),
        ("/short", "could not be fetched"),
    ],
)
def test_what_a_host_may_not_do(port: int, path: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as error:
        fetcher(port)(f"http://localhost:{port}{path}")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("path", ["/slow", "/slow?closing", "/slow-without-length"])
def test_a_host_that_sends_byte_by_byte_is_cut_off(port: int, path: str) -> None:
    with pytest.raises(ImageError, match=r"within 0\.3 seconds"):
        fetcher(port, seconds=0.3)(f"http://localhost:{port}{path}")
    assert path not in FINISHED, "it was cut off, not waited for"


def test_a_handshake_byte_by_byte_is_cut_off() -> None:
    sent: list[int] = []

    def drip(listening: socket.socket) -> None:
        line, _ = listening.accept()
        with line, suppress(OSError):
            line.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")
            for number in range(400):
                line.sendall(b"x")
                sent.append(number)
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(ImageError, match=r"within 0\.3 seconds"):
            fetcher(port, seconds=0.3)(f"https://localhost:{port}/ok")
        assert len(sent) < 400, "it was cut off, not waited for"
        thread.join()
    assert len(sent) < 400


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_a_redirect_to_what_is_no_address_is_the_hosts_fault(port: int, name: str) -> None:
    with pytest.raises(ImageError):
        fetcher(port)(f"http://localhost:{port}/to/{name}")


def test_no_client_takes_all_threads() -> None:
    """While one client waits for many slow hosts, another one's image comes."""
    gate = threading.Event()
    started: list[str] = []

    def slow(url: str, arrived: Arrived) -> bytes:
        started.append(url)
        if url.startswith("slow"):
            gate.wait(20)
        return b"x"

    async def work() -> None:
        budget = Budget(10**6, 10**6)
        fetch = FairFetcher(slow, 10**6)

        async def ask(client: str, url: str) -> bytes:
            with budget.account(client):
                return await fetch(url)

        waiting = [asyncio.create_task(ask("hostile", f"slow {number}")) for number in range(256)]
        await asyncio.sleep(0.1)
        assert len(started) == SHARE
        assert await asyncio.wait_for(ask("other", "quick"), 10) == b"x"
        for task in waiting[20:]:
            task.cancel()  # its request is given up
        gate.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert done[:20] == [b"x"] * 20
        assert len(started) == 21
        assert budget.held == 0
        await fetch.close()

    asyncio.run(work())


def test_no_host_takes_all_threads_under_whichever_name() -> None:
    """Names below `*.slow.test` are one host's; what is fetched elsewhere comes meanwhile."""
    gate = threading.Event()
    started: list[str] = []

    class Slow(Fetcher):
        def __call__(self, url: str, arrived: Arrived = ignored) -> bytes:
            started.append(url)
            if "SLOW" in url:
                gate.wait(20)
            return b"x"

    async def work() -> None:
        budget = Budget(10**6, 10**6)
        fetch = FairFetcher(Slow(["*.slow.test", "quick.test"], seconds=5, max_bytes=10), 10**6)

        async def ask(client: int, url: str) -> bytes:
            with budget.account(f"client {client}"):
                return await fetch(url)

        urls = [f"http://{number}.SLOW.test:80/{number}" for number in range(8)]
        waiting = [asyncio.create_task(ask(c, url)) for c in range(40) for url in urls]
        await asyncio.sleep(0.1)
        assert len(started) == HOST_SHARE
        assert await asyncio.wait_for(ask(1, "https://quick.test/"), 10) == b"x"
        assert await asyncio.wait_for(ask(99, "https://quick.test/"), 10) == b"x"
        gate.set()
        assert await asyncio.gather(*waiting) == [b"x"] * 320
        await fetch.close()

    asyncio.run(work())


def test_a_thread_is_free_only_when_its_fetch_has_ended() -> None:
    """Not when the request is given up: what is begun then would wait behind it."""
    gate = threading.Event()
    running: list[str] = []

    def slow(url: str, arrived: Arrived) -> bytes:
        running.append(url)
        gate.wait(20)
        return b"x"

    async def work() -> None:
        fetch = FairFetcher(slow, 10**6)
        first = [asyncio.create_task(fetch(str(number))) for number in range(SHARE)]
        await asyncio.sleep(0.1)
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)
        second = asyncio.create_task(fetch("second"))
        await asyncio.sleep(0.1)
        assert "second" not in running
        gate.set()
        assert await asyncio.wait_for(second, 10) == b"x"
        await fetch.close()

    asyncio.run(work())


def test_the_images_of_one_request_are_bounded_together() -> None:
    def fetched(url: str, arrived: Arrived) -> bytes:
        arrived(40)
        return b"x" * 40

    async def work() -> None:
        budget = Budget(1000, 100)
        fetch = FairFetcher(fetched, 100)
        with budget.account("a"):
            assert len(await fetch("1")) + len(await fetch("2")) == budget.held
            with pytest.raises(ImageError, match="more than 100 bytes"):
                await fetch("3")
        assert budget.held == 0
        await fetch.close()

    asyncio.run(work())


def test_an_image_counts_while_it_comes_and_ends_where_no_more_may() -> None:
    """Of 8 x 40 bytes that come for two clients at a time, no more are held than all may."""
    pieces: list[str] = []
    gate = threading.Event()

    def slow(url: str, arrived: Arrived) -> bytes:
        for _ in range(8):
            arrived(40)
            pieces.append(url)
            gate.wait(0.05)
        return b"x" * 320

    async def work() -> None:
        budget = Budget(500, 400)
        fetch = FairFetcher(slow, 10**6)

        async def ask(client: str) -> bytes:
            with budget.account(client):
                return await fetch(client)

        tasks = [asyncio.create_task(ask(client)) for client in "ab"]
        await asyncio.sleep(0.2)
        assert 0 < budget.held <= 500
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(one, HTTPException) and one.status_code == 503 for one in done)
        assert len(pieces) < 16
        assert budget.held == 0
        await fetch.close()

    asyncio.run(work())


def test_a_name_that_is_not_found_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: gate.wait(20) and [])
    fetch = Fetcher(["images.test"], seconds=0.1, max_bytes=10)
    with pytest.raises(ImageError, match=r"'images.test' was not found within 0.1 seconds"):
        fetch("http://images.test/a.png")
    gate.set()


def test_private_networks_are_refused_whatever_their_name(port: int) -> None:
    with pytest.raises(ImageError, match="lies in a network from which nothing is fetched"):
        fetcher(port, networks=())(f"http://localhost:{port}/ok")
    for address in (
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "224.0.0.1",
        "100.64.0.1",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::7f00:1]",
        "[::ffff:0:7f00:1]",
        "[fec0::1]",
    ):
        host = address.strip("[]")
        with pytest.raises(ImageError, match="network from which nothing is fetched"):
            Fetcher([host], seconds=1, max_bytes=10)(f"http://{address}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/ok",  # another port
        "http://evil.test/",
        "http://localhost.evil.test/",
        "http://evillocal.test/",
        "ftp://localhost/ok",
        "//localhost/ok",
        "localhost/ok",
        "http:///ok",
        "http://user:word@localhost/ok",
        "http://[::1/",
        "http://localhost:99999/",
        "",
        "javascript:alert(1)",
        "http://localhost\\@evil.test/",
    ],
)
def test_other_addresses_are_refused_unasked(port: int, url: str) -> None:
    with pytest.raises(ImageError, match=r"the image's address|not fetched from"):
        fetcher(port)(url)


def test_a_line_break_in_a_path_reaches_no_host(port: int) -> None:
    with pytest.raises(ImageError):
        fetcher(port)(f"http://localhost:{port}/a b")


def test_a_host_that_is_connected_to_after_the_time_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.create_connection

    def late(*args: Any, **more: Any) -> socket.socket:
        line = real(*args, **more)
        time.sleep(0.1)
        return line

    monkeypatch.setattr(socket, "create_connection", late)
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
        until = time.monotonic() + 0.05
        connection = PinnedConnection("a", port, "127.0.0.1", trust=None, until=until)
        with pytest.raises(TimeoutError):
            connection.connect()
        assert connection.sock.fileno() == -1
