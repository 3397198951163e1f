"""mismatch.serving.guard: what every request meets before and after its route."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from typing import Any
from urllib.request import urlopen

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from mismatch.runtime.predictor import Predictor
from mismatch.serving.app import create_app
from mismatch.serving.batching import FullError
from mismatch.serving.budget import current_client
from mismatch.serving.configuration import Settings
from mismatch.serving.guard import MAX_QUERY_BYTES, Guard
from mismatch.serving.images import ImageDecoder
from mismatch.serving.problems import add_handlers
from mismatch.serving.telemetry import Metrics
from tests.support.serving import image, post, problem, server, serving, settings_of, text64

PAIR = {"image": text64(image("red")), "text": "red"}


def test_a_request_keeps_the_id_that_it_came_with_if_that_is_harmless(
    colour_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serving(Predictor(colour_engine())) as client,
        caplog.at_level(logging.INFO, "mismatch.serving"),
    ):
        assert (
            client.get("/v1/model", headers={"x-request-id": "trace-1.a"}).headers["x-request-id"]
            == "trace-1.a"
        )
        for wrong in ("a" * 65, "a b", '"}{'):
            given = client.get("/v1/model", headers={"x-request-id": wrong}).headers["x-request-id"]
            assert len(given) == 32
        client.request("A" * 9_000, "/v1/model")
        client.post("/v1/predict", json=PAIR)
        client.get("/nowhere/secret")
    lines: list[Any] = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert lines[0]["id"] == "trace-1.a"
    assert lines[-3]["method"] == "A" * 20
    assert (lines[-2]["route"], lines[-2]["model"], lines[-2]["pairs"]) == (
        "/v1/predict",
        "default",
        1,
    )
    assert (lines[-1]["route"], lines[-1]["status"]) == ("other", 404)


def test_other_sites_pages_may_ask_only_where_they_are_named(colour_engine: Any) -> None:
    asking = {
        "origin": "https://shop.test",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    for origins, allowed in (((), None), (("https://shop.test",), "https://shop.test")):
        with serving(Predictor(colour_engine()), origins=origins, tokens=("a" * 16,)) as client:
            assert (
                client.options("/v1/predict", headers=asking).headers.get(
                    "access-control-allow-origin"
                )
                == allowed
            )
            assert (
                client.post(
                    "/v1/predict", json=PAIR, headers={"origin": "https://shop.test"}
                ).status_code
                == 401
            )


def test_an_allowed_origins_page_reads_refusals_too(colour_engine: Any) -> None:
    origin = "https://shop.test"
    bearer = {"authorization": "Bearer " + "a" * 16}
    options: Any = {"origins": (origin,), "tokens": ("a" * 16,), "max_body": 1000}
    with serving(Predictor(colour_engine()), **options) as client:

        def asked(**headers: str) -> Any:
            return client.post("/v1/predict", content=b"x" * 2000, headers=headers)

        answers = [
            asked(origin=origin),
            asked(origin=origin, **bearer),
            asked(origin=origin, host="evil.test", **bearer),
            asked(origin=origin, **bearer, **{"transfer-encoding": "chunked"}),
            client.get("/v1/model", headers={"origin": origin} | bearer),
        ]
        assert [answer.status_code for answer in answers] == [401, 413, 421, 411, 200]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["vary"] == "Origin"
        others = asked(origin="https://evil.test", **bearer)
        assert others.status_code == 403
        assert "access-control-allow-origin" not in others.headers
        question = {"origin": origin, "access-control-request-method": "POST"}
        assert client.options("/v1/predict", headers=question).status_code == 200
        elsewhere = client.options("/v1/predict", headers=question | {"host": "evil.test"})
        assert elsewhere.status_code == 421
        assert "access-control-allow-origin" not in elsewhere.headers


def hold(engine: Any, begun: threading.Event, go: threading.Event) -> None:
    """Let images wait for `go` before they are encoded."""
    real = engine.encode_images

    def encode_images(pixels: Any) -> Any:
        begun.set()
        go.wait(20)
        return real(pixels)

    engine.encode_images = encode_images


def test_where_the_queue_is_full_a_body_is_not_even_parsed(colour_engine: Any) -> None:
    engine, go, begun = colour_engine(), threading.Event(), threading.Event()
    hold(engine, begun, go)
    with (
        serving(Predictor(engine), queue=1, max_pairs=1, batch=1, wait=0.0) as client,
        ThreadPoolExecutor(2) as pool,
    ):
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

    head = (
        b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length:"
        b" %d\r\n\r\n" % len(body)
    )
    with (
        server(Predictor(colour_engine()), deadline=0.3) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as line,
    ):
        line.sendall(head)
        line.setblocking(False)
        said = b""
        for byte in body:  # also after the answer has come
            line.send(bytes([byte]))
            time.sleep(0.02)
            with suppress(BlockingIOError):
                said += line.recv(65536)
            if said:
                break
        line.setblocking(True)
        with suppress(ConnectionError):  # where this machine stood still in between
            line.sendall(body)
            while piece := line.recv(65536):
                said += piece
    assert said.startswith(b"HTTP/1.1 504")
    assert b"send the body faster" in said


TOKEN = "a" * 16
WITH_TOKEN = {"authorization": f"Bearer {TOKEN}"}
OPEN_ROUTES = ("/", "/page/main.js", "/healthz", "/readyz")
ROUTES = {
    "/v1/models": "GET",
    "/v1/model": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
    "/v1/predict": "POST",
    "/v1/predict/batch": "POST",
    "/v1/explain": "POST",
    "/v1/reload": "POST",
    "/extra": "GET",  # added by whoever embeds the application
}


@contextmanager
def below(prefix: str, way: str, predictor: Predictor, **options: Any) -> Iterator[TestClient]:
    """A client of the application, which a proxy or another application has below a prefix."""
    app = create_app(*settings_of(predictor, **options))
    app.add_api_route("/extra", lambda: "extra")
    outer, root = app, ""
    if way == "mounted":

        def lifespan(_: FastAPI) -> Any:
            return app.router.lifespan_context(app)

        outer = FastAPI(lifespan=lifespan)
        outer.mount(prefix, app)
    elif way == "root path":
        root = prefix
    with TestClient(outer, root_path=root, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("way", ["alone", "mounted", "root path"])
def test_all_routes_but_the_open_ones_need_a_token_wherever_the_application_is(
    colour_engine: Any, way: str
) -> None:
    prefix = "" if way == "alone" else "/match"
    with below(prefix, way, Predictor(colour_engine()), tokens=(TOKEN,)) as client:
        for path, method in ROUTES.items():
            for head in ({}, {"authorization": "Bearer " + "b" * 16}, {"authorization": TOKEN}):
                assert problem(client.request(method, prefix + path, headers=head))[0] == 401, path
            assert client.request(method, prefix + path, headers=WITH_TOKEN).status_code != 401, (
                path
            )
            assert client.request("DELETE", prefix + path).status_code == 401, path
        for path in OPEN_ROUTES:
            assert client.get(prefix + path).status_code == 200, path
        for odd in (
            "/v1/models/",
            "/v1//models",
            "/V1/models",
            "/v1%2Fmodels",
            "/x/../v1/models",
            "/match/match/v1/models",
        ):
            assert client.get(prefix + odd, follow_redirects=False).status_code in (
                307,
                401,
                404,
            ), odd
        assert (
            client.post(prefix + "/v1/predict", json=PAIR, headers=WITH_TOKEN).json()["prediction"]
            == "match"
        )


def test_figures_and_the_description_can_be_opened(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine()), tokens=(TOKEN,), open_routes=("/metrics",)) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/openapi.json").status_code == 401


@pytest.mark.parametrize(
    "said", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer   {}", "bEaReR {}  "]
)
def test_a_token_is_taken_in_each_spelling_of_its_scheme(colour_engine: Any, said: str) -> None:
    with serving(Predictor(colour_engine()), tokens=(TOKEN, "ключ-ключ-ключ-ключ")) as client:
        for token in (TOKEN, "ключ-ключ-ключ-ключ"):
            head = {b"authorization": said.format(token).encode()}
            assert client.get("/v1/models", headers=head).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic {}",
        "{}",
        "Bearer{}",
        "Bearer {}x",
        "Bearer x {}",
        "Bearer {},{}",
    ],
)
def test_anything_else_is_no_token(colour_engine: Any, said: str) -> None:
    with serving(Predictor(colour_engine()), tokens=(TOKEN,)) as client:
        assert (
            client.get(
                "/v1/models", headers={"authorization": said.format(TOKEN, TOKEN)}
            ).status_code
            == 401
        )


def test_where_no_lifespan_has_run_what_needs_models_is_503_in_words(colour_engine: Any) -> None:
    app = create_app(*settings_of(Predictor(colour_engine()), reload=True))
    outer = FastAPI()
    outer.mount("/match", app)
    with TestClient(outer, raise_server_exceptions=False) as client:
        for path, method in ROUTES.items():
            if path.startswith("/v1"):
                status, words = problem(client.request(method, "/match" + path, json=PAIR))
                assert (status, "lifespan" in words) == (503, True), path
        assert client.get("/match/readyz").status_code == 503
        for path in ("/", "/healthz", "/metrics", "/openapi.json"):
            assert client.get("/match" + path).status_code == 200, path


@pytest.mark.parametrize("way", ["mounted", "root path"])
def test_below_a_prefix_a_full_queue_refuses_bodies_unread_too(
    colour_engine: Any, way: str
) -> None:
    engine, go, begun = colour_engine(), threading.Event(), threading.Event()
    hold(engine, begun, go)
    with (
        below("/match", way, Predictor(engine), queue=1, max_pairs=1, batch=1, wait=0.0) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [pool.submit(client.post, "/match/v1/predict", json=PAIR)]
        begun.wait(20)
        waiting.append(pool.submit(client.post, "/match/v1/predict", json=PAIR))
        while client.get("/match/readyz").json()["waiting"] < 1:
            time.sleep(0.01)
        refused = client.post("/match/v1/predict", content=b"this is no message")
        go.set()
        assert problem(refused)[0] == 503
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_head_is_get_without_a_body(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine())) as client:
        for path in (*OPEN_ROUTES, "/v1/models", "/v1/model", "/openapi.json", "/nowhere"):
            got, asked = client.get(path), client.head(path)
            assert (asked.status_code, asked.content) == (got.status_code, b""), path
            assert asked.headers["content-length"] == got.headers["content-length"]
        assert client.head("/v1/predict").status_code == 405
    with (
        server(Predictor(colour_engine())) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as line,
    ):
        line.sendall(
            b"HEAD /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /nowhere HTTP/1.1\r\nhost:"
            b" a\r\nconnection: close\r\n\r\n"
        )
        said = b"".join(iter(lambda: line.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"404"]
    assert b"ok\n" not in said


@pytest.mark.parametrize("length", ["{} ", "{}\t", " {}"])
def test_blanks_around_a_length_are_no_part_of_it(colour_engine: Any, length: str) -> None:
    body = json.dumps(PAIR).encode()
    with serving(Predictor(colour_engine())) as client:
        head = {"content-length": length.format(len(body))}
        assert client.post("/v1/predict", content=body, headers=head).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        {"content-length": "5, 5"},
        {"content-length": "+5"},
        {"content-length": "0x5"},
        {"transfer-encoding": "chunked"},
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused(colour_engine: Any, head: Any) -> None:
    with serving(Predictor(colour_engine())) as client:
        assert client.post("/v1/predict", content=b"hello", headers=head).status_code == 411


def test_a_body_shorter_than_its_length_ends_the_connection(colour_engine: Any) -> None:
    """As of a server that takes the body behind an Upgrade for another request."""
    with serving(Predictor(colour_engine())) as client:
        refused = client.post("/v1/predict", content=b"{", headers={"content-length": "5"})
        assert (problem(refused)[0], refused.headers["connection"]) == (400, "close")
        offering = {"connection": "upgrade", "upgrade": "h2c"}
        for path in ("/v1/predict", "/nowhere"):
            assert client.post(path, json=PAIR, headers=offering).headers["connection"] == "close"


def test_a_route_without_a_body_needs_no_length(colour_engine: Any) -> None:
    """As `curl -X POST` asks."""
    heads = b""
    for path in (b"/v1/reload", b"/nowhere", b"/v1/reload"):
        heads += b"POST " + path + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    heads += b"POST /v1/predict HTTP/1.1\r\nhost: a\r\n\r\n"
    with (
        server(Predictor(colour_engine())) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as line,
    ):
        line.sendall(heads)
        said = b"".join(iter(lambda: line.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"403", b"404", b"403", b"411"]


def test_a_body_where_none_is_expected_ends_the_connection(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine())) as client:
        for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
            for head in ({"content-length": "2"}, {"transfer-encoding": "chunked"}):
                answer = client.request(method, "/healthz", content=b"{}", headers=head)
                assert answer.headers["connection"] == "close", (method, head)
            answer = client.request(method, "/healthz", headers={"content-length": "0"})
            assert "connection" not in answer.headers


def test_other_names_and_other_sites_pages_are_refused(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine()), hosts=("match.example.com",), reload=True) as client:
        for path, method in (*ROUTES.items(), *((path, "GET") for path in OPEN_ROUTES)):
            assert problem(client.request(method, path, headers={"host": "evil.example"}))[0] == 421
        for host in ("match.example.com", "127.0.0.1:8000", "[::1]:8000", "localhost"):
            assert client.get("/v1/models", headers={"host": host}).status_code == 200
        for path in ("/v1/predict", "/v1/predict/batch", "/v1/explain", "/v1/reload"):
            assert (
                problem(client.post(path, json=PAIR, headers={"origin": "http://evil"}))[0] == 403
            )
        assert (
            client.post(
                "/v1/predict", json=PAIR, headers={"origin": "http://testserver"}
            ).status_code
            == 200
        )
        assert client.get("/v1/models", headers={"origin": "http://evil"}).status_code == 200
    with serving(Predictor(colour_engine()), origins=("https://shop.test",)) as client:
        assert (
            client.post(
                "/v1/predict", json=PAIR, headers={"origin": "https://shop.test"}
            ).status_code
            == 200
        )


@pytest.mark.parametrize("way", ["alone", "mounted", "root path"])
def test_a_slash_too_many_leads_on_without_a_host(colour_engine: Any, way: str) -> None:
    prefix = "" if way == "alone" else "/match"
    with below(prefix, way, Predictor(colour_engine())) as client:
        moved = client.get(
            prefix + "/v1/model/?name=default", headers={"host": "other"}, follow_redirects=False
        )
        assert (moved.status_code, moved.headers["location"]) == (
            307,
            f"{prefix}/v1/model?name=default",
        )
        assert client.get(prefix + "/v1/models/").status_code == 200
        assert (
            "location"
            not in client.get(
                prefix + "/x//evil.example/v1/models/", follow_redirects=False
            ).headers
        )


def test_cookies_are_not_parsed_and_a_long_query_is_refused(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(text: str) -> dict[str, str]:
        raise AssertionError(text)

    monkeypatch.setattr("starlette.requests.cookie_parser", parse)
    with serving(Predictor(colour_engine())) as client:
        for path in ("/healthz", "/v1/models"):
            assert client.get(path, headers={"cookie": 'a="\\\\"; b=c'}).status_code == 200
            assert client.get(f"{path}?{'a' * MAX_QUERY_BYTES}").status_code == 200
            status, words = problem(client.get(f"{path}?{'a' * (MAX_QUERY_BYTES + 1)}"))
            assert status == 414
            assert "1,024 bytes" in words


def test_there_is_no_websocket(colour_engine: Any) -> None:
    with (
        serving(Predictor(colour_engine())) as client,
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/predict"),
    ):
        raise AssertionError("it was opened")


def test_unfinished_bodies_hold_no_more_than_their_budget(colour_engine: Any) -> None:
    """Those beyond it are refused, small requests of others go on, and what they
    held comes back.
    """
    head = (
        b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length:"
        b" %d\r\n\r\n"
    )
    size = 3 * 2**20
    with (
        server(Predictor(colour_engine()), max_body=4 * 2**20, max_bodies=16 * 2**20) as port,
        ExitStack() as stack,
    ):
        lines = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(6)
        ]
        for line in lines:
            line.sendall(head % size + b" " * (size - 1))
        until = time.monotonic() + 20
        while len(lines) > 4 and time.monotonic() < until:
            ready, _, _ = select.select(lines, [], [], 0.1)
            for line in ready:
                said = line.recv(65536)
                assert said.startswith(b"HTTP/1.1 503")
                assert b"retry-after: 1" in said
                lines.remove(line)
        assert 1 <= len(lines) <= 4, "twelve megabytes are for large ones"
        assert post(f"http://127.0.0.1:{port}", "/v1/predict", PAIR)["prediction"] == "match"
        for line in lines:
            line.close()
        body = json.dumps(PAIR).encode()
        padded = body + b" " * (size - len(body))
        status = 503
        while status == 503 and time.monotonic() < until:
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request(
                    "POST", "/v1/predict", padded, {"content-type": "application/json"}
                )
                status = connection.getresponse().status
        assert status == 200


def test_a_client_that_goes_away_in_its_body_is_no_failure(
    colour_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    head = (
        b"POST /v1/predict HTTP/1.1\r\nhost: a\r\ncontent-type: %s\r\ncontent-length: 100\r\n\r\n{"
    )
    with server(Predictor(colour_engine())) as port:
        for kind in (b"application/json", b"multipart/form-data; boundary=b"):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
                line.sendall(head % kind)
        until = time.monotonic() + 20
        noted = 'mismatch_requests_total{route="/v1/predict",status="499"} 2.0'
        while noted not in urlopen(f"http://127.0.0.1:{port}/metrics").read().decode():
            assert time.monotonic() < until
            time.sleep(0.02)
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_client_that_goes_away_is_noted_and_not_answered(colour_engine: Any) -> None:
    """Its pair leaves the queue."""
    engine, go = colour_engine(), threading.Event()
    real = engine.encode_images
    engine.encode_images = lambda pixels: (go.wait(20), real(pixels))[1]
    app = create_app(*settings_of(Predictor(engine), batch=1, wait=0.0))
    body = json.dumps(PAIR).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "raw_path": b"/v1/predict",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
    }
    scope |= {
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("a", 1),
        "server": ("b", 2),
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask(gone: asyncio.Event) -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if not messages:
                await gone.wait()
            return messages.pop() if messages else {"type": "http.disconnect"}

        await app(dict(scope), receive, send)

    async def work() -> str:
        metrics: Any = app.user_middleware[0].kwargs["metrics"]
        async with app.router.lifespan_context(app):
            gone = [asyncio.Event() for _ in range(3)]
            tasks = [asyncio.create_task(ask(event)) for event in gone]
            await asyncio.sleep(0.3)
            gone[-1].set()
            await tasks[-1]
            go.set()
            await asyncio.gather(*tasks[:-1])
            return str(metrics.text().decode())

    assert 'mismatch_requests_total{route="/v1/predict",status="499"} 1.0' in asyncio.run(work())
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [
        200,
        200,
    ]


HEAD = (
    b"POST %s HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


@pytest.mark.parametrize("route", [b"/v1/predict", b"/v1/predict/batch", b"/v1/explain"])
@pytest.mark.parametrize("sent", [0, 1, 50])
def test_bodies_that_do_not_come_keep_nobody_waiting(
    colour_engine: Any, route: bytes, sent: int
) -> None:
    few: Any = {"queue": 1, "max_pairs": 1, "batch": 1, "explanations": 1}
    with server(Predictor(colour_engine()), **few) as port, ExitStack() as stack:
        for _ in range(20):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            line.sendall(HEAD % (route, 100) + b" " * sent)
        time.sleep(0.2)
        address = f"http://127.0.0.1:{port}"
        assert post(address, "/v1/predict", PAIR)["prediction"] == "match"
        assert post(address, "/v1/explain", PAIR | {"heat_map": False})["prediction"] == "match"


class Busy:
    """A queue for `room` requests, which notes what it is asked; and the route before it."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[tuple[str, dict[str, int]]] = []
        self.go = asyncio.Event()
        self.statuses: list[int] = []  # of the last request
        self.app = FastAPI()
        guard: Any = {"settings": Settings("m"), "metrics": Metrics(), "busy": self.busy}
        self.app.add_middleware(Guard, ready=lambda: True, **guard)
        self.app.add_api_route("/v1/predict", self.predict, methods=["POST"])
        add_handlers(self.app)

    def busy(self, queue: str, client: str, reading: Mapping[str, int]) -> FullError | None:
        assert queue == "pairs"
        self.asked.append((client, dict(reading)))
        return FullError("full") if sum(reading.values()) >= self.room else None

    async def predict(self, request: Request) -> str:
        await request.body()
        await self.go.wait()
        request.scope["mismatch.read"]()
        return "done"

    async def ask(self, client: str, *pieces: bytes, whole: asyncio.Event | None = None) -> int:
        """The status of a request whose last piece comes when `whole` is set."""
        length = sum(map(len, pieces))
        left = list(pieces)
        statuses = self.statuses = []

        async def receive() -> Any:
            if not left:
                await asyncio.Event().wait()
            if len(left) == 1 and whole is not None:
                await whole.wait()
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(b"host", b"a"), (b"content-length", str(length).encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/predict",
            "raw_path": b"/v1/predict",
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "http",
            "headers": headers,
            "client": (client, 1),
            "server": ("b", 2),
        }
        await self.app(scope, receive, send)
        [status] = statuses
        return status


