"""`mismatch serve`: a model behind HTTP."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import FINITE
from mismatch.cli.options import MODEL_ENV, provider_option, threads_option
from mismatch.errors import MissingExtraError

if TYPE_CHECKING:
    from mismatch.serving.configuration import Settings

__all__ = ["command"]

# import names of what the extra [serve] brings
NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client")
# seconds that a thread keeps the interpreter while the event loop waits for it; Python's own is
# 0.005
SWITCH = 0.001
GRACE = 60  # seconds that accepted requests have after SIGTERM, or two deadlines


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
def command(
    host: str,
    port: int,
    settings_file: Path | None,
    also: tuple[str, ...],
    hosts: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve a page at /, POST /v1/predict, /v1/predict/batch and /v1/explain, GET /v1/model,
    /healthz, /readyz, /metrics and /openapi.json.

    Pairs of several requests are scored together. Bearer tokens, by comma, in
    MISMATCH_SERVE_TOKENS, and names for --allow-host in MISMATCH_SERVE_HOSTS. SIGTERM finishes what
    was accepted; SIGHUP loads the models anew without losing a request.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise MissingExtraError("mismatch serve", "serve")
    from mismatch.serving.hangups import deferred_hangups

    with deferred_hangups() as send_again:
        _serve(_settings(settings_file, also, hosts, options), host, port, send_again)


def _serve(settings: Settings, host: str, port: int, send_again: Callable[[], None]) -> None:
    """Load the models and answer until the process is told to stop."""
    from mismatch.runtime.predictor import load
    from mismatch.serving.app import create_app
    from mismatch.serving.hosts import HOST_NAME
    from mismatch.serving.listening import Server, url_of
    from mismatch.serving.telemetry import log_as_json

    if HOST_NAME.fullmatch(host):
        settings = replace(settings, hosts=(*settings.hosts, host))
    given = {
        name: load(path, settings.provider, settings.threads)
        for name, path in settings.named.items()
    }
    writer = log_as_json()
    sys.setswitchinterval(SWITCH)

    def announce(url: str) -> None:
        words = f"{settings.model} at {url}, where a page is, and /openapi.json for programs"
        with suppress(OSError):  # as the log, which nobody may be able to write
            click.echo(words, err=True)
        send_again()

    server = Server(
        create_app(settings, given),
        settings,
        host,
        port,
        announce,
        timeout_graceful_shutdown=_grace(settings),
    )
    try:
        with suppress(SystemExit):  # of uvicorn, which has logged why it can't listen
            server.run()
    finally:
        if not writer.drain():
            _silence_stderr()
    if not server.started:
        where = url_of(host, port).removeprefix("http://")
        raise click.ClickException(f"the service could not start at {where}; its log says why")


def _grace(settings: Settings) -> int:
    """Return how many seconds accepted requests have after SIGTERM: for its body and its work a
    deadline.
    """
    return math.ceil(max(GRACE, 2 * settings.deadline))


def _silence_stderr() -> None:
    """Send stderr nowhere: nobody reads it, and what is written at the end would wait for that."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _settings(
    file: Path | None, also: tuple[str, ...], hosts: tuple[str, ...], options: dict[str, Any]
) -> Settings:
    """Return those of the file, the environment and the options; these win."""
    from mismatch.serving.configuration import Settings, settings_of_environment

    given = {
        name: value for name, value in options.items() if value is not None
    } | settings_of_environment()
    if also:
        given["models"] = dict(map(_named, also))
    if hosts:
        given["hosts"] = hosts
    if file is not None:
        return Settings.read(file, **given)
    if "model" not in given:
        raise click.UsageError(
            "no model is named; give --model, --settings with a file that names one, or set"
            f" {MODEL_ENV}"
        )
    return Settings(**given)


def _named(text: str) -> tuple[str, str]:
    name, given, path = text.partition("=")
    if not (name and given and path):
        raise click.UsageError(f"--also {text}: NAME=DIR is needed")
    return name, path
