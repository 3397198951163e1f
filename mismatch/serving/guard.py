"""What is done for every request before and after its route: id, host, token,
size, time, figures.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from mismatch.serving.batching import ClosedError, FullError
from mismatch.serving.budget import FULL, RETRY, Account, Budget
from mismatch.serving.configuration import DESCRIBING, Settings
from mismatch.serving.disconnects import ended_by_disconnect
from mismatch.serving.heads import (
    WITH_BODY,
    bearer_token,
    body_length,
    client_of_scope,
    is_preflight,
    may_be_misread,
    request_id,
)
from mismatch.serving.hosts import Hosts
from mismatch.serving.models import Queue
from mismatch.serving.problems import TITLES, problem, problem_of, run_lifespan
from mismatch.serving.telemetry import Metrics, log

__all__ = ["MAX_QUERY_BYTES", "Guard"]

GONE = 499  # nginx's number for a client that didn't wait
SHORT = 2**20  # bytes of a body
LONGEST_METHOD = 20  # characters of one in the log; any word can be sent
OPEN = frozenset({"/", "/page/{name}", "/healthz", "/readyz"})  # routes that need no token
# routes that work for their client, and the queue in which that work waits
QUEUES: Mapping[str, Queue] = {
    "/v1/predict": "pairs",
    "/v1/predict/batch": "pairs",
    "/v1/explain": "explanations",
}
WITHOUT_MODELS = OPEN | DESCRIBING
UNLOADED = (
    "no model is loaded; where this application is mounted in another one, the other's lifespan has"
    " to run this one's"
)
MAX_QUERY_BYTES = 1_024  # bytes; no route asks for any
LONG_QUERY = (
    f"the address has more than {MAX_QUERY_BYTES:,} bytes behind its ?; send these in the body"
)
NO_HOST = "this name is not one of the service's; its setting hosts (--allow-host) may name it"
NO_ORIGIN = "pages of this origin may not ask; the service's setting origins may name it"
UNSENT = "the body is shorter than its Content-Length; send it whole, and no Upgrade header"
STOPPING = "the service has stopped before this was done; ask another one"
Busy = Callable[[Queue, str, Mapping[str, int]], FullError | ClosedError | None]


class Guard:
    """Middleware, in ASGI itself: it sees bodies as they come, and costs little."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        busy: Busy,
        ready: Callable[[], bool],
    ) -> None:
        """Take bounds, tokens and names from the settings.

        `busy`: why a queue would take nothing of a client now, given how many requests are being
        read of each client: then a body isn't even read. `ready`: whether the models are loaded.
        """
        self._app = app
        self._origins = _origins(app, settings) if settings.origins else None
        self._settings = settings
        self._metrics = metrics
        self._busy = busy
        self._ready = ready
        # Requests by client whose bodies are whole and which are not yet in their queue. One that
        # only has a head, or sends its body slowly, keeps nobody waiting.
        self._reading = {queue: Counter[str]() for queue in QUEUES.values()}
        self._tokens = [token.encode() for token in settings.tokens]
        self._hosts = Hosts(settings.hosts, settings.origins)
        self._open = OPEN | set(settings.open_routes)
        self._budget = Budget(settings.max_bodies, settings.max_body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)  # there is none, and none is guarded
            return
        if scope["type"] != "http":
            await run_lifespan(self._app, scope, receive, send)
            return
        start = time.perf_counter()
        # no route reads them, and Python 3.11 parses a long one in seconds (CVE-2024-7592)
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"cookie"]
        headers = Headers(scope=scope)
        if self._origins is not None and not is_preflight(scope, headers):
            # also a refusal is for the page that has asked
            send = partial(self._origins.send, send=send, request_headers=headers)
        answer = _Answer(send, request_id(headers), scope["method"])
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: the server's own stays HEAD
        answer.closes = may_be_misread(scope, headers)
        scope["mismatch.start"] = start
        route = _route(scope)
        try:
            await self._answer(route, scope, headers, receive, answer)
        except asyncio.CancelledError:  # the server ends
            refusal = problem(503, STOPPING, {"retry-after": "5", "connection": "close"})
            await answer.instead(refusal, scope, receive)
            raise
        finally:  # its client may have gone
            self._note(route, scope, answer, time.perf_counter() - start)

    async def _answer(
        self, route: str | None, scope: Scope, headers: Headers, receive: Receive, answer: _Answer
    ) -> None:
        refusal = self._refusal(route, scope, headers)
        if refusal is not None:
            await self._refuse(refusal, scope, headers, receive, answer)
            return
        if self._origins is not None and is_preflight(scope, headers):
            await self._origins.preflight_response(headers)(scope, receive, answer.send)
            return
        client = client_of_scope(scope)
        with self._budget.account(client) as account:
            if scope["method"] not in WITH_BODY:
                await self._guarded(scope, receive, answer)
                return
            length = body_length(headers)
            queue = QUEUES.get(route or "")
            if queue is None:
                await self._guarded(scope, _weighed(receive, account, length), answer)
                return
            with self._counted(scope, queue, client) as whole:
                body = _weighed(receive, account, length, whole)
                with ended_by_disconnect(body, lambda: answer.status > 0) as watched:
                    await self._guarded(scope, watched, answer)

    @contextmanager
    def _counted(self, scope: Scope, queue: Queue, client: str) -> Iterator[Callable[[], None]]:
        """Yield what has to be called when the body is whole; FullError where it comes too late.

        From then on the request counts as being read, until its route calls `mismatch.read`, or
        it ends.
        """
        counted = False
        done = False
        reading = self._reading[queue]

        def whole() -> None:
            nonlocal counted
            if done:
                return
            busy = self._busy(queue, client, reading)
            if busy is not None:
                raise busy
            reading[client] += 1
            counted = True

        def read() -> None:
            nonlocal counted, done
            done = True
            if not counted:
                return
            counted = False
            reading[client] -= 1
            if not reading[client]:
                del reading[client]

        scope["mismatch.read"] = read
        try:
            yield whole
        finally:
            read()

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        seconds = 2 * self._settings.deadline  # one deadline for the body, one for the work
        try:
            async with asyncio.timeout(seconds):
                await self._app(scope, receive, answer.send)
        except TimeoutError:
            late = f"not done within {seconds:g} seconds; send the body faster"
            await answer.instead(problem(504, late, {"connection": "close"}), scope, receive)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - a bug; the log gets all of it, the client nothing
            log.exception({"id": answer.request_id, "message": "a request failed"})
            words = "the service failed at this request; its log says why, at id"
            await answer.instead(problem(500, f"{words} {answer.request_id}"), scope, receive)

    async def _refuse(
        self, refusal: Response, scope: Scope, headers: Headers, receive: Receive, answer: _Answer
    ) -> None:
        """Answer a refusal. A short body is taken off the line, so that the client goes on with its
        connection.
        """
        if 0 < body_length(headers) <= SHORT:
            try:
                async with asyncio.timeout(self._settings.deadline):
                    while (await receive()).get("more_body"):
                        pass
            except TimeoutError:
                refusal.headers["connection"] = "close"
        elif scope["method"] in WITH_BODY:
            refusal.headers["connection"] = "close"
        await refusal(scope, receive, answer.send)

    def _refusal(self, route: str | None, scope: Scope, headers: Headers) -> Response | None:
        """Say why a request is not even read; None where it is."""
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            return problem(414, LONG_QUERY)
        if not self._hosts.serves(headers):
            return problem(421, NO_HOST)
        if not self._may(route, scope, headers):
            return problem(401, "a bearer token is needed", {"www-authenticate": "Bearer"})
        if scope["method"] in WITH_BODY:
            refusal = self._body_refusal(route, scope, headers)
            if refusal is not None:
                return refusal
        if route is None or route in WITHOUT_MODELS:
            return None
        if not self._ready():
            return problem(503, UNLOADED, {"retry-after": "5"})
        queue = QUEUES.get(route)
        if scope["method"] not in WITH_BODY or queue is None:
            return None
        busy = self._busy(queue, client_of_scope(scope), self._reading[queue])
        return None if busy is None else problem_of(busy)

    def _may(self, route: str | None, scope: Scope, headers: Headers) -> bool:
        """Return whether a route is open, there are no tokens, or the request has one of them."""
        if route is None or route in self._open or not self._tokens:
            return True
        if is_preflight(scope, headers) and self._settings.origins:
            return True  # the browser's own question, which has no token and reaches no route
        sent = bearer_token(scope)
        # All of them are compared, so that time tells nothing.
        return sum(hmac.compare_digest(sent, token) for token in self._tokens) > 0

    def _body_refusal(self, route: str | None, scope: Scope, headers: Headers) -> Response | None:
        """Say why a body is not read; None where it is."""
        max_bytes = self._settings.max_body
        length = body_length(headers)
        if not self._hosts.allows(headers):
            return problem(403, NO_ORIGIN)
        if length < 0 or (route in QUEUES and "content-length" not in headers):
            words = "the request has no Content-Length, or none that holds; send the body whole"
            return problem(411, words)
        if length > max_bytes:
            words = f"the request has more than {max_bytes:,} bytes"
            return problem(413, f"{words}; send fewer pairs, or smaller images")
        fits = self._budget.fits(client_of_scope(scope), length)
        return None if fits else problem(503, FULL, RETRY)

    def _note(self, route: str | None, scope: Scope, answer: _Answer, seconds: float) -> None:
        shown = route or "other"
        status = answer.status or GONE
        kind = ""
        if status >= 400:
            kind = TITLES.get(status, "client gone" if status == GONE else "other")
        self._metrics.request(shown, status, seconds, kind.lower())
        line = {
            "id": answer.request_id,
            "method": answer.method[:LONGEST_METHOD],
            "route": shown,
            "status": status,
            "ms": round(1000 * seconds, 1),
        }
        log.info(line | scope.get("mismatch.log", {}))


