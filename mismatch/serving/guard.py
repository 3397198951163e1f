"""What is done for every request before and after its route: its id, its token, its size, its time, figures, a line of the log, and headers."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mismatch.serving.batching import ClosedError, FullError
from mismatch.serving.configuration import Settings
from mismatch.serving.problems import TITLES, problem, problem_of
from mismatch.serving.telemetry import Metrics, log

__all__ = ["Guard"]

REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
WITH_BODY = ("POST", "PUT", "PATCH")
GONE = 499  # nginx's number for a client that didn't wait
SHORT = 2**20  # bytes of a body
SCORING = "/v1/predict"  # routes whose pairs wait in the queue
Busy = Callable[[int], FullError | ClosedError | None]


class Guard:
    """Middleware, in ASGI itself: it sees bodies as they come, and costs little."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, busy: Busy) -> None:
        """`busy`: why no pair would be taken now, given how many are being read, if it is so: then a body isn't even read."""
        self._app, self._settings, self._metrics, self._busy = app, settings, metrics, busy
        self._reading = 0  # requests whose pairs are not yet in the queue: of many that come at once, those beyond it are refused before any is read
        self._tokens = [token.encode() for token in settings.tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)
        answer = _Answer(send, _request_id(headers))
        scope["mismatch.start"] = start
        try:
            refused = self._refusal(scope, headers)
            if refused is not None:
                await self._refuse(refused, scope, headers, receive, answer)
            elif scope["method"] in WITH_BODY and scope["path"].startswith(SCORING):
                with self._counted(scope):
                    await self._guarded(scope, receive, answer)
            else:
                await self._guarded(scope, receive, answer)
        finally:  # also where its client has gone
            self._note(scope, answer, time.perf_counter() - start)

    @contextmanager
    def _counted(self, scope: Scope) -> Iterator[None]:
        """A request counts as being read until its route calls `mismatch.read`, or it ends."""
        reading = [True]

        def read() -> None:
            self._reading -= reading[0]
            reading[0] = False

        self._reading += 1
        scope["mismatch.read"] = read
        try:
            yield
        finally:
            read()

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        seconds = 2 * self._settings.deadline  # one deadline for the body, one for the work
        try:
            async with asyncio.timeout(seconds):
                await self._app(scope, receive, answer.send)
        except TimeoutError:
            await answer.instead(problem(504, f"not done within {seconds:g} seconds; send the body faster", {"connection": "close"}), scope, receive)
        except Exception:  # noqa: BLE001 - a bug; the log gets all of it, the client nothing
            log.exception({"id": answer.request_id, "message": "a request failed"})
            await answer.instead(problem(500, f"the service failed at this request; its log says why, at id {answer.request_id}"), scope, receive)

    async def _refuse(self, refused: Response, scope: Scope, headers: Headers, receive: Receive, answer: _Answer) -> None:
        """A short body is taken off the line, so that the client reads the answer and goes on with the same connection."""
        if 0 < _length(headers) <= SHORT:
            try:
                async with asyncio.timeout(self._settings.deadline):
                    while (await receive()).get("more_body"):
                        pass
            except TimeoutError:
                refused.headers["connection"] = "close"
        elif scope["method"] in WITH_BODY:
            refused.headers["connection"] = "close"
        await refused(scope, receive, answer.send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Why a request is not even read."""
        path, method = scope["path"], scope["method"]
        if path.startswith("/v1/") and self._tokens and method != "OPTIONS":
            given = headers.get("authorization", "").removeprefix("Bearer ").encode()
            if sum(hmac.compare_digest(given, token) for token in self._tokens) == 0:  # all of them, so that time tells nothing
                return problem(401, "a bearer token is needed", {"www-authenticate": "Bearer"})
        if method not in WITH_BODY:
            return None
        if _length(headers) < 0:
            return problem(411, "the request has no Content-Length; send the body whole")
        if _length(headers) > self._settings.max_body:
            return problem(413, f"the request has more than {self._settings.max_body:,} bytes; send fewer pairs, or smaller images")
        busy = self._busy(self._reading) if path.startswith(SCORING) else None
        return None if busy is None else problem_of(busy)

    def _note(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        status = answer.status or GONE
        kind = TITLES.get(status, "client gone" if status == GONE else "other") if status >= 400 else ""
        self._metrics.request(route, status, seconds, kind.lower())
        said = {"id": answer.request_id, "method": scope["method"], "route": route, "status": status, "ms": round(1000 * seconds, 1)}
        log.info(said | scope.get("mismatch.log", {}))


def _length(headers: Headers) -> int:
    """Bytes of the body; -1 where it isn't said."""
    said = headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else -1


def _request_id(headers: Headers) -> str:
    """The client's own where it is harmless, so that logs of several services can be joined."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class _Answer:
    """Adds headers to an answer on its way, and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self.request_id, self.status = send, request_id, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
        await self._send(message)

    async def instead(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Another answer, unless one has begun."""
        if not self.status:
            await response(scope, receive, self.send)
