"""The OpenAPI document: whole, and true under requests that schemathesis makes of it."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mismatch.runtime.predictor import Predictor
from tests.support.paths import WHOLE
from tests.support.serving import server, serving

EXAMPLES = "100" if WHOLE else "40"  # requests an operation


def test_each_operation_says_what_it_takes_and_answers(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine()), tokens=("a" * 16,)) as client:
        token = {"authorization": "Bearer " + "a" * 16}
        document = client.get("/openapi.json", headers=token).json()
        shown = {
            path: operation["post"]["requestBody"]["content"]
            for path, operation in document["paths"].items()
            if "requestBody" in operation.get("post", {})
        }
        assert set(shown) == {"/v1/predict", "/v1/predict/batch", "/v1/explain"}
        for path, content in shown.items():
            answer = client.post(path, json=content["application/json"]["example"], headers=token)
            assert answer.status_code == 200, (path, answer.text)
        assert set(shown["/v1/predict"]) == {"application/json", "multipart/form-data"}
        for path, operation in document["paths"].items():
            for found in operation.values():
                assert found["summary"], path
                assert found["description"], path
                for status in ("401", "421", "503"):
                    assert "application/problem+json" in found["responses"][status]["content"]
        assert document["components"]["securitySchemes"] == {
            "bearer": {"type": "http", "scheme": "bearer"}
        }
        assert "HTTPValidationError" not in document["components"]["schemas"]


def test_schemathesis_finds_no_request_that_breaks_the_service_or_the_document(
    colour_engine: Any, tmp_path: Path
) -> None:
    """Requests that the document allows and such that it forbids: no answer is a failure of the
    service's own, and statuses, content types and bodies are as documented. Only one of its checks
    is left out: a message may be well-formed and still name an image that wasn't sent.
    """
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    with server(Predictor(colour_engine())) as port:
        address = f"http://127.0.0.1:{port}/openapi.json"
        options = [
            "--mode",
            "all",
            "--generation-deterministic",
            "--max-examples",
            EXAMPLES,
            "--exclude-checks",
            "positive_data_acceptance",
            "--no-color",
        ]
        done = subprocess.run(
            [program, "run", address, *options],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
        )
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read() == b"ok\n"
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d{2,} generated", done.stdout), done.stdout
