"""examples/client.py and client.sh against a real `mismatch serve`, and against a service that is
busy.
"""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import mismatch
from tests.support.paths import ROOT
from tests.support.serving import served_process

EXAMPLES = ROOT / "examples"
TOKEN = "a-token-of-the-test"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("client", EXAMPLES / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["client"] = module  # where dataclasses look up annotations
    spec.loader.exec_module(module)
    return module


client = load_example()


@pytest.fixture(scope="module")
def address(
    tiny_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A service that takes requests of 8 pairs and 100 kB."""
    settings = tmp_path_factory.mktemp("serve") / "settings.json"
    settings.write_text(json.dumps({"max_pairs": 8, "max_body": 100_000, "max_text": 500}))
    given = ("--model", tiny_bundles["openclip"], "--settings", settings)
    token = {"MISMATCH_SERVE_TOKENS": TOKEN}
    with served_process(*given, env=token, stderr=subprocess.DEVNULL) as (_, address):
        yield address


@pytest.fixture
def photos(colour_images: Path) -> Path:
    """Beside the colours: thirty pictures of noise, 12 kB each, of which a request holds few."""
    for number in range(30):
        Image.effect_noise((110, 110), 90 + number).save(
            colour_images / f'noise {number:02}, loud; "new".png'
        )
    return colour_images


def test_one_pair(address: str, colour_images: Path, tiny_bundles: dict[str, Path]) -> None:
    expected = mismatch.load(tiny_bundles["openclip"], "cpu").predict(
        colour_images / "red.png", "a red shirt"
    )
    with client.Client(address, token=TOKEN) as service:
        answer = service.predict(colour_images / "red.png", "a red shirt")
        assert service.predict((colour_images / "red.png").read_bytes(), "a red shirt") == answer
    assert answer.similarity_score == pytest.approx(expected.similarity_score, abs=1e-6)
    assert (answer.prediction, answer.status, answer.is_match) == (
        expected.prediction,
        "ok",
        expected.is_match,
    )
    assert len(answer.model_id) == 16


def test_many_pairs_in_order_with_what_is_wrong_as_a_status(
    address: str, photos: Path, tiny_bundles: dict[str, Path]
) -> None:
    """More pairs and bytes than one request takes; some that the service would refuse together with
    the others of their request.
    """
    names = sorted(path.name for path in photos.iterdir() if path.name.startswith("noise"))
    rows = [(name, text) for name in names for text in ("a red shirt", f"of {name}")]
    rows[7:7] = [
        ("absent.png", "red"),
        ("lie.jpg", "red"),
        ("red.png", " "),
        ("red.png", "red " * 200),
        ("cut.jpg", "red"),
    ]
    with client.Client(address, token=TOKEN) as service:
        answers = list(
            service.predict_pairs(client.Pair(photos / name, text) for name, text in rows)
        )
    assert [answer.prediction == "error" for answer in answers] == [
        7 <= number < 12 for number in range(len(rows))
    ]
    for answer, words in zip(
        answers[7:12],
        (
            "can't be read",
            "no known format",
            "the text is empty",
            "the text has more than 500",
            "damaged or cut short",
        ),
        strict=True,
    ):
        assert words in answer.status
    good = [{"image_path": name, "text": text} for name, text in rows[:7] + rows[12:]]
    expected = mismatch.load(tiny_bundles["openclip"], "cpu").predict_pairs(
        good, image_base_path=photos
    )
    scores = [answer.similarity_score for answer in answers[:7] + answers[12:]]
    assert scores == pytest.approx([one.similarity_score for one in expected], abs=1e-6)


def test_no_token_is_one_error(address: str, colour_images: Path) -> None:
    with (
        client.Client(address) as service,
        pytest.raises(client.ServiceError, match="401: a bearer token is needed"),
    ):
        service.predict(colour_images / "red.png", "red")


def run(*args: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    command = (
        [sys.executable, EXAMPLES / "client.py"]
        if str(args[0]) != "client.sh"
        else [EXAMPLES / "client.sh"]
    )
    rest = args[1:] if str(args[0]) == "client.sh" else args
    return subprocess.run(
        [str(part) for part in [*command, *rest]],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def test_the_command_line(
    address: str, colour_images: Path, write_rows: Any, tmp_path: Path
) -> None:
    one = run("--url", address, colour_images / "red.png", "red", MISMATCH_TOKEN=TOKEN)
    assert one.returncode == 0, one.stderr
    assert one.stdout.split()[1] in ("match", "mismatch")
    folder = run("--url", address, colour_images, "red", MISMATCH_TOKEN=TOKEN)
    found = {
        Path(row["image_path"]).name: row for row in csv.DictReader(io.StringIO(folder.stdout))
    }
    assert set(found) == {"red.png", "green.png", "blue.png", "whole.jpg", "cut.jpg", "lie.jpg"}
    assert f"{float(found['red.png']['similarity_score']):.4f}" == one.stdout.split()[0]
    rows = write_rows(tmp_path / "rows.csv", [("image_path", "text"), ("red.png", "red")])
    table = run(
        "--url", address, "--csv", rows, "--image-base-path", colour_images, MISMATCH_TOKEN=TOKEN
    )
    assert [row["similarity_score"] for row in csv.DictReader(io.StringIO(table.stdout))] == [
        found["red.png"]["similarity_score"]
    ]
    refused = run("--url", address, colour_images / "red.png", "red")
    assert (refused.returncode, refused.stderr) == (2, "client: 401: a bearer token is needed\n")


ROWS = {
    "a row too short": (b"image_path,text\nred.png,red\nred.png\n", ":3: the row has no text"),
    "no column": (b"path,text\nred.png,red\n", ":2: the row has no image_path"),
    "Latin-1": ("image_path,text\nred.png,caf\xe9\n".encode("latin-1"), "not in UTF-8; save it"),
    "a row too long": (
        b"image_path,text\nred.png,red, white and blue\n",
        ":2: the row has more fields than the header",
    ),
    "a name twice": (b"image_path,text,text\nred.png,red,blue\n", "two columns have one name"),
    "outside": (b"image_path,text\n../red.png,red\n", ":2: '../red.png' lies outside of"),
    "a huge field": (b"image_path,text\nred.png," + b"a" * 200_000, ":2: field larger"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_table_that_is_wrong_is_one_line(kind: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    content, words = ROWS[kind]
    rows.write_bytes(content)
    done = run("--csv", rows)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{rows}" in done.stderr
    assert words in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
def test_words_that_are_no_text(address: str, colour_images: Path, tmp_path: Path) -> None:
    wrong = os.fsencode("caf") + b"\xe9"
    red = colour_images / "red.png"
    done = run("--url", address, red, os.fsdecode(wrong), MISMATCH_TOKEN=TOKEN)
    assert done.returncode == 2
    assert "text: it is not in UTF-8" in done.stderr
    assert "Traceback" not in done.stderr
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(red, folder / f"{os.fsdecode(wrong)}.png")
    done = run("--url", address, folder, "red", MISMATCH_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert ",ok," in done.stdout
    rows = tmp_path / "rows.csv"
    rows.write_bytes(b"image_path,text\na\0b.png,red\nred.png,red\n")
    done = run(
        "--url", address, "--csv", rows, "--image-base-path", colour_images, MISMATCH_TOKEN=TOKEN
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "can't be read; check its path" in done.stdout
    assert ",ok," in done.stdout
    for odd in ("caf\xe9" * 8, os.fsdecode(wrong * 8)):
        done = run("--url", address, red, "red", MISMATCH_TOKEN=odd)
        assert (done.returncode, done.stderr) == (2, "client: 401: a bearer token is needed\n")
    done = run("--url", "http://[", red, "red")
    assert done.returncode == 2
    assert done.stderr.startswith("client: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_script_for_curl(address: str, photos: Path) -> None:
    """Names and texts that curl or the shell could take for something else."""
    for name in ("red.png", 'noise 00, loud; "new".png'):
        for text in ("a red shirt", "@/etc/hostname; $(id)"):
            done = run("client.sh", photos / name, text, MISMATCH_URL=address, MISMATCH_TOKEN=TOKEN)
            assert done.returncode == 0, done.stderr
            with client.Client(address, token=TOKEN) as service:
                assert client.Answer(**json.loads(done.stdout)) == service.predict(
                    photos / name, text
                )
    refused = run("client.sh", photos / "red.png", "red", MISMATCH_URL=address)
    assert refused.returncode == 22
    assert json.loads(refused.stdout)["detail"] == "a bearer token is needed"
    assert run("client.sh", "red.png").returncode == 2


ANSWER = {
    "similarity_score": 0.5,
    "threshold": 0.5,
    "is_match": True,
    "prediction": "match",
    "status": "ok",
    "model_id": "0" * 16,
}


@contextmanager
def busy_service(refusals: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answers 503 as often as there are refusals, each with its Retry-After; then as the service
    does.
    """
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(200, {"limits": {"max_pairs": 4, "max_body": 2**25}})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if refusals:
                self._answer(503, {"detail": "512 pairs wait already"}, refusals.pop(0))
                return
            asked.append(json.loads(body))
            self._answer(200, {"answers": [ANSWER for _ in asked[-1]["pairs"]]})

        def _answer(self, status: int, said: dict[str, Any], later: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if later:
                self.send_header("Retry-After", later)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_a_busy_service_is_asked_again_when_it_says(
    colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waited.append)
    pairs = [
        client.Pair(colour_images / f"{name}.png", text)
        for name in ("red", "green")
        for text in ("a", "b", "c")
    ]
    with (
        busy_service(["3", "", "nonsense", "900"]) as (address, asked),
        client.Client(address) as service,
    ):
        assert list(service.predict_pairs(pairs)) == [client.Answer(**ANSWER)] * 6
    assert waited == [3.0, 2.0, 4.0, 30.0]
    first, second = asked
    assert [len(first["pairs"]), len(second["pairs"])] == [4, 2]
    assert base64.b64decode(first["images"]["i0"]) == (colour_images / "red.png").read_bytes()
    assert (len(first["images"]), first["texts"]) == (2, {"t0": "a", "t1": "b", "t2": "c"})


def test_a_service_that_stays_busy_or_is_not_there_is_an_error(
    colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waited.append)
    with busy_service(["1"] * 9) as (address, _), client.Client(address, tries=3) as service:
        with pytest.raises(client.ServiceError, match="503: 512 pairs wait already"):
            service.predict(colour_images / "red.png", "red")
        assert waited == [1.0, 1.0]
    with client.Client(address, tries=2) as service, pytest.raises(client.httpx.ConnectError):
        service.predict(colour_images / "red.png", "red")


def test_what_is_too_much_for_the_deadline_is_sent_in_halves(
    colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def batch(self: Any, pairs: list[Any]) -> list[Any]:
        asked.append(len(pairs))
        if len(pairs) > 2:
            raise client.ServiceError(504, "it takes longer than the deadline")
        return [client.Answer(**ANSWER)] * len(pairs)

    monkeypatch.setattr(client.Client, "_batch", batch)
    pair = client.Pair(colour_images / "red.png", "red")
    with client.Client("http://127.0.0.1:9") as service:
        found = list(service._predict_group([(pair, b"red")] * 8))
    assert (found, asked) == ([client.Answer(**ANSWER)] * 8, [8, 4, 2, 2, 4, 2, 2])


@pytest.mark.parametrize("foreign", [{}, [], {"limits": 5}, {"limits": {"max_pairs": "many"}}])
def test_an_answer_of_something_else_is_one_error(
    foreign: object, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = colour_images / "red.png"
    with client.Client("http://127.0.0.1:9") as service:
        answer = client.httpx.Response(200, json=foreign)
        monkeypatch.setattr(service, "_send", lambda *_, **__: answer)
        for asked in (
            lambda: service.predict(red, "red"),
            lambda: list(service.predict_pairs([client.Pair(red, "red")])),
            lambda: service._batch([(client.Pair(red, "red"), b"")]),
        ):
            with pytest.raises(client.ServiceError, match="not one of a mismatch service"):
                asked()


def test_a_later_services_answer_may_say_more() -> None:
    assert client._answer({**ANSWER, "later": 1}) == client.Answer(**ANSWER)


def test_only_files_are_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert client._read(tmp_path / "pipe.png") is None
    assert client._read(Path("/dev/zero")) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert client.retry_after("7", 1.0) == 7.0
    assert client.retry_after("", 1.5) == 1.5
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    assert 3500 < client.retry_after(later, 1.0) <= 3600
    assert client.retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1.0) == 0.0
