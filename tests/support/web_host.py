"""A host of images on the loopback that behaves well or badly, by the path that is asked for."""

from __future__ import annotations

import io
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["LOOPBACK", "WebHost", "coloured", "web_host"]

LOOPBACK = ("127.0.0.0/8", "::1/128")
HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"


def coloured(name: str, kind: str = "PNG") -> bytes:
    """Return a picture of one colour, encoded; of a name that is no colour, grey."""
    colour = name if name in ("red", "green", "blue", "white", "black") else "grey"
    file = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(file, kind)
    return file.getvalue()


class WebHost:
    """What a test says and asks of the host.

    `/NAME.png`: a picture, with an ETag. `/status/404/…`, `/slow/SECONDS/NAME.png`,
    `/twice/STATUS/…`: that status two times, then a picture. `/wait/SECONDS/…`: 429 with
    Retry-After, once. `/short/…`: breaks off in the middle, `/long/…`: sends more than it names.
    `/to/…`: redirects. `/page`, `/empty`, `/huge`, `/endless`, `/chunked/NAME.png`, `/garbage`.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.scheme = "http"
        self.requests: Counter[str] = Counter()
        self.conditional: Counter[str] = Counter()  # requests that name an ETag
        self.connections = 0
        self.most_at_once = 0
        self.versions: Counter[str] = Counter()  # of a picture's ETag; raise it to change one
        self._now = 0
        self._lock = threading.Lock()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"{self.scheme}://localhost:{self.port}/{path.lstrip('/')}"

    def begin(self, path: str, *, conditional: bool) -> int:
        """Count a request; return how many came for this path."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.requests[path] += 1
            self.conditional[path] += conditional
            return self.requests[path]

    def end(self) -> None:
        """Note that a request was answered."""
        with self._lock:
            self._now -= 1


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    host: WebHost

    def setup(self) -> None:
        super().setup()
        self.host.connections += 1

    def do_GET(self) -> None:
        """Answer by the path's first part."""
        asked = self.headers.get("If-None-Match") is not None
        count = self.host.begin(self.path, conditional=asked)
        try:
            with suppress(OSError):
                self._route(count)
        finally:
            self.host.end()

    def _route(self, count: int) -> None:
        plain = self.path.partition("?")[0]
        first, *rest = plain.strip("/").split("/")
        if first == "status":
            self._answer(int(rest[0]), HTML)
        elif first == "twice" and count <= 2:
            self._answer(int(rest[0]), b"")
        elif first == "wait" and count == 1:
            self._answer(429, b"", **{"Retry-After": rest[0]})
        elif first == "slow":
            time.sleep(float(rest[0]))
            self._picture()
        elif first in ("short", "long"):
            data = coloured("red")
            length = len(data) + 500 if first == "short" else len(data) // 2
            self._answer(200, data, **{"Content-Length": str(length)})
            self.close_connection = first == "short"
        elif first == "to":
            self._redirect(rest)
        elif first == "chunked":
            self._chunked()
        elif first in ("page", "empty", "garbage", "svg"):
            bodies = {"page": HTML, "empty": b"", "garbage": b"\x01\x02" * 50, "svg": b"<svg/>"}
            self._answer(200, bodies[first])
        elif first in ("huge", "endless"):
            self._without_end(names_length=first == "huge")
        else:
            self._picture()

    def _redirect(self, rest: list[str]) -> None:
        targets = {
            "itself": self.path,
            "metadata": "http://169.254.169.254/latest",
            "private": "http://10.0.0.1/a.png",
            "file": "file:///etc/passwd",
            "credentials": f"http://user:word@localhost:{self.host.port}/red.png",
        }
        self._answer(302, b"", Location=targets.get(rest[0], "/" + "/".join(rest)))

    def _picture(self) -> None:
        name = self.path.partition("?")[0].rsplit("/", 1)[-1].partition(".")[0]
        data = coloured(name) + str(self.host.versions[self.path]).encode()
        etag = f'"{name}-{self.host.versions[self.path]}"'
        if self.headers.get("If-None-Match") == etag:
            self._answer(304, b"", ETag=etag)
        else:
            self._answer(200, data, ETag=etag)

    def _chunked(self) -> None:
        data = coloured(self.path.rsplit("/", 1)[-1].partition(".")[0])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(data), 20):
            piece = data[start : start + 20]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _without_end(self, *, names_length: bool) -> None:
        self.close_connection = True
        self.send_response(200)
        if names_length:
            self.send_header("Content-Length", str(2**40))
        self.end_headers()
        while True:
            self.wfile.write(b"\xff" * 65_536)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *args: Any) -> None:
        """Say nothing of clients that go away."""


@contextmanager
def web_host(certificate: Path | None = None) -> Iterator[WebHost]:
    """Yield a host that answers until the block ends; with a `certificate`, a PEM file with its
    key, by https.
    """

    class Handler(_Handler):
        """That of this host."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        host = WebHost(server.server_address[1])
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            host.scheme = "https"
        Handler.host = host
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield host
        finally:
            server.shutdown()
            thread.join()
