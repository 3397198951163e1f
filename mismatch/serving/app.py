"""The service: `create_app(settings)`, or `uvicorn mismatch.serving.app:app` with its settings in the environment."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

import mismatch
from mismatch.errors import ImageError, InputError, MismatchError
from mismatch.runtime.predictor import Prediction, Predictor, load
from mismatch.serving.batching import Batcher, ClosedError, FullError
from mismatch.serving.configuration import Settings
from mismatch.serving.images import checked_image, from_base64
from mismatch.serving.messages import Answer, BatchAnswer, BatchQuestion, ModelFacts, Problem, Question
from mismatch.serving.pages import add_page
from mismatch.serving.telemetry import Metrics

__all__ = ["create_app"]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": words}
    for code, words in {400: "wrong input", 401: "no valid token", 413: "too large", 422: "not understood", 503: "too busy", 504: "too late"}.items()
}
log = logging.getLogger("mismatch.serving")


def create_app(settings: Settings, predictor: Predictor | None = None) -> FastAPI:
    """The application; `predictor` stands for the model that the settings name."""
    service = Service(settings, predictor)
    pages = {"docs_url": None, "redoc_url": None}  # they load scripts from elsewhere
    summary = "Does this text describe this image?"
    app = FastAPI(title="mismatch", version=mismatch.__version__, summary=summary, lifespan=service.lifespan, **pages)  # type: ignore[arg-type]
    app.state.service = service
    app.middleware("http")(service.around)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(MismatchError, _problem)
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", responses=PROBLEMS)
    async def predict(question: Question) -> Answer:
        """Score one pair, its image in base64."""
        image = service.image(from_base64(question.image, most=service.settings.max_image))
        [answer] = await service.answers([service.row(image, question.text, question.slice_value)])
        return answer

    @app.post("/v1/predict/upload", responses=PROBLEMS)
    async def predict_upload(image: UploadFile = File(), text: str = Form(), slice_value: str | None = Form(None)) -> Answer:  # noqa: B008
        """Score one pair, its image as a file of a form."""
        data = service.image(await image.read(service.settings.max_image + 1))
        [answer] = await service.answers([service.row(data, text, slice_value)])
        return answer

    @app.post("/v1/predict/batch", responses=PROBLEMS)
    async def predict_batch(question: BatchQuestion) -> BatchAnswer:
        """Score many pairs."""
        return BatchAnswer(answers=await service.answers(service.rows(question)))

    @app.get("/v1/model", responses=PROBLEMS)
    async def model() -> ModelFacts:
        """What is being served."""
        return service.facts()

    @app.get("/healthz", include_in_schema=False)
    async def health() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> JSONResponse:
        up = service.ready
        return JSONResponse({"ready": up, "waiting": service.batcher.waiting if up else 0}, 200 if up else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    add_page(app)


class Service:
    """A model, its queue and its figures."""

    def __init__(self, settings: Settings, predictor: Predictor | None = None) -> None:
        self.settings, self.metrics, self.ready = settings, Metrics(), False
        self._given = predictor
        self.predictor: Predictor
        self.batcher: Batcher
        self.model_id = ""

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the model before the first request, and finish what waits before the end."""
        s = self.settings
        self.predictor = await asyncio.to_thread(load, s.model, s.provider, s.threads) if self._given is None else self._given
        self.model_id = _model_id(self.predictor)
        self.batcher = Batcher(self._score, batch=s.batch, wait=s.wait, queue=s.queue, seen=self.metrics.batch)
        self.batcher.start()
        self.ready = True
        yield
        self.ready = False
        await self.batcher.close()

    def _score(self, rows: Sequence[Any]) -> list[Prediction]:
        start = time.perf_counter()
        found = list(self.predictor.predict_pairs(rows))
        self.metrics.scored(found, time.perf_counter() - start)
        return found

    def image(self, data: bytes) -> bytes:
        """Bytes that may be decoded."""
        return checked_image(data, most=self.settings.max_image, pixels=self.settings.max_pixels)

    def row(self, image: bytes, text: str, slice_value: str | None) -> dict[str, Any]:
        """A pair as `predict_pairs` takes it."""
        if not text.strip():
            raise InputError("the text is empty")
        if len(text) > self.settings.max_text:
            raise InputError(f"the text has more than {self.settings.max_text:,} characters; shorten it")
        column = None if self.predictor.slices is None else self.predictor.slices.column
        return {"image": image, "text": text} | ({} if column is None else {column: slice_value})

    def rows(self, question: BatchQuestion) -> list[dict[str, Any]]:
        """All pairs of a request."""
        if len(question.pairs) > self.settings.max_pairs:
            raise InputError(f"there are {len(question.pairs):,} pairs; {self.settings.max_pairs:,} are the most of one request")
        images = {}
        for name, text in question.images.items():
            try:
                images[name] = self.image(from_base64(text, most=self.settings.max_image))
            except ImageError as error:
                raise ImageError(f"image {name[:80]!r}: {error}") from None
        for number, pair in enumerate(question.pairs):
            for kind, name, known in (("image", pair.image, images), ("text", pair.text, question.texts)):
                if name not in known:
                    raise InputError(f"pair {number} names the {kind} {name[:80]!r}, which is not among those sent")
        return [self.row(images[pair.image], question.texts[pair.text], pair.slice_value) for pair in question.pairs]

    async def answers(self, rows: list[dict[str, Any]]) -> list[Answer]:
        """One a row, within the deadline."""
        try:
            found = await asyncio.wait_for(self.batcher.predict(rows), self.settings.deadline)
        except TimeoutError:
            raise HTTPException(504, f"not scored within {self.settings.deadline:g} seconds; try again later") from None
        return [self._answer(one) for one in found]

    def _answer(self, one: Prediction) -> Answer:
        status = one.status if one.similarity_score is not None else _without_name(one.status)
        return Answer(
            similarity_score=one.similarity_score,
            threshold=one.threshold,
            is_match=one.is_match,
            prediction=one.prediction,
            status=status,
            model_id=self.model_id,
        )

    def facts(self) -> ModelFacts:
        """For /v1/model."""
        engine = self.predictor.engine
        return ModelFacts(
            model_id=self.model_id,
            engine=engine.describe(),
            version=mismatch.__version__,
            threshold=self.predictor.threshold,
            score=self.predictor.score.to_dict(),
            image_size=engine.image_spec.size,
            context_length=engine.text_spec.context_length,
        )

    async def around(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        """What is done for every request: its id, its token, its size, a line of the log, figures, and headers."""
        start, name = time.perf_counter(), uuid.uuid4().hex
        refused = self._refusal(request)
        response = refused if refused is not None else await self._guarded(request, call)
        seconds = time.perf_counter() - start
        route = getattr(request.scope.get("route"), "path", "other")
        self.metrics.request(route, response.status_code, seconds)
        response.headers["x-request-id"] = name
        response.headers["x-content-type-options"] = "nosniff"
        response.headers.setdefault("cache-control", "no-store")
        line = {"id": name, "method": request.method, "route": route, "status": response.status_code, "ms": round(1000 * seconds, 1)}
        log.info(json.dumps(line))
        return response

    async def _guarded(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            return await asyncio.wait_for(call(request), 2 * self.settings.deadline)  # a slow sender's too
        except TimeoutError:
            return _answer_problem(504, f"not done within {2 * self.settings.deadline:g} seconds; send the body faster")
        except Exception:
            log.exception("a request failed")
            return _answer_problem(500, "the service failed at this request; its log says why")

    def _refusal(self, request: Request) -> Response | None:
        """Why a request is not even read."""
        if request.url.path.startswith("/v1/") and self.settings.tokens:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
            if sum(hmac.compare_digest(given, token.encode()) for token in self.settings.tokens) == 0:  # all of them, so that time tells nothing
                return _answer_problem(401, "a bearer token is needed", {"www-authenticate": "Bearer"})
        length = request.headers.get("content-length")
        if request.method in ("POST", "PUT", "PATCH"):
            if length is None or not length.isdigit():
                return _answer_problem(411, "the request has no Content-Length; send the body whole")
            if int(length) > self.settings.max_body:
                return _answer_problem(413, f"the request has more than {self.settings.max_body:,} bytes; send fewer pairs, or smaller images")
        return None


def _model_id(predictor: Predictor) -> str:
    """Hex, 16 digits; of weights and score."""
    said = json.dumps([predictor.engine.fingerprint, asdict(predictor.score), predictor.threshold], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _without_name(status: str) -> str:
    """A status without the words for a file, since there is none."""
    return status.removeprefix("the image given as bytes ")


def _answer_problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    titles = {400: "Wrong input", 401: "Not allowed", 404: "Not found", 405: "Not allowed so", 411: "Length needed", 413: "Too large"}
    titles |= {422: "Not understood", 500: "Failed", 503: "Too busy", 504: "Too late"}
    problem = Problem(title=titles.get(status, "Error"), status=status, detail=detail)
    return JSONResponse(problem.model_dump(), status, headers, media_type="application/problem+json")


async def _not_understood(request: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    return _answer_problem(422, f"{where or 'the body'}: {first.get('msg', 'not understood')}")


async def _http_problem(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _answer_problem(status, str(getattr(error, "detail", error)), dict(getattr(error, "headers", None) or {}))


async def _problem(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, FullError):
        return _answer_problem(503, str(error), {"retry-after": "1"})
    if isinstance(error, ClosedError):
        return _answer_problem(503, str(error), {"retry-after": "5", "connection": "close"})
    return _answer_problem(400, str(error))


def log_as_json(stream: Any = sys.stderr) -> None:
    """Lines of the service's own log as they are: JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def __getattr__(name: str) -> Any:
    """`app`, made when uvicorn asks for it, so that importing this module loads no model and reads no environment."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return create_app(Settings.from_environment())
