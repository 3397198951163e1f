"""mismatch.serving.hosts: under which names the service answers, and whose pages may ask it."""

from __future__ import annotations

import socket

import pytest
from starlette.datastructures import Headers

from mismatch.serving.hosts import Hosts

HOSTS = Hosts(("Match.example.com", "*.shop.test"), ("https://page.test",))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "localhost:8000",
        "LOCALHOST",
        "localhost.",
        "app.localhost:80",
        "[::1]",
        "[::1]:8000",
        "[::ffff:127.0.0.1]",
        "10.1.2.3:8000",
        "testserver",
        "my_service:8000",
        "match.example.com",
        "MATCH.example.com.:443",
        "a.b.shop.test",
        socket.gethostname(),
    ],
)
def test_addresses_bare_names_and_named_ones_are_served(host: str) -> None:
    assert HOSTS.serves(Headers({"host": host}))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "match.example.com.evil.example",
        "evilmatch.example.com",
        "evilshop.test",
        "shop.test",
        "127.0.0.1@evil.example",
        "localhost:80@evil.example",
        "[evil.example]",
        "[::1",
        "::1",
        "localhost:port",
        "localhost:8000:1",
        "localhost/",
        "localhost, evil.example",
        "\xe9vil.example",
        "*.shop.test",
        "",
        ".",
        ":8000",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not HOSTS.serves(Headers({"host": host}))


def test_a_request_has_one_host_or_none() -> None:
    assert HOSTS.serves(Headers({}))
    assert not HOSTS.serves(Headers(raw=[(b"host", b"localhost"), (b"host", b"localhost")]))
    assert Hosts(("*",), ()).serves(Headers({"host": "any.example"}))


@pytest.mark.parametrize(
    ("origin", "host", "site", "may"),
    [
        (None, "localhost:8000", None, True),
        ("http://localhost:8000", "localhost:8000", None, True),
        ("http://localhost", "localhost:80", None, True),
        ("https://match.example.com", "match.example.com", None, True),
        ("http://[::1]:8000", "[::1]:8000", None, True),
        ("https://page.test", "localhost:8000", "cross-site", True),
        ("https://match.example.com", "127.0.0.1:8000", "same-origin", True),  # a proxy
        ("http://evil", "localhost:8000", None, False),
        ("http://localhost:3000", "localhost:8000", None, False),
        ("http://localhost:3000", "localhost:8000", "same-site", False),
        ("http://localhost.evil.example:8000", "localhost:8000", None, False),
        ("http://localhost:8000@evil.example", "localhost:8000", None, False),
        ("http://page.test", "localhost:8000", None, False),
        ("null", "localhost:8000", None, False),
        ("", "localhost:8000", None, False),
        ("file://", "localhost:8000", None, False),
        ("http://[bad", "localhost:8000", None, False),
        (None, "localhost:8000", "cross-site", False),
    ],
)
def test_pages_of_the_service_itself_and_of_named_sites_may_ask(
    origin: str | None, host: str, site: str | None, may: bool
) -> None:
    sent = {"host": host, "origin": origin, "sec-fetch-site": site}
    headers = Headers({name: value for name, value in sent.items() if value is not None})
    assert HOSTS.allows(headers) == may
