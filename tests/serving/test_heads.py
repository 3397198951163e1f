"""mismatch.serving.heads: what a request's head says of its sender and its body."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from mismatch.serving.heads import (
    bearer_token,
    body_length,
    client_of_scope,
    is_preflight,
    may_be_misread,
    request_id,
)

Pairs = list[tuple[str, str]]


def raw(pairs: Pairs) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


def headers_of(pairs: Pairs) -> Headers:
    return Headers(raw=raw(pairs))


@pytest.mark.parametrize(
    ("pairs", "length"),
    [
        ([], 0),
        ([("content-length", "0")], 0),
        ([("content-length", "0"), ("content-length", "0")], 0),
        ([("content-length", "0"), ("transfer-encoding", "chunked")], -1),
        ([("content-length", " 12\t")], 12),
        ([("content-length", "5"), ("content-length", "5")], 5),
        ([("content-length", "5"), ("content-length", "6")], -1),
        ([("content-length", "5, 5")], -1),
        ([("content-length", "+5")], -1),
        ([("content-length", "\xb2")], -1),
        ([("content-length", "1" * 20)], -1),
        ([("content-length", "5"), ("transfer-encoding", "chunked")], -1),
        ([("transfer-encoding", "chunked")], -1),
    ],
)
def test_a_body_has_one_length_or_none(pairs: Pairs, length: int) -> None:
    assert body_length(headers_of(pairs)) == length


@pytest.mark.parametrize(
    ("method", "pairs", "is_misread"),
    [
        ("GET", [], False),
        ("GET", [("content-length", "0")], False),
        ("GET", [("content-length", "1")], True),
        ("DELETE", [("content-length", "0"), ("content-length", "1")], True),
        ("OPTIONS", [("transfer-encoding", "chunked")], True),
        ("GET", [("upgrade", "h2c")], True),
        ("POST", [("content-length", "1")], False),
        ("POST", [("content-length", "1"), ("upgrade", "h2c")], True),
    ],
)
def test_a_body_that_may_be_taken_for_a_request(
    method: str, pairs: Pairs, is_misread: bool
) -> None:
    assert may_be_misread({"method": method}, headers_of(pairs)) is is_misread


def test_client_token_and_id() -> None:
    scope: dict[str, Any] = {"client": ("2001:db8::7", 5), "headers": []}
    assert client_of_scope(scope) == "2001:db8::/64"
    assert client_of_scope({"client": None}) == "unknown"
    assert bearer_token(scope) == b""
    for value, token in (("Bearer abc", b"abc"), ("bearer  abc ", b"abc"), ("Basic abc", b"")):
        assert bearer_token({"headers": raw([("authorization", value)])}) == token
    assert request_id(headers_of([("x-request-id", "trace-1.a")])) == "trace-1.a"
    assert len(request_id(headers_of([("x-request-id", "a b")]))) == 32


def test_a_preflight_has_an_origin_and_asks_for_a_method() -> None:
    asking = [("origin", "https://shop.test"), ("access-control-request-method", "POST")]
    assert is_preflight({"method": "OPTIONS"}, headers_of(asking))
    assert not is_preflight({"method": "GET"}, headers_of(asking))
    assert not is_preflight({"method": "OPTIONS"}, headers_of(asking[:1]))
