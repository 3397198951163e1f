"""Whether the hub answers: asked once, within seconds, and not at all where that is forbidden."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mismatch.jobs import hub_access as module
from mismatch.jobs.hub_access import HubAccess, hub_access


@contextmanager
def hub(status: int) -> Iterator[tuple[str, list[Any]]]:
    """A server on this machine that answers with a status, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append((self.command, self.path, self.headers["User-Agent"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("status", "detail"),
    [(200, ""), (404, ""), (503, "it answers 503 Service Unavailable")],
)
def test_a_hub_that_answers_is_there_unless_it_is_ill(status: int, detail: str) -> None:
    with hub(status) as (url, asked):
        access = hub_access({"HF_ENDPOINT": url})
    assert access == HubAccess("127.0.0.1", not detail, detail)
    assert asked == [("HEAD", "", "mismatch")] or asked == [("HEAD", "/", "mismatch")]


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_where_that_is_forbidden_nothing_is_asked(name: str) -> None:
    with hub(200) as (url, asked):
        access = hub_access({"HF_ENDPOINT": url, name: "yes"})
        assert hub_access({"HF_ENDPOINT": url, name: "0"}).reachable
    assert access == HubAccess("127.0.0.1", None, f"not asked, as {name} is set")
    assert len(asked) == 1


def test_a_hub_that_is_not_there_says_why() -> None:
    with hub(200) as (url, _):
        pass
    access = hub_access({"HF_ENDPOINT": url})
    assert access.reachable is False
    assert "refused" in access.detail


def test_a_silent_network_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def never(*_args: object, **_more: object) -> None:
        done.wait(30)

    monkeypatch.setattr(module, "urlopen", never)
    monkeypatch.setattr(module, "SECONDS", 0.2)
    began = time.perf_counter()
    access = hub_access({})
    done.set()
    assert time.perf_counter() - began < 5
    assert (access.host, access.reachable) == ("huggingface.co", False)
    assert "no answer within" in access.detail


@pytest.mark.parametrize("url", ["file:///etc/passwd", "hub.example", "https://", "ftp://a/b"])
def test_what_is_no_web_address_is_not_opened(url: str) -> None:
    access = hub_access({"HF_ENDPOINT": url})
    assert access.reachable is False
    assert "HF_ENDPOINT" in access.detail


def test_a_password_in_the_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    access = hub_access({"HF_ENDPOINT": "https://me:secret@hub.example", "HF_HUB_OFFLINE": "1"})
    assert access.host == "hub.example"
    assert "secret" not in str(access)
