"""What went wrong, as problem documents (RFC 9457): one sentence that says what to do, and never a
path or a trace.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mismatch.errors import InputError, MachineError, MismatchError
from mismatch.serving.batching import ClosedError, FullError
from mismatch.serving.messages import Problem
from mismatch.serving.telemetry import log

__all__ = [
    "RESPONSES",
    "TITLES",
    "add_handlers",
    "first_error",
    "problem",
    "problem_of",
    "run_lifespan",
]

TITLES = {
    400: "Wrong input",
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    405: "No such method here",
    411: "Length needed",
    413: "Too large",
    414: "Address too long",
    415: "Unknown content type",
    421: "Not this host",
    422: "Not understood",
    500: "Failed",
    503: "Too busy",
    504: "Too late",
}
MEDIA_TYPE = "application/problem+json"
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {
        "description": TITLES[code],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for code in (400, 401, 403, 404, 411, 413, 414, 415, 421, 422, 503, 504)
}
LONGEST = 500  # characters of a sentence, which may hold what was sent


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the answer."""
    sentence = detail if len(detail) <= LONGEST else detail[: LONGEST - 1] + "…"
    document = Problem(title=TITLES.get(status, "Error"), status=status, detail=sentence)
    return JSONResponse(document.model_dump(), status, headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> JSONResponse:
    """Return the answer to an error that is the client's, or the load's; raise others again."""
    if isinstance(error, FullError):
        return problem(503, str(error), {"retry-after": str(error.retry_after)})
    if isinstance(error, ClosedError):
        return problem(503, str(error), {"retry-after": "5", "connection": "close"})
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))
    if isinstance(error, ValidationError):
        return problem(422, first_error(error))
    if isinstance(error, MachineError):
        log.error({"message": "the machine failed a request", "error": str(error)})
        return problem(
            503,
            "the service's machine is short of something; its log says of what",
            {"retry-after": "5"},
        )
    if isinstance(error, InputError):
        return problem(400, str(error))
    if isinstance(error, MismatchError):  # a model that fails, whose words hold its path
        log.error({"message": "a model failed at a request", "error": str(error)})
        return problem(500, "the model failed at this request; the service's log says why")
    raise error


async def run_lifespan(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an application start and end; what it says of a MismatchError is its line, no trace."""
    failures: list[Message] = []

    async def hold_failures(message: Message) -> None:
        if message["type"].endswith(".failed"):
            failures.append(message)
        else:
            await send(message)

    try:
        await app(scope, receive, hold_failures)
    except MismatchError as error:
        for failure in failures:
            await send({**failure, "message": str(error)})
        if not failures:
            raise
    except BaseException:
        for failure in failures:
            await send(failure)
        raise


def first_error(error: ValidationError, where: str = "") -> str:
    """Return the place and the words of the first thing that is wrong; `where`: the place of the
    whole.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    places = [where] if where else []
    places += [str(part)[:80] for part in first["loc"]]
    return f"{'.'.join(places) or 'the body'}: {first['msg'].removeprefix('Value error, ')}"


def add_handlers(app: FastAPI) -> None:
    """Answer the errors that routes raise."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return problem_of(error)

    for kind in (HTTPException, ValidationError, MismatchError):
        app.add_exception_handler(kind, handle)
