"""What the head of a request says: its client, id, token, and how long its body is."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping

from starlette.datastructures import Headers
from starlette.types import Scope

from mismatch.serving.budget import client_of

__all__ = [
    "WITH_BODY",
    "bearer_token",
    "body_length",
    "client_of_scope",
    "is_preflight",
    "may_be_misread",
    "request_id",
]

REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
WITH_BODY = ("POST", "PUT", "PATCH")
BLANKS = " \t"  # what may stand around a header's value


def request_id(headers: Headers) -> str:
    """Return the client's own id where it is harmless, so that logs of several services can be
    joined; else a new one.
    """
    client_id = headers.get("x-request-id", "")
    return client_id if REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex


def client_of_scope(scope: Scope) -> str:
    """Return the client that a request comes from."""
    address = scope.get("client")
    return client_of(address[0] if address else None)


def is_preflight(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Return whether a browser asks if another site's page may send a request."""
    asks: Collection[str] = ("origin", "access-control-request-method")
    return scope["method"] == "OPTIONS" and all(name in headers for name in asks)


def may_be_misread(scope: Scope, headers: Headers) -> bool:
    """Return whether some server takes what follows the head for the next request: the bytes behind
    an offered upgrade, or a body where the method has none.
    """
    if "upgrade" in headers:
        return True
    return scope["method"] not in WITH_BODY and _has_body(headers)


def _has_body(headers: Headers) -> bool:
    """Return whether a head announces a body (RFC 9112, 6.3)."""
    lengths = headers.getlist("content-length")
    return "transfer-encoding" in headers or any(length.strip(BLANKS) != "0" for length in lengths)


def bearer_token(scope: Scope) -> bytes:
    """Return the bearer token, as bytes; nothing where there is none."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            return bytes(token.strip()) if scheme.lower() == b"bearer" else b""
    return b""


def body_length(headers: Headers) -> int:
    """Return the bytes of the body; -1 where its length isn't said, or said in two ways. A head
    that says nothing of a body has none (RFC 9112, 6.3).
    """
    if not _has_body(headers):
        return 0
    lengths = {length.strip(BLANKS) for length in headers.getlist("content-length")}
    if len(lengths) != 1 or "transfer-encoding" in headers:
        return -1
    [length] = lengths
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else -1
