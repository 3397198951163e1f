"""A server of an object store, for tests of what is remote."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.processes import free_port, started

__all__ = ["s3_server"]

START_SECONDS = 60


@contextmanager
def s3_server(bucket: str) -> Iterator[None]:
    """Serve an empty bucket by S3's protocol, to this process and its children, until the end."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    access = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "never-shown",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    silence = subprocess.DEVNULL
    make_bucket = urllib.request.Request(f"{address}/{bucket}", method="PUT")
    with (
        pytest.MonkeyPatch.context() as patch,
        started(command, stdout=silence, stderr=silence) as server,
    ):
        for name, value in access.items():
            patch.setenv(name, value)
        end = time.monotonic() + START_SECONDS
        while server.poll() is None and time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(make_bucket, timeout=5):
                break
            time.sleep(0.1)
        yield
