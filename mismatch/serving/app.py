"""The service: `create_app(settings)`, or `uvicorn mismatch.serving.app:app` with its settings in
the environment.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.exceptions import HTTPException

import mismatch
from mismatch.errors import MismatchError
from mismatch.runtime.predictor import Predictor
from mismatch.serving.configuration import Settings
from mismatch.serving.guard import Guard
from mismatch.serving.messages import (
    PNG,
    Answer,
    BatchAnswer,
    BatchQuestion,
    ExplainQuestion,
    ExplanationAnswer,
    ModelFacts,
    ModelList,
    Problem,
    Question,
    Reloaded,
)
from mismatch.serving.pages import add_page
from mismatch.serving.problems import RESPONSES, add_handlers
from mismatch.serving.service import Service

__all__ = ["create_app"]

FORM = {
    "type": "object",
    "required": ["image", "text"],
    "properties": {
        "image": {"type": "string", "format": "binary"},
        "text": {"type": "string"},
        "slice_value": {"type": "string"},
        "model": {"type": "string"},
    },
}
PAIR = {"image": PNG, "text": "Red leather handbag"}
MANY = {
    "images": {"front": PNG},
    "texts": {"title": "Red leather handbag"},
    "pairs": [{"image": "front", "text": "title"}],
}


def create_app(settings: Settings, preloaded: Mapping[str, Predictor] | None = None) -> FastAPI:
    """Make the application; `preloaded`: models by name, in place of those of the settings."""
    service = Service(settings, preloaded or {})
    app = FastAPI(
        title="mismatch",
        version=mismatch.__version__,
        summary="Does this text describe this image?",
        lifespan=service.lifespan,
        docs_url=None,  # it loads scripts from elsewhere, as redoc does
        redoc_url=None,
        openapi_url=None,  # a route here
    )
    app.add_middleware(
        Guard,
        settings=settings,
        metrics=service.metrics,
        busy=service.models.busy,
        ready=lambda: service.ready,
    )
    add_handlers(app)
    _add_scoring(app, service)
    _add_models(app, service)
    _add_watching(app, service)
    add_page(app)
    secured = bool(settings.tokens)
    app.openapi = lambda: _openapi_document(app, secured=secured)  # type: ignore[method-assign]
    return app


def _add_scoring(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", responses=RESPONSES, openapi_extra=_body(Question, PAIR, form=True))
    async def predict(request: Request) -> Answer:
        """Score one pair: as JSON, its image in base64, or as a form, its image as a file."""
        return await service.predict(request)

    @app.post("/v1/predict/batch", responses=RESPONSES, openapi_extra=_body(BatchQuestion, MANY))
    async def predict_batch(request: Request) -> BatchAnswer:
        """Score many pairs."""
        return await service.predict_batch(request)

    @app.post("/v1/explain", responses=RESPONSES, openapi_extra=_body(ExplainQuestion, PAIR))
    async def explain(request: Request) -> ExplanationAnswer:
        """Say which words of a text don't fit its image, what other words would do, and where the
        image speaks for or against it.
        """
        return await service.explain(request)


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses=_only(401, 421, 503))
    async def models() -> ModelList:
        """List the service's models."""
        return ModelList(default=service.models.names[0].name, models=service.models.names)

    @app.get("/v1/model", responses=_only(400, 401, 421, 422, 503), response_model=ModelFacts)
    async def model(name: str | None = None) -> Response:
        """Say what one model is, by default the first."""
        facts = await service.models.get(name).facts()
        return Response(facts, media_type="application/json")

    @app.post("/v1/reload", responses=_only(400, 401, 403, 411, 413, 421, 500, 503))
    async def reload() -> Reloaded:
        """Load all models again from where they lie; what was accepted is finished by those that
        were.
        """
        if not service.settings.reload:
            raise HTTPException(
                403,
                "loading models again over HTTP is switched off; set reload in the service's"
                " settings, or send the process SIGHUP",
            )
        return Reloaded(changed=await service.reload(), models=service.models.names)


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def health() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> JSONResponse:
        return JSONResponse(service.state(), 200 if service.ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> JSONResponse:
        return JSONResponse(app.openapi())


def _only(*codes: int) -> dict[int | str, dict[str, Any]]:
    failed = RESPONSES[400] | {"description": "Failed"}
    return {code: RESPONSES.get(code, failed) for code in sorted({*codes, 414})}


def _body(model: type[BaseModel], example: dict[str, Any], *, form: bool = False) -> dict[str, Any]:
    """Return what OpenAPI says of a body that the route reads itself."""
    content: dict[str, Any] = {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{model.__name__}"},
            "example": example,
        }
    }
    if form:
        content["multipart/form-data"] = {"schema": FORM}
    return {"requestBody": {"required": True, "content": content}}


def _openapi_document(app: FastAPI, *, secured: bool) -> dict[str, Any]:
    """Return the OpenAPI document, with the models that routes read and raise themselves."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [
            (kind, "validation") for kind in (Question, BatchQuestion, ExplainQuestion, Problem)
        ]
        _, more = models_json_schema(kinds, ref_template="#/components/schemas/{model}")
        parts = document.setdefault("components", {})
        parts["schemas"] = parts.get("schemas", {}) | more["$defs"]
        for unused in ("HTTPValidationError", "ValidationError"):
            parts["schemas"].pop(unused, None)
        if secured:
            parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema


def __getattr__(name: str) -> Any:
    """Make `app` when uvicorn asks for it, so that importing this module loads no model and reads
    no environment.
    """
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return create_app(Settings.from_environment())
    except MismatchError as error:
        raise _as_import_error(error) from error


def _as_import_error(error: MismatchError) -> Exception:
    """Return an error that uvicorn, where it is the server, reports in a line without a trace."""
    importer = sys.modules.get("uvicorn.importer")
    if importer is None:
        return error
    kinds = (type(error), importer.ImportFromStringError)
    settings_error: Exception = type("SettingsError", kinds, {})(str(error))
    return settings_error
