"""`mismatch serve`: a model behind HTTP."""

from __future__ import annotations

import os
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import model_option, provider_option, threads_option
from mismatch.errors import MissingExtraError

__all__ = ["command"]

NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client")  # import names of what the extra [serve] brings
TOKENS_ENV = "MISMATCH_SERVE_TOKENS"
GRACE = 60  # seconds that accepted requests have after SIGTERM


@click.command(short_help="Put a model behind HTTP.")
@model_option
@provider_option
@threads_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is all of the machine's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen at.")
@click.option("--settings", "settings_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="JSON with limits and batching; see README.")
@click.option("--batch", type=click.IntRange(1), help="Pairs that are scored together at most.  [default: 32]")
@click.option("--queue", type=click.IntRange(1), help="Pairs that may wait; beyond it requests are answered 503.  [default: 512]")
@click.option("--deadline", type=float, metavar="SECONDS", help="Until a request is given up with 504.  [default: 30]")
def command(host: str, port: int, settings_file: Path | None, **options: Any) -> None:
    """Serve POST /v1/predict, /v1/predict/upload and /v1/predict/batch, GET /v1/model, /healthz, /readyz, /metrics and /openapi.json.

    Pairs of several requests are scored together. Bearer tokens, by comma, in MISMATCH_SERVE_TOKENS. SIGTERM finishes what was accepted.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise MissingExtraError("mismatch serve", "serve")
    import uvicorn

    from mismatch.runtime.predictor import load
    from mismatch.serving.app import create_app, log_as_json
    from mismatch.serving.configuration import Settings

    names = {item.name for item in fields(Settings)}
    given = {name: value for name, value in options.items() if name in names and value is not None}
    if tokens := os.environ.get(TOKENS_ENV):
        given["tokens"] = tuple(token.strip() for token in tokens.split(",") if token.strip())
    settings = Settings(**given) if settings_file is None else Settings.read(settings_file, **given)
    predictor = load(settings.model, settings.provider, settings.threads)
    log_as_json()
    quiet = {"access_log": False, "log_level": "warning", "timeout_graceful_shutdown": GRACE}
    server = uvicorn.Server(uvicorn.Config(create_app(settings, predictor), host=host, port=port, **quiet))  # type: ignore[arg-type]
    click.echo(f"{settings.model} at http://{host}:{port}; /openapi.json describes it", err=True)
    server.run()
    if not server.started:
        raise click.ClickException(f"the service could not start at {host}:{port}; its log says why")
