"""The service, over its real routes: the same scores as the predictor's, limits, tokens, and
answers that give nothing away.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mismatch.runtime import crew
from mismatch.runtime.predictor import Predictor
from mismatch.serving.configuration import MODEL_ENV, TOKENS_ENV
from mismatch.specs import ReviewBand, ScoreSpec, SliceThresholds
from tests.support.serving import image, problem, serving, text64


@pytest.fixture
def client(colour_engine: Any) -> Iterator[TestClient]:
    with serving(Predictor(colour_engine())) as found:
        yield found


def test_one_pair_in_two_ways_is_scored_as_the_predictor_does(
    client: TestClient, colour_engine: Any
) -> None:
    expected = Predictor(colour_engine()).predict(image(), "red shirt")
    for response in (
        client.post("/v1/predict", json={"image": text64(image()), "text": "red shirt"}),
        client.post(
            "/v1/predict",
            files={"image": ("../../etc/passwd", image())},
            data={"text": "red shirt"},
        ),
    ):
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer.pop("model_id") == client.get("/v1/model").json()["model_id"]
        assert answer == {
            "similarity_score": expected.similarity_score,
            "threshold": 0.5,
            "is_match": True,
            "prediction": "match",
            "status": "ok",
        }


def test_many_pairs_by_reference_keep_their_order(client: TestClient) -> None:
    images = {name: text64(image(name)) for name in ("red", "blue")}
    pairs = [{"image": name, "text": other} for name in images for other in ("is red", "is blue")]
    response = client.post(
        "/v1/predict/batch",
        json={
            "images": images,
            "texts": {"is red": "red bag", "is blue": "blue bag"},
            "pairs": pairs,
        },
    )
    assert [answer["prediction"] for answer in response.json()["answers"]] == [
        "match",
        "mismatch",
        "mismatch",
        "match",
    ]


def test_an_image_that_is_cut_short_is_a_pair_without_a_score(client: TestClient) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        noise, "JPEG"
    )
    response = client.post(
        "/v1/predict", json={"image": text64(noise.getvalue()[:900]), "text": "red"}
    )
    answer = response.json()
    assert (
        response.status_code,
        answer["similarity_score"],
        answer["is_match"],
        answer["prediction"],
    ) == (200, None, None, "error")
    assert "damaged or cut short" in answer["status"]


def test_what_the_machine_could_not_do_is_not_remembered_of_an_image(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"image": text64(image((255, 3, 3))), "text": "red"}
    with monkeypatch.context() as context:
        real = crew._answered
        context.setattr(crew, "_answered", lambda name, *_: real(name, {"short": True}, b""))
        status, words = problem(client.post("/v1/predict", json=body))
    assert status == 503
    assert "machine is short of something" in words
    assert client.post("/v1/predict", json=body).json()["prediction"] == "match"


def cleaned(engine: Any) -> Any:
    """The engine, of a model that cleans texts as CLIP's do."""
    engine.text_spec = replace(engine.text_spec, cleaning="clip")
    return engine


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"image": "????", "text": "red"}, 400, "not base64"),
        ({"image": text64(b"hello"), "text": "red"}, 400, "no known format"),
        ({"image": text64(image(size=(200, 100))), "text": "red"}, 400, "more than 10,000 pixels"),
        ({"image": text64(image()), "text": "  "}, 400, "the text is empty"),
        ({"image": text64(image()), "text": "&amp;nbsp;"}, 400, "the text is empty"),
        ({"image": text64(image()), "text": "red " * 100}, 400, "more than 300 characters"),
        ({"image": text64(image())}, 422, "text: Field required"),
        ({"image": text64(image()), "text": "red", "shape": 1}, 422, "shape: Extra inputs"),
        ({"image": 7, "text": "red"}, 422, "image: Input should be a valid string"),
        ([], 422, ""),
    ],
)
def test_wrong_input_is_one_problem_in_words(
    colour_engine: Any, body: Any, status: int, words: str
) -> None:
    engine = cleaned(colour_engine())
    with serving(Predictor(engine), max_pixels=10_000, max_text=300) as client:
        said = problem(client.post("/v1/predict", json=body))
        assert said[0] == status
        assert words in said[1]
        assert (
            client.post("/v1/predict", json={"image": text64(image()), "text": "red"}).json()[
                "prediction"
            ]
            == "match"
        ), "the next one is served"


