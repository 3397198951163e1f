"""`mismatch serve`: a real process behind a real port."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from mismatch.cli import main, serve


def image64(colour: tuple[int, int, int]) -> str:
    held = io.BytesIO()
    Image.new("RGB", (20, 12), colour).save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


def free_port() -> int:
    with closing(socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_bundle_behind_a_real_server_loses_nothing_at_sigterm(tiny_bundles: dict[str, Path]) -> None:
    """`mismatch serve` as a process: what it has accepted when it is told to stop is answered."""
    port = free_port()
    command = [sys.executable, "-m", "mismatch", "serve", "--model", str(tiny_bundles["hf-clip"]), "--port", str(port), "--batch", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        address = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/readyz").read()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
        images = {str(number): image64((number, 0, 0)) for number in range(60)}
        body = json.dumps({"images": images, "texts": {"t": "red"}, "pairs": [{"image": name, "text": "t"} for name in images]}).encode()
        answers: list[Any] = []

        def ask() -> None:
            request = urllib.request.Request(f"{address}/v1/predict/batch", body, {"content-type": "application/json"})
            answers.append(json.loads(urllib.request.urlopen(request).read())["answers"])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        while b"waiting" in (state := urllib.request.urlopen(f"{address}/readyz").read()) and json.loads(state)["waiting"] < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(60) == 143
        assert [len(one) for one in answers] == [60] * 3
        assert all(answer["status"] == "ok" for one in answers for answer in one)
        lines = [json.loads(line) for line in (process.stderr or io.StringIO()).read().splitlines() if line.startswith("{")]
        assert [line["status"] for line in lines if line["route"] == "/v1/predict/batch"] == [200] * 3


def run(*args: str) -> Any:
    return CliRunner().invoke(main, ["serve", *args], prog_name="mismatch")


def test_without_the_extra_it_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "NEEDED", ("no_such_package",))
    result = run("--model", "m")
    assert result.exit_code == 2
    assert 'pip install "mismatch-clip[serve]"' in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "m", "--settings", "absent.json"], "absent.json can't be read"),
        (["--model", "m", "--queue", "10"], "may have 256 pairs, but only 10 may wait"),
        (["--model", "m", "--deadline", "0"], "deadline is 0.0"),
        (["--model", "m", "--also", "second"], "NAME=DIR is needed"),
        (["--model", "m", "--also", "a/b=dir"], "'a/b' can't be a model's name"),
    ],
)
def test_wrong_settings_are_one_line(args: list[str], words: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_model_that_is_not_there_ends_it_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mismatch", "serve", "--model", str(tmp_path / "absent"), "--port", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "absent not found" in line]
    assert "Traceback" not in done.stderr
