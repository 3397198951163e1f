"""`mismatch serve`: a real process behind a real port."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_INET6, create_server, socket
from typing import Any
from urllib.parse import urlsplit

import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.jobs import serve
from mismatch.serving.configuration import Settings
from tests.support import commands
from tests.support.paths import BUNDLE
from tests.support.processes import command_line, finished, free_port, started
from tests.support.serving import image, post, served_process, text64, wait_until_ready


def test_a_bundle_behind_a_real_server_loses_nothing_at_sigterm(
    tiny_bundles: dict[str, Path],
) -> None:
    """`mismatch serve` as a process: what it has accepted when it is told to stop is answered."""
    with served_process(
        "--model", str(tiny_bundles["hf-clip"]), "--batch", "1", "--max-wait", "100"
    ) as (process, address):
        question = many(60)
        answers: list[Any] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(
                    post(address, "/v1/predict/batch", question)["answers"]
                )
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        while json.loads(urllib.request.urlopen(f"{address}/readyz").read())["waiting"] < 100:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(60) == 143
        assert [len(one) for one in answers] == [60] * 3
        assert all(answer["status"] == "ok" for one in answers for answer in one)
        lines = log_lines(process)
        assert [line["status"] for line in lines if line.get("route") == "/v1/predict/batch"] == [
            200
        ] * 3


def test_a_new_bundle_is_loaded_under_load_and_no_request_is_lost(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    """SIGHUP, and POST /v1/reload, while clients ask all the time: all are answered, by the one
    model or by the other; one that can't be loaded changes nothing.
    """
    place = tmp_path / "bundle"
    shutil.copytree(tiny_bundles["hf-clip"], place)
    question = {"image": text64(image("red")), "text": "red"}
    with served_process("--model", str(place), "--reload") as (process, address):
        first = json.loads(urllib.request.urlopen(f"{address}/v1/model").read())["model_id"]
        asked: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                asked.append(post(address, "/v1/predict", question)["model_id"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        shutil.rmtree(place)
        shutil.copytree(tiny_bundles["openclip"], place)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while len(set(asked)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        (place / "head.onnx").write_bytes(b"damaged")
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(address, "/v1/reload", {})
        said = refused.value.read().decode()
        second = post(address, "/v1/predict", question)["model_id"]
        stop.set()
        for thread in threads:
            thread.join()
        assert first != second
        assert set(asked) == {first, second}
        assert asked[-1] == second
        assert refused.value.code == 500
        assert str(tmp_path) not in said
        shutil.rmtree(place)
        shutil.copytree(tiny_bundles["hf-clip"], place)
        assert post(address, "/v1/reload", {}) == {
            "models": [{"name": "default", "model_id": first}],
            "changed": ["default"],
        }
        process.terminate()
        lines = log_lines(process)
    assert [line["level"] for line in lines if "error" in line] == ["error"]
    assert {line["status"] for line in lines if line.get("route") == "/v1/predict"} == {200}


def many(count: int) -> dict[str, Any]:
    """A message of so many different images."""
    images = {str(number): text64(image((number, 0, 0))) for number in range(count)}
    return {
        "images": images,
        "texts": {"t": "red"},
        "pairs": [{"image": name, "text": "t"} for name in images],
    }


def log_lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """All that it has written to its log until it ended."""
    return [
        json.loads(line)
        for line in (process.stderr or io.StringIO()).read().splitlines()
        if line.startswith("{")
    ]


run = partial(commands.run, "serve")


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
        (["--model", "m", "--also", "a=x", "--also", "a=y"], "--also a=y: a is x already"),
        (
            ["--model", "m", "--allow-host", "ok.example", "--allow-host", "match.example:80"],
            "'match.example:80' is no name",
        ),
    ],
)
def test_wrong_settings_are_one_line(args: list[str], words: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_hosts_that_it_answers_to_come_from_options_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def create_app(settings: Any, preloaded: Any) -> None:
        seen.append(settings.hosts)
        sys.exit(3)

    monkeypatch.setattr("mismatch.serving.app.create_app", create_app)
    monkeypatch.setattr("mismatch.runtime.predictor.load", lambda *args: None)
    (tmp_path / "s.json").write_text(json.dumps({"model": "m", "hosts": ["file.example"]}))
    monkeypatch.setenv("MISMATCH_SERVE_HOSTS", "environment.example")
    run("--model", "m", "--host", "0.0.0.0")
    run("--model", "m", "--allow-host", "a.example", "--allow-host", "*.b.example")
    monkeypatch.delenv("MISMATCH_SERVE_HOSTS")
    run("--settings", str(tmp_path / "s.json"), "--host", "here.example")
    run("--model", "m", "--host", "::1")
    assert seen == [
        ("environment.example", "0.0.0.0"),
        ("a.example", "*.b.example", "127.0.0.1"),
        ("file.example", "here.example"),
        (),
    ]


def test_a_model_that_is_not_there_ends_it_in_one_line(tmp_path: Path) -> None:
    command = command_line("serve", "--model", tmp_path / "absent", "--port", free_port())
    done = finished(command)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "absent not found" in line]
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_ends_it_in_one_line() -> None:
    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = finished(command_line("serve", "--model", BUNDLE, "--port", port))
    assert done.returncode == 2
    assert "the service could not start at 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def start(*args: object, **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(command_line("serve", "--model", BUNDLE, *args), **options)


def announced(process: subprocess.Popen[str]) -> str:
    """The URL that it says it is at."""
    line = process.stderr.readline() if process.stderr else ""
    found = re.search(r"at (http://\S+),", line)
    assert found is not None, line
    return found.group(1)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_is_told_once_it_can_be_asked(host: str, shown: str) -> None:
    if host == "::1" and not socket_of_ipv6():
        pytest.skip("this machine has no IPv6")
    with start("--host", host, "--port", "0") as process:
        url = announced(process)
        assert re.fullmatch(re.escape(f"http://{shown}:") + r"[1-9]\d+", url)
        assert urllib.request.urlopen(f"{url}/healthz").read() == b"ok\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def socket_of_ipv6() -> bool:
    try:
        with socket(AF_INET6) as line:
            line.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_it_answers_and_stops_though_nobody_reads_its_log() -> None:
    requests = 100 if sys.platform == "linux" else 800  # elsewhere a pipe keeps its size
    with start("--port", "0", pipesize=4096) as process:
        url = urlsplit(announced(process))
        with closing(HTTPConnection(url.hostname or "", url.port, timeout=10)) as connection:
            for _ in range(requests):
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b"ok\n"
        process.terminate()
        assert process.wait(20) == 143


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full disk")
def test_it_serves_where_standard_error_is_a_full_disk() -> None:
    port = free_port()
    with open("/dev/full", "w") as full, start("--port", port, stderr=full) as process:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read() == b"ok\n"


SLOW = """
import os, signal
import mismatch
from mismatch.cli import main
from mismatch.runtime import predictor

