"""mismatch.serving.service: forms and messages, what is wrong with them, and images by address."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mismatch.runtime.predictor import Predictor
from tests.support.serving import image, problem, serving, text64

RED = image("red")


@pytest.fixture
def client(colour_engine: Any) -> Iterator[TestClient]:
    with serving(Predictor(colour_engine()), max_text=300) as found:
        yield found


@pytest.mark.parametrize(
    ("files", "data", "words"),
    [
        ({"image": RED}, {}, "image, a file, and text is needed"),
        ({}, {"image": "x", "text": "red"}, "content type"),
        ({"image": RED, "other": b"x"}, {"text": "red"}, "Too many files"),
        ({"image": RED}, {"text": "red", "txt": "x"}, "unknown"),
        ({"text": b"red"}, {"image": "x"}, "image, a file, and text is needed"),
        ({"image": RED}, {"text": ["red", "blue"]}, "there twice"),
        ({"image": RED}, {"text": ""}, "the text is empty"),
        ({"image": RED}, {"text": "red " * 100}, "more than 300 characters"),
        ({"image": RED}, {"text": "r" * 10_000}, "exceeded maximum size"),
        ({"image": b"text"}, {"text": "red"}, "no known format"),
        ({"image": b""}, {"text": "red"}, "the image is empty"),
    ],
)
def test_wrong_forms_are_one_problem(client: TestClient, files: Any, data: Any, words: str) -> None:
    status, said = problem(client.post("/v1/predict", files=files, data=data))
    assert 400 <= status < 500
    assert words in said


def test_a_text_of_too_many_pieces_is_refused_where_each_is_scored(colour_engine: Any) -> None:
    question = {"image": text64(RED), "text": "红" * 300}  # of 4 tokens each
    with serving(Predictor(colour_engine())) as client:
        assert client.post("/v1/predict", json=question).status_code == 200
    with serving(Predictor(colour_engine(), long_text="chunk")) as client:
        status, words = problem(client.post("/v1/predict", json=question))
        assert (status, "at most 128 times" in words) == (400, True)
        batch = {
            "images": {"a": text64(RED)},
            "texts": {"long": question["text"], "short": "red"},
            "pairs": [{"image": "a", "text": "long"}, {"image": "a", "text": "short"}],
        }
        long, short = client.post("/v1/predict/batch", json=batch).json()["answers"]
        assert "at most 128 times" in long["status"]
        assert short["status"] == "ok"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b"", "application/json", 422),
        (b"null", "application/json", 422),
        (b"\xff\xfe", "application/json", 422),
        (b'{"image": "\\ud800", "text": "red"}', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=y", 400),
        (b"--y\r\n\r\n", "multipart/form-data; boundary=y", 400),
        (
            b'--y\r\ncontent-disposition: form-data; name="text"\r\n\r\n\xff\xff\r\n--y--\r\n',
            "multipart/form-data; boundary=y",
            400,
        ),
    ],
)
def test_bodies_that_are_none(client: TestClient, content: bytes, kind: str, status: int) -> None:
    response = client.post("/v1/predict", content=content, headers={"content-type": kind})
    assert problem(response)[0] in (status, 422)


def test_a_message_without_a_content_type_is_json(client: TestClient) -> None:
    body = json.dumps({"image": text64(RED), "text": "red"}).encode()
    response = client.post("/v1/predict", content=body)
    assert response.json()["prediction"] == "match"


@pytest.fixture(scope="module")
def photos() -> Iterator[str]:
    """Where /red.png is an image and /page.html is none."""

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = RED if self.path == "/red.png" else b"<html>"
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_images_by_address(colour_engine: Any, photos: str) -> None:
    url = f"http://{photos}/red.png"
    with serving(
        Predictor(colour_engine()), fetch=(photos,), fetch_networks=("127.0.0.0/8",)
    ) as client:
        assert (
            client.post("/v1/predict", json={"image_url": url, "text": "red"}).json()["prediction"]
            == "match"
        )
        batch = {
            "images": {"sent": text64(image("blue"))},
            "image_urls": {"fetched": url},
            "texts": {"t": "red"},
            "pairs": [{"image": "sent", "text": "t"}, {"image": "fetched", "text": "t"}],
        }
        answers = client.post("/v1/predict/batch", json=batch).json()["answers"]
        assert [answer["prediction"] for answer in answers] == ["mismatch", "match"]
        page = client.post(
            "/v1/predict/batch",
            json=batch | {"image_urls": {"fetched": f"http://{photos}/page.html"}},
        ).json()["answers"]
        assert [answer["prediction"] for answer in page] == ["mismatch", "error"]
        assert page[1]["status"].startswith("the image is of no known format")
        both = problem(
            client.post(
                "/v1/predict/batch", json=batch | {"image_urls": {"fetched": url, "sent": url}}
            )
        )
        assert both[1].startswith("the image 'sent' is among images and image_urls")
        assert (
            problem(
                client.post(
                    "/v1/predict", json={"image_url": "http://elsewhere.test/a.png", "text": "red"}
                )
            )[0]
            == 400
        )
        twice = problem(
            client.post("/v1/predict", json={"image_url": url, "image": text64(RED), "text": "red"})
        )
        assert twice[1].endswith("one of image and image_url is needed")
        assert 'mismatch_stage_seconds_count{model="",stage="fetch"}' in client.get("/metrics").text


def test_no_address_is_fetched_unless_hosts_are_allowed(client: TestClient, photos: str) -> None:
    status, words = problem(
        client.post("/v1/predict", json={"image_url": f"http://{photos}/red.png", "text": "red"})
    )
    assert (status, words.split(";")[0]) == (400, "images are not fetched from addresses here")


def test_long_texts_leave_the_threads_to_others(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies and large images wait for the same threads, of which there are few."""
    predictor = Predictor(colour_engine())
    begun = threading.Event()
    go = threading.Event()

    def slow(text: str) -> bool:
        begun.set()
        return len(text) > 3 and not go.wait(20)

    monkeypatch.setattr(predictor.pipeline.tokenizer, "is_empty", slow)
    noise = Image.effect_noise((700, 700), 90)
    held = io.BytesIO()
    noise.save(held, "PNG")
    batch = {
        "images": {"a": text64(held.getvalue())},
        "texts": {"a": "red"},
        "pairs": [{"image": "a", "text": "a"}],
    }
    with serving(predictor) as client, ThreadPoolExecutor(41) as pool:
        pair = {"image": text64(image("red")), "text": "red " * 1000}
        asked = [pool.submit(client.post, "/v1/predict", json=pair) for _ in range(40)]
        assert begun.wait(20)
        time.sleep(0.5)
        other = pool.submit(client.post, "/v1/predict/batch", json=batch)
        done, _ = wait([other], timeout=10)
        go.set()
        assert done == {other}
        assert other.result().status_code == 200
        assert {one.result().status_code for one in asked} == {200}
