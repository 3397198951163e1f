"""What tests of the service share: images, a client in the same process, a server behind a port,
and one in a process of its own.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from mismatch.runtime.predictor import Predictor
from mismatch.serving.app import create_app
from mismatch.serving.configuration import Settings
from mismatch.serving.listening import Server
from tests.support.processes import command_line, free_port, started

__all__ = [
    "image",
    "post",
    "problem",
    "running",
    "served_process",
    "server",
    "serving",
    "settings_of",
    "text64",
    "wait_until_ready",
]


START_SECONDS = 120


def image(colour: Any = "red", size: tuple[int, int] = (20, 12), kind: str = "PNG") -> bytes:
    held = io.BytesIO()
    Image.new("RGB", size, colour).save(held, kind)
    return held.getvalue()


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def problem(response: Any) -> tuple[int, str]:
    """Status and sentence of an answer that must be a problem document."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code
    return response.status_code, response.json()["detail"]


def settings_of(
    given: Predictor | Mapping[str, Predictor], **options: Any
) -> tuple[Settings, Mapping[str, Predictor]]:
    predictors = {"default": given} if isinstance(given, Predictor) else given
    return (
        Settings(
            **{"model": "m", "models": {name: name for name in predictors if name != "default"}}
            | options
        ),
        predictors,
    )


@contextmanager
def serving(given: Predictor | Mapping[str, Predictor], **options: Any) -> Iterator[TestClient]:
    """A client of the application in this process."""
    with TestClient(
        create_app(*settings_of(given, **options)), raise_server_exceptions=False
    ) as client:
        yield client


@contextmanager
def server(given: Predictor | Mapping[str, Predictor], **options: Any) -> Iterator[int]:
    """uvicorn, as `mismatch serve` sets it up, in a thread; its port."""
    settings, predictors = settings_of(given, **options)
    with running(create_app(settings, predictors), settings) as (_, port):
        yield port


@contextmanager
def running(app: Any, settings: Settings) -> Iterator[tuple[Server, int]]:
    """The server of an application in a thread, and its port."""
    port = free_port()
    found = Server(app, settings, "127.0.0.1", port)
    thread = threading.Thread(target=found.run)
    thread.start()
    while not found.started:
        time.sleep(0.01)
    try:
        yield found, port
    finally:
        found.should_exit = True
        thread.join()


@contextmanager
def served_process(
    *args: object, env: Mapping[str, str] | None = None, shell: str = "", **options: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mismatch serve` as a process that is ready, and its address; ended with the block. `env` is
    added to the environment; `shell` is what a shell does before it becomes the command.
    """
    port = free_port()
    command = command_line("serve", "--port", port, *args)
    if shell:
        command = ["/bin/sh", "-c", f"{shell}; exec {shlex.join(command)}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(env or {})
    with started(command, env=environment, **options) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(process, address)
        yield process, address


def wait_until_ready(process: subprocess.Popen[str], address: str) -> None:
    """Wait until a service has loaded its models; fail where its process ends before."""
    until = time.monotonic() + START_SECONDS
    while True:
        with suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{address}/readyz").read()
            return
        assert process.poll() is None, "it ended before it was ready"
        assert time.monotonic() < until, "it is not ready in time"
        time.sleep(0.1)


def post(address: str, route: str, message: Any) -> Any:
    """The answer's JSON."""
    request = urllib.request.Request(
        address + route, json.dumps(message).encode(), {"content-type": "application/json"}
    )
    return json.loads(urllib.request.urlopen(request).read())
