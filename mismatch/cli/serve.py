"""`mismatch serve`: see `mismatch.serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.number_types import FINITE
from mismatch.cli.options import MODEL_ENV, provider_option, threads_option

__all__ = ["command"]


@click.command(short_help="Put a model behind HTTP.")
@click.option(
    "--model",
    envvar=MODEL_ENV,
    metavar="DIR",
    help=f"Folder of a trained model or an ONNX bundle, or FAMILY:MODEL.  [default: ${MODEL_ENV}]",
)
@click.option(
    "--also",
    "also",
    metavar="NAME=DIR",
    multiple=True,
    help="Another model, for requests that name it; may be repeated.",
)
@provider_option
@threads_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 is all of the machine's.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at.",
)
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="JSON with limits and batching; see README.",
)
@click.option(
    "--batch", type=click.IntRange(1), help="Pairs that are scored together at most.  [default: 32]"
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    help="Pairs that may wait; beyond it requests are answered 503.  [default: 512]",
)
@click.option(
    "--max-wait",
    type=FINITE,
    metavar="SECONDS",
    help="That a pair may be expected to wait; beyond it likewise.  [default: 5]",
)
@click.option(
    "--deadline",
    type=FINITE,
    metavar="SECONDS",
    help="Until a request is given up with 504.  [default: 30]",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Name by which it may be asked, as match.example.com; may be repeated. See README.",
)
@click.option(
    "--reload",
    is_flag=True,
    default=None,
    help="Let POST /v1/reload load the models anew; SIGHUP always does.",
)
def command(also: tuple[str, ...], **options: Any) -> None:
    """Serve a page at /, POST /v1/predict, /v1/predict/batch and /v1/explain, GET /v1/model,
    /healthz, /readyz, /metrics and /openapi.json.

    Pairs of several requests are scored together. Bearer tokens, by comma, in
    MISMATCH_SERVE_TOKENS, and names for --allow-host in MISMATCH_SERVE_HOSTS. SIGTERM finishes what
    was accepted; SIGHUP loads the models anew without losing a request.
    """
    from mismatch.jobs.serve import serve

    serve(also=dict(map(_named, also)), **options)


def _named(text: str) -> tuple[str, str]:
    name, given, path = text.partition("=")
    if not (name and given and path):
        raise click.UsageError(f"--also {text}: NAME=DIR is needed")
    return name, path