def test_batches_are_bounded_and_their_names_checked(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine()), max_pairs=2) as client:
        images, texts = {"a": text64(image())}, {"t": "red"}
        pair = {"image": "a", "text": "t"}
        assert problem(
            client.post(
                "/v1/predict/batch", json={"images": images, "texts": texts, "pairs": [pair] * 3}
            )
        )[1].startswith("there are 3 pairs; 2 are")
        missing = client.post(
            "/v1/predict/batch",
            json={"images": images, "texts": texts, "pairs": [pair, pair | {"text": "u"}]},
        )
        assert problem(missing) == (400, "pair 1 names the text 'u', which is not among those sent")


@pytest.mark.parametrize(
    ("picture", "text", "words"),
    [
        (text64(image(size=(64, 64), kind="JPEG")[:-40]), "red", "damaged or cut short"),
        (text64(b"hello"), "red", "no known format"),
        (text64(b"\0\0\0\x18ftypheic" + bytes(99)), "red", "no known format"),
        ("", "red", "empty (0 bytes)"),
        ("!", "red", "not base64"),
        (text64(image(size=(200, 100))), "red", "more than 10,000 pixels"),
        (text64(bytes(70_000)), "red", "more than 60,000 bytes"),
        (text64(image()), " ", "the text is empty"),
        (text64(image()), "\x1b[0m\0", "the text is empty"),
        (text64(image()), "red " * 100, "more than 300 characters"),
    ],
)
def test_what_is_wrong_with_a_pair_is_its_own_status_in_a_batch(
    colour_engine: Any, picture: str, text: str, words: str
) -> None:
    body = {
        "images": {"good": text64(image()), "bad": picture},
        "texts": {"good": "red", "bad": text},
        "pairs": [
            {"image": "good", "text": "good"},
            {"image": "bad", "text": "bad"},
            {"image": "good", "text": "good"},
        ],
    }
    predictor = Predictor(cleaned(colour_engine()))
    with serving(predictor, max_pixels=10_000, max_text=300, max_image=60_000) as client:
        answers = client.post("/v1/predict/batch", json=body).json()["answers"]
        assert [answer["prediction"] for answer in answers] == ["match", "error", "match"]
        assert words in answers[1]["status"]
        assert answers[1]["similarity_score"] is None


def test_a_text_of_many_pairs_is_looked_at_once_and_its_length_first(colour_engine: Any) -> None:
    body = {
        "images": {"a": text64(image())},
        "texts": {"t": "x" + " " * 5_000_000},
        "pairs": [{"image": "a", "text": "t"}] * 200,
    }
    with serving(Predictor(colour_engine())) as client:
        answers = client.post("/v1/predict/batch", json=body).json()["answers"]
        assert {answer["status"] for answer in answers} == {
            "the text has more than 8,000 characters; shorten it"
        }


def test_a_large_body_is_refused_unread(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine()), max_body=1000) as client:
        assert problem(client.post("/v1/predict", content=b"x" * 1001)) == (
            413,
            "the request has more than 1,000 bytes; send fewer pairs, or smaller images",
        )
        assert problem(client.post("/v1/predict", content=iter([b"{}"])))[0] == 411


def test_tokens(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine()), tokens=("a" * 16, "b" * 16)) as client:
        assert problem(client.get("/v1/model"))[0] == 401
        assert (
            problem(client.get("/v1/model", headers={"authorization": "Bearer " + "a" * 15}))[0]
            == 401
        )
        for token in ("a" * 16, "b" * 16):
            assert (
                client.get("/v1/model", headers={"authorization": f"Bearer {token}"}).status_code
                == 200
            )
        assert client.get("/healthz").text == "ok\n", "whoever looks after it needs none"


def test_bands_and_slices_are_those_of_the_model(colour_engine: Any) -> None:
    question = {"image": text64(image()), "text": "red"}  # scores 0.73
    with serving(
        Predictor(colour_engine(score=ScoreSpec("probability", 0.5, review=ReviewBand(0.6, 0.8))))
    ) as client:
        assert client.post("/v1/predict", json=question).json()["prediction"] == "review"
    score = ScoreSpec(
        "probability", 0.5, slices=SliceThresholds("shop", {"strict": 0.9}, {"strict": 40})
    )
    with serving(Predictor(colour_engine(score=score))) as client:
        assert (
            client.post("/v1/predict", json=question | {"slice_value": "strict"}).json()[
                "prediction"
            ]
            == "mismatch"
        )
        assert (
            client.post("/v1/predict", json=question | {"slice_value": "other"}).json()[
                "prediction"
            ]
            == "match"
        )


