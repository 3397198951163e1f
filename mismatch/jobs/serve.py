"""A model behind HTTP, until the process receives a signal to stop."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mismatch.errors import InputError, MachineError, MissingExtraError
from mismatch.jobs.value_checks import checked
from mismatch.runtime.predictor import Predictor

if TYPE_CHECKING:
    from mismatch.serving.configuration import Settings

__all__ = ["GRACE", "serve"]

# import names of what the extra [serve] brings
NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client")
# seconds that a thread keeps the interpreter while the event loop waits for it; Python's own is
# 0.005
SWITCH = 0.001
GRACE = 60  # seconds that accepted requests have after SIGTERM, or two deadlines

logger = logging.getLogger(__name__)


@checked
def serve(
    model: str | Path | Predictor | None = None,
    *,
    also: Mapping[str, str | Path] | None = None,
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto",
    threads: int | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings_file: str | Path | None = None,
    batch: int | None = None,
    queue: int | None = None,
    max_wait: float | None = None,
    deadline: float | None = None,
    hosts: Sequence[str] = (),
    reload: bool | None = None,
) -> None:
    """Serve models over HTTP, with a page at `/`, until the process receives a signal to stop.

    SIGTERM finishes what was accepted, and then ends the process; Ctrl-C does the same, and is a
    KeyboardInterrupt. SIGHUP loads the models again without losing a request. No signal arrives
    in a thread that is not the main one. The service's log is JSON on standard error.

    `model`: folder of a trained model or a bundle, FAMILY:MODEL, or a Predictor of such a folder,
    which is loaded again; None where `settings_file` names one. `also`: further models by name.
    `provider`: where they run. `threads`: the towers'. `host`, `port`: where to listen; 0.0.0.0
    is all addresses of the machine, port 0 a free one. `settings_file`: JSON with limits and
    batching. These win over it: `batch`, pairs that are scored together at most (32); `queue`,
    pairs that may wait (512); `max_wait`, seconds that a pair may be expected to wait (5);
    `deadline`, seconds until a request is given up (30); `hosts`, names by which it may be asked;
    `reload`, whether POST /v1/reload is allowed (False). Bearer tokens come from the environment's
    MISMATCH_SERVE_TOKENS, further names from MISMATCH_SERVE_HOSTS.

    Raises InputError for wrong settings, CheckpointError for a model that can't be opened,
    MachineError where it can't listen.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise MissingExtraError("mismatch serve", "serve")
    from mismatch.serving.hangups import deferred_hangups

    options = {
        "model": _folder(model),
        "models": {name: str(folder) for name, folder in (also or {}).items()} or None,
        "provider": provider,
        "threads": threads,
        "batch": batch,
        "queue": queue,
        "max_wait": max_wait,
        "deadline": deadline,
        "hosts": tuple(hosts) or None,
        "reload": reload,
    }
    with deferred_hangups() as send_again:
        settings = _settings(settings_file, options)
        _serve(settings, host, port, send_again)


def _folder(model: str | Path | Predictor | None) -> str | None:
    """Return where a model is loaded from."""
    if isinstance(model, Predictor):
        if model.origin is None:
            raise InputError(
                "this `model` was made of an engine, and a service loads models from their folders;"
                " give one's folder"
            )
        model = model.origin
    return None if model is None else str(model)


def _settings(file: str | Path | None, options: Mapping[str, Any]) -> Settings:
    """Return those of the file, the environment and the options; these win."""
    from mismatch.serving.configuration import Settings, settings_of_environment

    chosen: dict[str, Any] = dict(settings_of_environment())
    chosen |= {name: value for name, value in options.items() if value is not None}
    if file is not None:
        return Settings.read(file, **chosen)
    if "model" not in chosen:
        raise InputError(
            "no model is named; give `model`, or a `settings_file` that names one", option="model"
        )
    return Settings(**chosen)


def _serve(settings: Settings, host: str, port: int, send_again: Callable[[], None]) -> None:
    """Load the models and answer until the process receives a signal to stop."""
    from mismatch.runtime.predictor import load
    from mismatch.serving.app import create_app
    from mismatch.serving.hosts import HOST_NAME
    from mismatch.serving.listening import Server, url_of

    if HOST_NAME.fullmatch(host):
        settings = replace(settings, hosts=(*settings.hosts, host))
    models = {
        name: load(path, settings.provider, settings.threads)
        for name, path in settings.named.items()
    }

    def announce(url: str) -> None:
        logger.info(
            "%s at %s, where a page is, and /openapi.json for programs", settings.model, url
        )
        send_again()

    with _ends_after_log(), _log_as_json(), _switching():
        server = Server(
            create_app(settings, models),
            settings,
            host,
            port,
            announce,
            timeout_graceful_shutdown=_grace(settings),
        )
        with suppress(SystemExit):  # uvicorn's, which has logged why it can't listen
            server.run()
    if not server.started:
        where = url_of(host, port).removeprefix("http://")
        raise MachineError(f"the service could not start at {where}; its log says why")


def _grace(settings: Settings) -> int:
    """Return how many seconds accepted requests have after SIGTERM: a deadline for the body, and
    one for the work.
    """
    return math.ceil(max(GRACE, 2 * settings.deadline))


@contextmanager
def _ends_after_log() -> Iterator[None]:
    """Where SIGTERM would end the process, let it do so after the block: uvicorn sends one that it
    has obeyed again, and the log would not be written.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    came = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        came.set()
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if came.is_set():
            signal.raise_signal(signal.SIGTERM)


@contextmanager
def _switching() -> Iterator[None]:
    """Let threads take turns quickly until the block ends."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _log_as_json() -> Iterator[None]:
    """Write the service's log as JSON until the block ends."""
    from mismatch.serving.telemetry import logged_as_json

    with logged_as_json() as writer:
        try:
            yield
        finally:
            if not writer.drain():
                _silence_stderr()


def _silence_stderr() -> None:
    """Send stderr nowhere: nobody reads it, and what is written at the end would wait for that."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