def test_who_is_cut_off_by_the_servers_end_is_told_so() -> None:
    async def work() -> None:
        queue = Busy(2)
        task = asyncio.create_task(queue.ask("a", b"x"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert queue.statuses == [503]

    asyncio.run(work())


def test_explanations_that_are_being_read_count_against_their_client_alone(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go, go_last = threading.Event(), threading.Event(), threading.Event()
    real = ImageDecoder._decoded

    async def slow(*args: Any) -> Any:
        began.set()
        # the other client comes last, or the one that runs at once would be its own
        await asyncio.to_thread((go_last if current_client() == "other" else go).wait, 60)
        return await real(*args)

    question = PAIR | {"heat_map": False}
    with (
        serving(Predictor(colour_engine()), explanations=4) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        monkeypatch.setattr(ImageDecoder, "_decoded", slow)
        asked = [pool.submit(client.post, "/v1/explain", json=question)]
        assert began.wait(10)  # one runs, and waits no more
        for _ in range(5):  # one behind the other: what is refused counts until it is answered
            asked.append(pool.submit(client.post, "/v1/explain", json=question))
            wait(asked[-1:], timeout=0.3)
        while len(wait(asked, timeout=0.1).done) < 3:
            pass
        other = TestClient(client.app, client=("other", 1))
        other.portal = client.portal  # the same event loop
        others = pool.submit(other.post, "/v1/explain", json=question)
        assert wait([others], timeout=0.3).done == set()
        go.set()
        statuses = sorted(one.result().status_code for one in asked)
        assert statuses == [200] * 3 + [503] * 3, "one runs, and half of four wait"
        go_last.set()
        assert others.result().status_code == 200


def test_a_request_counts_from_when_its_body_is_whole_until_it_is_read() -> None:
    async def work() -> None:
        queue, whole = Busy(2), asyncio.Event()
        tasks = [asyncio.create_task(queue.ask("a", b"x", b"y", whole=whole)) for _ in range(3)]
        tasks.append(asyncio.create_task(queue.ask("b", b"x")))
        await asyncio.sleep(0.05)
        assert queue.asked == [("a", {}), ("a", {}), ("a", {}), ("b", {}), ("b", {})]
        tasks.append(asyncio.create_task(queue.ask("b", b"x")))
        await asyncio.sleep(0.05)
        assert queue.asked[5:] == [("b", {"b": 1})] * 2
        assert await queue.ask("c", b"x") == 503, "two are whole, and it is refused at its head"
        assert queue.asked[7:] == [("c", {"b": 2})]
        whole.set()
        statuses = await asyncio.gather(*tasks[:3])
        assert statuses == [503] * 3, "refused as soon as their bodies have come"
        queue.go.set()
        assert await asyncio.gather(*tasks[3:]) == [200, 200]
        assert await queue.ask("c", b"") == 200
        assert queue.asked[-1] == ("c", {})

    asyncio.run(work())


def test_a_request_that_ends_otherwise_counts_no_longer() -> None:
    async def work() -> None:
        queue = Busy(1)
        gone = asyncio.create_task(queue.ask("a", b"x"))
        await asyncio.sleep(0.05)
        assert await queue.ask("b", b"x") == 503
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        queue.go.set()
        assert await queue.ask("b", b"x") == 200

    asyncio.run(work())


def test_another_clients_pair_is_taken_where_one_clients_fill_the_queue(colour_engine: Any) -> None:
    engine, go, begun = colour_engine(), threading.Event(), threading.Event()
    hold(engine, begun, go)
    few: Any = {"queue": 2, "max_pairs": 2, "batch": 1, "wait": 0.0}
    with serving(Predictor(engine), **few) as client, ThreadPoolExecutor(4) as pool:
        other = TestClient(client.app, client=("other", 1))
        other.portal = client.portal  # one loop, or its answer is seen at the deadline only
        asked = [pool.submit(client.post, "/v1/predict", json=PAIR)]
        begun.wait(20)
        asked += [pool.submit(client.post, "/v1/predict", json=PAIR) for _ in range(2)]
        while client.get("/readyz").json()["waiting"] < 2:
            time.sleep(0.01)
        refused = client.post("/v1/predict", content=b"this is no message")
        others = pool.submit(other.post, "/v1/predict", json=PAIR)
        while client.get("/readyz").json()["waiting"] < 3:
            time.sleep(0.01)
        go.set()
        assert problem(refused)[0] == 503
        assert [one.result().status_code for one in (*asked, others)] == [200] * 4
