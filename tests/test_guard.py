"""mismatch.serving.guard: what every request meets before and after its route."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mismatch.runtime.predictor import Predictor
from mismatch.serving.app import create_app
from tests.serving import image, problem, server, serving, settings_of, text64

PAIR = {"image": text64(image("red")), "text": "red"}


def test_a_request_keeps_the_id_that_it_came_with_if_that_is_harmless(colour_engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serving(Predictor(colour_engine())) as client, caplog.at_level(logging.INFO, "mismatch.serving"):
        assert client.get("/v1/model", headers={"x-request-id": "trace-1.a"}).headers["x-request-id"] == "trace-1.a"
        for wrong in ("a" * 65, "a b", '"}{'):
            given = client.get("/v1/model", headers={"x-request-id": wrong}).headers["x-request-id"]
            assert len(given) == 32
        client.post("/v1/predict", json=PAIR)
        client.get("/nowhere/secret")
    lines: list[Any] = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert lines[0]["id"] == "trace-1.a"
    assert (lines[-2]["route"], lines[-2]["model"], lines[-2]["pairs"]) == ("/v1/predict", "default", 1)
    assert (lines[-1]["route"], lines[-1]["status"]) == ("other", 404)


def test_other_sites_pages_may_ask_only_where_they_are_named(colour_engine: Any) -> None:
    asking = {"origin": "https://shop.test", "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for origins, allowed in (((), None), (("https://shop.test",), "https://shop.test")):
        with serving(Predictor(colour_engine()), origins=origins, tokens=("a" * 16,)) as client:
            assert client.options("/v1/predict", headers=asking).headers.get("access-control-allow-origin") == allowed
            assert client.post("/v1/predict", json=PAIR, headers={"origin": "https://shop.test"}).status_code == 401


def test_where_the_queue_is_full_a_body_is_not_even_parsed(colour_engine: Any) -> None:
    engine, go, begun = colour_engine(), threading.Event(), threading.Event()
    real = engine.encode_images
    engine.encode_images = lambda pixels: (begun.set(), go.wait(20), real(pixels))[2]
    with serving(Predictor(engine), queue=1, max_pairs=1, batch=1, wait=0.0) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.post, "/v1/predict", json=PAIR)]
        begun.wait(20)
        waiting.append(pool.submit(client.post, "/v1/predict", json=PAIR))
        while client.get("/readyz").json()["waiting"] < 1:
            time.sleep(0.01)
        refused = client.post("/v1/predict", content=b"this is no message")
        assert problem(refused)[0] == 503
        go.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert client.post("/v1/predict", content=b"this is no message").status_code == 422


def test_a_body_that_comes_too_slowly_is_given_up(colour_engine: Any) -> None:
    body = json.dumps(PAIR).encode()

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        for byte in body:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
            if reader._buffer:  # type: ignore[attr-defined]
                break
        said = await reader.read()
        writer.close()
        return said

    with server(Predictor(colour_engine()), deadline=0.3) as port:
        said = asyncio.run(ask(port))
    assert said.startswith(b"HTTP/1.1 504")
    assert b"send the body faster" in said


def test_a_client_that_goes_away_is_noted_and_not_answered(colour_engine: Any) -> None:
    """Its pair leaves the queue."""
    engine, go = colour_engine(), threading.Event()
    real = engine.encode_images
    engine.encode_images = lambda pixels: (go.wait(20), real(pixels))[1]
    app = create_app(*settings_of(Predictor(engine), batch=1, wait=0.0))
    body = json.dumps(PAIR).encode()
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"", "http_version": "1.1", "scheme": "http"}
    scope |= {"headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())], "client": ("a", 1), "server": ("b", 2)}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def work() -> str:
        metrics: Any = app.user_middleware[0].kwargs["metrics"]
        async with app.router.lifespan_context(app):
            tasks = [asyncio.create_task(app(dict(scope), receive, send)) for _ in range(3)]
            await asyncio.sleep(0.3)
            tasks[-1].cancel()
            await asyncio.gather(tasks[-1], return_exceptions=True)
            go.set()
            await asyncio.gather(*tasks[:-1])
            return str(metrics.text().decode())

    assert 'mismatch_requests_total{route="/v1/predict",status="499"} 1.0' in asyncio.run(work())
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [200, 200]
