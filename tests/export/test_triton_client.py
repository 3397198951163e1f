"""examples/triton_client.py against a small stand-in for Triton: the v2 protocol over real HTTP,
the repository's graphs in onnxruntime.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest

import mismatch
from mismatch.export.triton import write_repository
from tests.support.triton_configs import read_config

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "triton_client.py"
TYPES = {"FP32": np.float32, "INT64": np.int64}


class RefusalError(Exception):
    """A status and why."""


class StandIn:
    """Models of a repository, as Triton serves them: whatever a config doesn't allow is refused."""

    def __init__(self, repository: Path) -> None:
        self.configs = {
            path.parent.name: read_config(path) for path in repository.glob("*/config.pbtxt")
        }
        plain = [name for name, config in self.configs.items() if "backend" in config]
        self.sessions = {
            name: ort.InferenceSession(
                repository / name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
            )
            for name in plain
        }
        self.requests: list[tuple[str, dict[str, tuple[int, ...]]]] = []
        self.busy = 0  # requests that are still answered 503

    def config(self, name: str) -> dict[str, Any]:
        config = self.configs[name]
        return {
            "name": name,
            "parameters": {one["key"]: one["value"] for one in config.get("parameters", [])},
        }

    def infer(self, name: str, feeds: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
        if self.busy:
            self.busy -= 1
            raise RefusalError(503, "Exceeds maximum queue size")
        self.requests.append((name, {key: value.shape for key, value in feeds.items()}))
        config = self.configs[name]
        inputs = {one["name"]: one for one in config["input"]}
        if set(inputs) != set(feeds):
            raise RefusalError(400, f"expected inputs {sorted(inputs)} but got {sorted(feeds)}")
        for key, value in feeds.items():
            dims = inputs[key]["dims"]
            fits = len(value) <= config["max_batch_size"] and all(
                axis in (-1, got) for axis, got in zip(dims, value.shape[1:], strict=True)
            )
            if not fits or TYPES[inputs[key]["data_type"].removeprefix("TYPE_")] != value.dtype:
                raise RefusalError(400, f"unexpected shape or type for input {key!r}")
        found = self._run(name, feeds)
        return {key: found[key] for key in outputs}

    def _run(self, name: str, feeds: dict[str, Any]) -> dict[str, Any]:
        if name in self.sessions:
            names = [one.name for one in self.sessions[name].get_outputs()]
            return dict(zip(names, self.sessions[name].run(names, feeds), strict=True))
        known = dict(feeds)
        for step in self.configs[name]["ensemble_scheduling"]["step"]:
            made = self._run(
                step["model_name"],
                {one["key"]: known[one["value"]] for one in step["input_map"]},
            )
            known |= {one["value"]: made[one["key"]] for one in step["output_map"]}
        return known


def handler_of(models: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            said = (
                {"name": "triton", "version": "2"} if parts == ["v2"] else models.config(parts[2])
            )
            self._answer(200, json.dumps(said).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            at = int(self.headers["inference-header-content-length"])
            head, feeds = json.loads(body[:at]), {}
            for one in head["inputs"]:
                size = one["parameters"]["binary_data_size"]
                feeds[one["name"]] = np.frombuffer(
                    body[at : at + size], TYPES[one["datatype"]]
                ).reshape(one["shape"])
                at += size
            try:
                assert at == len(body)
                found = models.infer(
                    self.path.split("/")[3], feeds, [one["name"] for one in head["outputs"]]
                )
            except RefusalError as error:
                self._answer(error.args[0], json.dumps({"error": error.args[1]}).encode())
                return
            described = [
                {
                    "name": name,
                    "datatype": "FP32",
                    "shape": value.shape,
                    "parameters": {"binary_data_size": value.nbytes},
                }
                for name, value in found.items()
            ]
            answer = json.dumps({"outputs": described}).encode()
            self._answer(
                200,
                b"".join([answer, *(value.tobytes() for value in found.values())]),
                {"Inference-Header-Content-Length": str(len(answer))},
            )

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("triton_client", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def repository(tiny_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(
        tiny_bundles["openclip"], tmp_path_factory.mktemp("triton") / "repository"
    ).folder


@pytest.fixture
def server(repository: Path) -> Iterator[tuple[StandIn, str]]:
    models = StandIn(repository)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(models)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield models, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def client(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=60)


def test_one_pair_is_one_request_to_the_ensemble(
    example: ModuleType,
    server: tuple[StandIn, str],
    repository: Path,
    tiny_bundles: dict[str, Path],
    colour_images: Path,
) -> None:
    models, address = server
    with client(address) as http:
        score = example.score_pair(
            example.Triton(http, repository / "mismatch" / "1"),
            colour_images / "red.png",
            "a red shirt",
        )
    expected = mismatch.load(tiny_bundles["openclip"], "cpu").predict(
        colour_images / "red.png", "a red shirt"
    )
    assert score == pytest.approx(expected.similarity_score, abs=1e-6)
    [(name, shapes)] = models.requests
    assert name == "mismatch"
    assert shapes["input_ids"] == shapes["attention_mask"]
    # of which many texts are, so that the server can batch them
    assert shapes["input_ids"] == (1, 16)


def test_pairs_score_as_the_bundle_scores_them(
    example: ModuleType,
    server: tuple[StandIn, str],
    repository: Path,
    tiny_bundles: dict[str, Path],
    colour_images: Path,
) -> None:
    """Each image and each text once, in batches that the configs allow; a row that can't be scored
    has a status.
    """
    models, address = server
    rows = [
        {"image_path": f"{name}.png", "text": f"a {name} bag no. {i}"}
        for name in ("red", "green", "blue")
        for i in range(40)
    ]
    rows += [
        {"image_path": "cut.jpg", "text": "red"},
        {"image_path": "red.png", "text": "red bags. " * 90},
    ]
    with client(address) as http:
        found = list(
            mismatch.Predictor(example.Triton(http, repository / "mismatch" / "1")).predict_pairs(
                rows, image_base_path=colour_images
            )
        )
    expected = list(
        mismatch.load(tiny_bundles["openclip"], "cpu").predict_pairs(
            rows, image_base_path=colour_images
        )
    )
    assert [one.status for one in found] == [one.status for one in expected]
    assert found[-2].prediction == "error"
    scores = [
        [one.similarity_score for one in side if one.similarity_score is not None]
        for side in (found, expected)
    ]
    assert len(scores[0]) == 121
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    sent = {
        name: sum(
            next(iter(shapes.values()))[0] for model, shapes in models.requests if model == name
        )
        for name in models.sessions
    }
    assert sent == {"mismatch_image_encoder": 3, "mismatch_text_encoder": 122, "mismatch_head": 121}


def test_a_full_server_is_asked_again_and_a_refusal_is_one_line(
    example: ModuleType,
    server: tuple[StandIn, str],
    repository: Path,
    colour_images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models, address = server
    waited: list[float] = []
    monkeypatch.setattr(example.time, "sleep", waited.append)
    with client(address) as http:
        triton = example.Triton(http, repository / "mismatch" / "1")
        models.busy = 2
        assert 0 <= example.score_pair(triton, colour_images / "red.png", "red") <= 1
        assert waited == [0.1, 0.2]
        models.busy = 99
        with pytest.raises(example.TritonError, match=r"503, .*Exceeds maximum queue size"):
            example.score_pair(triton, colour_images / "red.png", "red")
        models.busy = 0
        with pytest.raises(example.TritonError, match=r"400, .*unexpected shape"):
            triton.encode_images(np.zeros((1, 3, 5, 5), np.float32))


def test_files_of_another_model_are_noticed(
    example: ModuleType, server: tuple[StandIn, str], repository: Path, tmp_path: Path
) -> None:
    files = Path(shutil.copytree(repository / "mismatch" / "1", tmp_path / "files"))
    (files / "manifest.json").write_text((files / "manifest.json").read_text() + "\n")
    with (
        client(server[1]) as http,
        pytest.raises(example.TritonError, match="has another model than these files"),
    ):
        example.Triton(http, files)


def test_the_command_line(
    server: tuple[StandIn, str],
    repository: Path,
    colour_images: Path,
    write_rows: Any,
    tmp_path: Path,
) -> None:
    def run(*args: Any) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            EXAMPLE,
            "--url",
            server[1],
            "--files",
            repository / "mismatch" / "1",
            *args,
        ]
        return subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=300
        )

    one = run(colour_images / "red.png", "a red shirt")
    assert one.returncode == 0, one.stderr
    assert one.stdout.split()[1] in ("match", "mismatch")
    rows = write_rows(
        tmp_path / "rows.csv",
        [("image_path", "text"), ("red.png", "a red shirt"), ("absent.png", "red")],
    )
    many = run("--csv", rows, "--image-base-path", colour_images)
    [first, second] = csv.DictReader(io.StringIO(many.stdout))
    assert f"{float(first['similarity_score']):.4f}" == one.stdout.split()[0]
    assert "not found" in second["status"]
    absent = run(colour_images / "absent.png", "red")
    assert absent.returncode == 2
    assert len(absent.stderr.splitlines()) == 1