@pytest.mark.parametrize("column", ["image", "text", "problem"])
def test_a_slice_column_of_any_name_takes_the_place_of_nothing(
    colour_engine: Any, column: str
) -> None:
    question = {"image": text64(image()), "text": "red"}
    score = ScoreSpec(
        "probability", 0.5, slices=SliceThresholds(column, {"strict": 0.9}, {"strict": 40})
    )
    with serving(Predictor(colour_engine(score=score))) as client:
        plain = client.post("/v1/predict", json=question).json()
        for value in ("strict", "/etc/passwd", "blue"):
            answer = client.post("/v1/predict", json=question | {"slice_value": value}).json()
            assert answer["status"] == "ok"
            assert answer["similarity_score"] == plain["similarity_score"]
            assert answer["threshold"] == (0.9 if value == "strict" else 0.5)


def test_what_it_says_of_itself(client: TestClient) -> None:
    facts = client.get("/v1/model").json()
    assert (
        facts["name"],
        facts["engine"],
        facts["threshold"],
        facts["image_size"],
        facts["context_length"],
    ) == ("default", {"engine": "numpy cpu"}, 0.5, 8, 6)
    assert facts["limits"]["max_pairs"] == 256
    assert facts["scripts"] == []  # its tokenizer knows seven words
    assert client.get("/v1/models").json() == {
        "default": "default",
        "models": [{"name": "default", "model_id": facts["model_id"]}],
    }
    assert client.get("/readyz").json() == {
        "ready": True,
        "waiting": 0,
        "warnings": [],
        "drift": [],
    }
    client.post("/v1/predict", json={"image": text64(image()), "text": "red"})
    assert (
        'mismatch_requests_total{route="/v1/predict",status="200"} 1.0'
        in client.get("/metrics").text
    )
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/predict",
        "/v1/predict/batch",
        "/v1/explain",
        "/v1/model",
        "/v1/models",
        "/v1/reload",
    }
    assert described["components"]["schemas"]["Question"]["properties"]["text"]["examples"] == [
        "Red leather handbag"
    ]
    assert client.get("/docs").status_code == 404, "no page that loads scripts from elsewhere"
    assert client.get("/v1/model").headers["x-content-type-options"] == "nosniff"


def test_a_bug_is_told_without_a_trace(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = Predictor(colour_engine())

    def broken(rows: Any, known: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(predictor, "predict_pairs", broken)
    with serving(predictor) as client:
        said = problem(client.post("/v1/predict", json={"image": text64(image()), "text": "red"}))
        assert said[0] == 500
        assert said[1].startswith("the service failed at this request; its log says why, at id ")
    assert "secret detail" in caplog.text


def test_beyond_its_queue_it_says_503_at_once_and_beyond_its_deadline_504(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, go, begun = Predictor(colour_engine()), threading.Event(), threading.Event()
    real = predictor.predict_pairs

    def held(rows: Any, **known: Any) -> Any:
        begun.set()
        go.wait(60)
        return real(rows, **known)

    monkeypatch.setattr(predictor, "predict_pairs", held)
    question = {"image": text64(image()), "text": "red"}
    with (
        serving(predictor, queue=2, max_pairs=2, batch=1, wait=0.0, deadline=2.5) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        asked = [pool.submit(client.post, "/v1/predict", json=question)]
        begun.wait(60)
        asked += [pool.submit(client.post, "/v1/predict", json=question) for _ in range(2)]
        while client.get("/readyz").json()["waiting"] < 2:
            time.sleep(0.01)
        refused = client.post("/v1/predict", json=question)
        assert problem(refused)[0] == 503
        assert refused.headers["retry-after"] == "1"
        assert [one.result().status_code for one in asked] == [504] * 3
        go.set()
        assert client.post("/v1/predict", json=question).status_code == 200


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "names no model"),
        ({MODEL_ENV: "/nonexistent/model"}, "/nonexistent/model not found"),
        ({MODEL_ENV: "m", TOKENS_ENV: "short"}, "fewer than 16 characters"),
    ],
)
def test_wrong_settings_under_uvicorn_itself_are_one_line(
    environment: dict[str, str], words: str
) -> None:
    command = [sys.executable, "-m", "uvicorn", "mismatch.serving.app:app", "--port", "0"]
    env = {name: value for name, value in os.environ.items() if name != MODEL_ENV} | environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_whether_there_is_a_heat_map_is_said_by_true_or_false(colour_engine: Any) -> None:
    question = {"image": text64(image()), "text": "red"}
    with serving(Predictor(colour_engine())) as client:
        for wrong in ("true", 1, 0, None):
            status, said = problem(client.post("/v1/explain", json=question | {"heat_map": wrong}))
            assert status == 422
            assert "heat_map: Input should be a valid boolean" in said
        right = client.post("/v1/explain", json=question | {"heat_map": False})
        assert right.json()["heat"] is None


def test_no_answer_is_described_that_is_never_given(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine())) as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert "502" not in paths["/v1/predict"]["post"]["responses"]