def _origins(app: ASGIApp, settings: Settings) -> CORSMiddleware:
    """Return what tells browsers which other sites' pages may read an answer."""
    return CORSMiddleware(
        app,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
    )


def _route(scope: Scope) -> str | None:
    """Return the path of the route that the application will take, as it is declared; None: of
    none.

    Routes know prefixes, of a proxy or of another application, which the path itself holds.
    """
    partial = None
    for route in scope["app"].routes:
        match, _ = route.matches(dict(scope))
        if match == Match.FULL:
            return str(getattr(route, "path", ""))
        if match == Match.PARTIAL and partial is None:
            partial = str(getattr(route, "path", ""))
    return partial


def _weighed(
    receive: Receive, account: Account, length: int, whole: Callable[[], None] = lambda: None
) -> Receive:
    """Wrap `receive` to put the body's bytes on an account; HTTPException where they aren't all
    there.

    `whole` is called once, when they are.
    """
    size = 0
    complete = False

    async def weigh() -> Message:
        nonlocal size, complete
        message = await receive()
        if message["type"] != "http.request":
            return message
        piece = len(message.get("body", b""))
        size += piece
        account.take(piece)
        if size != length and not message.get("more_body", False):
            raise HTTPException(400, UNSENT, {"connection": "close"})
        if size == length and not complete:
            complete = True
            whole()
        return message

    return weigh


class _Answer:
    """Adds headers to an answer on its way, and remembers its status."""

    def __init__(self, send: Send, request_id: str, method: str) -> None:
        self._send = send
        self.request_id = request_id
        self.method = method
        self.status = 0
        self.closes = False  # whether the connection ends with this answer

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
            if self.closes:
                headers["connection"] = "close"
            if "location" in headers:
                headers["location"] = _own_path(headers["location"])
        elif self.method == "HEAD" and "body" in message:
            message = {**message, "body": b""}
        await self._send(message)

    async def instead(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Send another answer, unless one has begun."""
        if not self.status:
            await response(scope, receive, self.send)


def _own_path(location: str) -> str:
    """Return where a slash too many leads, without the host, which is whatever the request said."""
    parts = urlsplit(location)
    path = "/" + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path