def load(*args, real=predictor.load):
    os.kill(os.getpid(), signal.SIGHUP)
    return real(*args)

predictor.load = load
main(["serve", "--model", {model!r}, "--port", "0"])
"""


def test_a_hangup_while_models_load_loads_them_again_afterwards() -> None:
    code = SLOW.format(model=str(BUNDLE))
    with started([sys.executable, "-c", code]) as process:
        announced(process)
        line = process.stderr.readline() if process.stderr else ""
        assert json.loads(line)["message"] == "loaded again"
        process.terminate()
        assert process.wait(60) == 143


@pytest.mark.parametrize("deadline", [1.0, 300.0])
def test_what_was_accepted_has_two_deadlines_at_the_end(deadline: float) -> None:
    grace = serve._grace(Settings("m", deadline=deadline))
    assert grace == max(serve.GRACE, 2 * deadline)


def test_a_second_interrupt_ends_it_at_once_and_without_a_trace(tmp_path: Path) -> None:
    with create_server(("127.0.0.1", 0)) as host:
        where = f"127.0.0.1:{host.getsockname()[1]}"
        settings = {"fetch": [where], "fetch_networks": ["127.0.0.0/8"], "fetch_seconds": 3}
        (tmp_path / "s.json").write_text(json.dumps(settings))
        with start("--port", "0", "--settings", str(tmp_path / "s.json")) as process:
            url = announced(process)
            message = {"image_url": f"http://{where}/a.png", "text": "red"}
            codes: list[int] = []

            def ask() -> None:
                try:
                    post(url, "/v1/predict", message)
                except urllib.error.HTTPError as error:
                    codes.append(error.code)

            thread = threading.Thread(target=ask)
            thread.start()
            with host.accept()[0]:
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
                process.send_signal(signal.SIGINT)
                thread.join()
                said = process.stderr.read() if process.stderr else ""
            assert process.wait(60) == 130
    assert "Traceback" not in said
    assert codes == [503]


SCRIPT = """
import logging, signal, sys, mismatch

def show(record):
    sys.stderr.write(record.getMessage() + chr(10))
    sys.stderr.flush()
    return False

logging.basicConfig(level=logging.INFO)
logging.getLogger("mismatch.jobs.serve").addFilter(show)
try:
    mismatch.serve({model}, port=0, batch=4)
except KeyboardInterrupt:
    print(sys.getswitchinterval(), logging.getLogger("mismatch.serving").handlers)
"""


@pytest.mark.parametrize("model", ["{!r}", "mismatch.load({!r})"], ids=["path", "predictor"])
def test_a_script_serves_until_it_is_interrupted(model: str) -> None:
    with script(model.format(str(BUNDLE))) as process:
        url = announced(process)
        assert json.loads(urllib.request.urlopen(f"{url}/v1/model").read())
        process.send_signal(signal.SIGINT)
        left, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert left == "0.005 []\n", "its own loggers and the interpreter are as they were"
    assert json.loads(log.splitlines()[-1])["route"] == "/v1/model"


def test_a_script_that_is_terminated_has_written_its_log() -> None:
    with script(repr(str(BUNDLE))) as process:
        url = announced(process)
        assert urllib.request.urlopen(f"{url}/v1/model").read()
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert json.loads(log.splitlines()[-1])["route"] == "/v1/model"


def script(model: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SCRIPT.format(model=model)]
    return started(command, stdout=subprocess.PIPE)


def test_a_service_needs_a_model_with_a_folder() -> None:
    with pytest.raises(InputError, match="give `model`, or a `settings_file`"):
        mismatch.serve()
    predictor = mismatch.load(BUNDLE)
    predictor._model.origin = None
    with pytest.raises(InputError, match="loads models from their folders"):
        mismatch.serve(predictor)
