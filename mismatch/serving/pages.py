"""The page of the service at `/`: a fixed list of files next to this module, with headers that let
it reach no other host.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

__all__ = ["FILES", "HEADERS", "add_page"]

FOLDER = Path(__file__).parent / "page"
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
FILES = (
    "batch.js",
    "csv.js",
    "dom.js",
    "files.js",
    "heat.js",
    "icon.svg",
    "main.js",
    "pair.js",
    "pictures.js",
    "result.js",
    "scoring.js",
    "service.js",
    "style.css",
    "table.js",
    "zip.js",
)
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",  # chosen images are blob:, what the model sees is data:
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "cache-control": "no-cache",  # kept, and asked for again each time: an upgrade shows at once
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def add_page(app: FastAPI) -> None:
    """Serve `/` and `/page/<file>`; they need no token and hold nothing of the model."""

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return _answer(request, INDEX)

    @app.get("/page/{name}", include_in_schema=False)
    async def part(request: Request, name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, "the page has no such part")
        return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    """Answer with the file, or 304 to a browser that has it."""
    content, tag = _read(name)
    headers = HEADERS | {"etag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=KINDS[Path(name).suffix])


@cache
def _read(name: str) -> tuple[bytes, str]:
    """Read a file of the page, and return it with its ETag."""
    content = (FOLDER / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:20]}"'
