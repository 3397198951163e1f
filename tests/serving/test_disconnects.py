"""mismatch.serving.disconnects: nothing goes on for a client that has gone away."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.request import urlopen

import pytest

from mismatch.errors import InputError
from mismatch.runtime.predictor import Predictor
from mismatch.serving.disconnects import ended_by_disconnect, together
from mismatch.serving.images import ImageDecoder
from tests.support.serving import image, server, text64

RESET = struct.pack("ii", 1, 0)
ROUTES = ("/v1/predict", "/v1/predict/batch", "/v1/explain")


def message(route: str, url: str | None) -> bytes:
    """A request's body, with its image or with the image's address."""
    if route == "/v1/predict/batch":
        pairs = [{"image": "a", "text": "a"}] * 3
        key, value = ("images", text64(image())) if url is None else ("image_urls", url)
        return json.dumps({key: {"a": value}, "texts": {"a": "red"}, "pairs": pairs}).encode()
    key, value = ("image", text64(image())) if url is None else ("image_url", url)
    return json.dumps({key: value, "text": "red"}).encode()


def send(port: int, route: str, body: bytes) -> socket.socket:
    head = f"POST {route} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    line = socket.create_connection(("127.0.0.1", port), timeout=30)
    line.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    return line


def reset(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    line.close()


def wait_for(port: int, line: str) -> None:
    """Until a line is among the metrics."""
    until = time.monotonic() + 5
    while line not in urlopen(f"http://127.0.0.1:{port}/metrics").read().decode():
        assert time.monotonic() < until, line
        time.sleep(0.02)


class Stage:
    """A stage of the work that never ends by itself; `begun` is set when it is reached."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.cancelled = 0
        self.url: str | None = None
        self.options: dict[str, Any] = {"deadline": 30.0, "fetch_seconds": 30.0}

    def block(self, *_: Any) -> None:
        self.begun.set()
        self.go.wait(20)

    async def decode(self, *_: Any) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


@contextmanager
def stuck(name: str, engine: Any, patch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage()
    with ExitStack() as stack:
        if name == "fetch":
            host = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            where = f"127.0.0.1:{host.getsockname()[1]}"
            stage.url = f"http://{where}/a.png"
            stage.options |= {"fetch": (where,), "fetch_networks": ("127.0.0.0/8",)}
            host.settimeout(20)

            def accept() -> None:
                with host.accept()[0]:
                    stage.block()

            thread = threading.Thread(target=accept)
            thread.start()
            stack.callback(thread.join)
        elif name == "decode":
            patch.setattr(ImageDecoder, "_decoded", stage.decode)
        else:
            real = engine.encode_images

            def encode_images(pixels: Any) -> Any:
                stage.block()
                return real(pixels)

            engine.encode_images = encode_images
        stack.callback(stage.go.set)
        yield stage


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", ["fetch", "decode", "score"])
def test_what_is_done_for_a_client_ends_when_it_resets_its_connection(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch, route: str, name: str
) -> None:
    engine = colour_engine()
    with (
        stuck(name, engine, monkeypatch) as stage,
        server(Predictor(engine), **stage.options) as port,
    ):
        line = send(port, route, message(route, stage.url))
        assert stage.begun.wait(20)
        reset(line)
        wait_for(port, f'mismatch_requests_total{{route="{route}",status="499"}} 1.0')
        if name == "decode":
            assert stage.cancelled == 1
        stage.go.set()


def test_a_pair_that_waits_leaves_the_queue_with_its_client(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = colour_engine()
    with (
        stuck("score", engine, monkeypatch) as stage,
        server(Predictor(engine), batch=1, wait=0.0) as port,
    ):
        lines = [send(port, "/v1/predict", message("/v1/predict", None)) for _ in range(3)]
        wait_for(port, 'mismatch_queue_pairs{model="default"} 2.0')
        for line in lines:
            reset(line)
        wait_for(port, 'mismatch_queue_pairs{model="default"} 0.0')
        stage.go.set()


class Client:
    """Sends a body of two pieces, and goes when `gone` is set."""

    def __init__(self) -> None:
        self.pieces = [b"a", b"b"]
        self.gone = asyncio.Event()

    async def receive(self) -> Any:
        if not self.pieces:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        body = self.pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.pieces)}


def test_only_a_whole_body_is_followed_by_a_watch_and_an_answer_ends_it() -> None:
    async def ended(client: Client) -> None:
        with ended_by_disconnect(client.receive, lambda: False) as receive:
            assert (await receive())["body"] == b"a"
            assert client.pieces == [b"b"], "nothing is read ahead of the application"
            assert (await receive())["body"] == b"b"
            client.gone.set()
            assert (await receive())["type"] == "http.disconnect"
            raise AssertionError("it goes on")

    async def work() -> None:
        await ended(Client())
        client = Client()
        with ended_by_disconnect(client.receive, lambda: True) as receive:
            await receive()
            await receive()
            client.gone.set()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    asyncio.run(work())


def test_who_cancels_the_request_itself_is_obeyed() -> None:
    async def request(client: Client) -> None:
        with ended_by_disconnect(client.receive, lambda: False) as receive:
            await receive()
            await receive()
            await asyncio.Event().wait()

    async def work() -> None:
        task = asyncio.create_task(request(Client()))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(work())


def test_an_error_of_one_ends_what_is_done_with_it_before_it_is_raised() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            ended.append("long")

    async def wrong() -> None:
        await asyncio.sleep(0)
        raise InputError("no")

    async def work() -> None:
        with pytest.raises(InputError):
            await together([long(), wrong(), long()])
        assert ended == ["long", "long"]

    asyncio.run(work())
