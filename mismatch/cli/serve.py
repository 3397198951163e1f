"""`mismatch serve`: see `mismatch.serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import MODEL_ENV, PROVIDER, THREADS_OPTION
from mismatch.cli.value_types import FINITE
from mismatch.cli.verb import option, verb

__all__ = ["command"]


@verb(
    "Put a model behind HTTP.",
    option("--model", envvar=MODEL_ENV, metavar="DIR"),
    option("--also", multiple=True, metavar="NAME=DIR"),
    PROVIDER,
    THREADS_OPTION,
    option("--host", default="127.0.0.1"),
    option("--port", click.IntRange(0, 65535), 8000),
    option("--settings settings_file", click.Path(path_type=Path, dir_okay=False), metavar="FILE"),
    option("--batch", click.IntRange(1)),
    option("--queue", click.IntRange(1)),
    option("--max-wait", FINITE, metavar="SECONDS"),
    option("--deadline", FINITE, metavar="SECONDS"),
    option("--allow-host hosts", multiple=True, metavar="NAME"),
    click.Option(["--reload"], is_flag=True, default=None),
)
def command(also: tuple[str, ...], **options: Any) -> None:
    """Serve a page at /, POST /v1/predict, /v1/predict/batch and /v1/explain, GET /v1/model,
    /healthz, /readyz, /metrics and /openapi.json.

    Pairs of several requests are scored together. Bearer tokens, by comma, in
    MISMATCH_SERVE_TOKENS, and names for --allow-host in MISMATCH_SERVE_HOSTS. SIGTERM finishes what
    was accepted; SIGHUP loads the models again without losing a request.

    Options:
    --model: Folder of a trained model or an ONNX bundle, or FAMILY:MODEL.
        [default: $CLIP_FINE_TUNED_MODEL_PATH]
    --also: Another model, for requests that name it; may be repeated.
    --host: Address to listen at; 0.0.0.0 is all of the machine's.
    --port: Port to listen at.
    --settings: JSON with limits and batching; the service's reference lists all.
    --batch: Pairs that are scored together at most.  [default: 32]
    --queue: Pairs that may wait; beyond it requests are answered 503.  [default: 512]
    --max-wait: That a pair may be expected to wait; beyond it likewise.  [default: 5]
    --deadline: Until a request is given up with 504.  [default: 30]
    --allow-host: Name by which it may be asked, as match.example.com; may be repeated.
    --reload: Let POST /v1/reload load the models again; SIGHUP always does.
    """
    from mismatch.jobs.serve import serve

    serve(also=_by_name(also), **options)


def _by_name(also: tuple[str, ...]) -> dict[str, str]:
    folders: dict[str, str] = {}
    for text in also:
        name, mark, path = text.partition("=")
        if not (name and mark and path):
            raise click.UsageError(f"--also {text}: NAME=DIR is needed")
        if name in folders:
            raise click.UsageError(f"--also {text}: {name} is {folders[name]} already")
        folders[name] = path
    return folders
