"""mismatch.serving.models: several models, what is encoded once, explanations, drift, and loading
again.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import threading
import weakref
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

from mismatch.errors import MismatchError
from mismatch.evaluation.drift import reference_of
from mismatch.runtime.predictor import Predictor
from mismatch.serving import models as models_module
from mismatch.serving.batching import ClosedError, FullError
from mismatch.serving.budget import Budget
from mismatch.serving.configuration import Settings
from mismatch.serving.images import ImageDecoder
from mismatch.serving.messages import ExplanationAnswer
from mismatch.serving.models import Models, Served
from mismatch.serving.telemetry import Metrics
from mismatch.specs import ScoreSpec
from tests.support.serving import image, problem, serving, text64

PAIR = {"image": text64(image("red")), "text": "red shirt"}


def test_each_request_gets_the_model_that_it_names(colour_engine: Any) -> None:
    strict = Predictor(colour_engine(), threshold=0.9)
    with serving({"default": Predictor(colour_engine()), "strict": strict}) as client:
        said = {
            name: client.post("/v1/predict", json=PAIR | ({"model": name} if name else {})).json()
            for name in ("", "default", "strict")
        }
        assert [said[name]["prediction"] for name in said] == ["match", "match", "mismatch"]
        names = client.get("/v1/models").json()
        assert names["default"] == "default"
        assert {one["name"]: one["model_id"] for one in names["models"]} == {
            name: said[name]["model_id"] for name in ("default", "strict")
        }
        assert client.get("/v1/model", params={"name": "strict"}).json()["threshold"] == 0.9
        form = client.post(
            "/v1/predict", files={"image": image("red")}, data={"text": "red", "model": "strict"}
        )
        assert form.json()["model_id"] == said["strict"]["model_id"]
        status, words = problem(client.post("/v1/predict", json=PAIR | {"model": "other"}))
        assert (status, words) == (400, "there is no model 'other'; default, strict are there")
        for nameless in (
            client.post("/v1/predict", json=PAIR | {"model": ""}),
            client.post("/v1/explain", json=PAIR | {"model": ""}),
            client.post(
                "/v1/predict/batch",
                json={
                    "images": {"a": PAIR["image"]},
                    "texts": {"a": "red"},
                    "pairs": [{"image": "a", "text": "a"}],
                    "model": "",
                },
            ),
            client.post(
                "/v1/predict", files={"image": image("red")}, data={"text": "red", "model": ""}
            ),
            client.get("/v1/model", params={"name": ""}),
        ):
            status, words = problem(nameless)
            assert (status, words) == (400, "there is no model ''; default, strict are there")
        assert (
            'mismatch_similarity_score_count{model="strict",prediction="mismatch"}'
            in client.get("/metrics").text
        )


def test_what_several_requests_send_is_encoded_once(colour_engine: Any) -> None:
    engine = colour_engine()
    with serving(Predictor(engine)) as client, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: client.post("/v1/predict", json=PAIR).json()["prediction"], range(40)
            )
        )
    assert answers == ["match"] * 40
    assert sum(engine.image_batches) == 1
    assert sum(shape[0] for shape in engine.text_shapes) == 1


def test_what_is_remembered_is_bounded(colour_engine: Any) -> None:
    engine = colour_engine()
    with serving(Predictor(engine), remember=0) as client:
        for _ in range(3):
            assert client.post("/v1/predict", json=PAIR).json()["prediction"] == "match"
    assert sum(engine.image_batches) == 3


def test_a_batch_that_is_larger_than_a_window_recalls_what_it_was_promised(
    colour_engine: Any,
) -> None:
    """Images that were remembered when they came, and that the memory drops before
    they are scored.
    """
    engine = colour_engine()
    with serving(Predictor(engine), batch=256, remember=8_000, queue=1024) as client:
        old = {f"old {i}": text64(image((i, 0, 0))) for i in range(20)}
        new = {f"new {i}": text64(image((0, 0, i))) for i in range(100)}
        for images in (old, new | old):
            body = {
                "images": images,
                "texts": {"t": "red"},
                "pairs": [{"image": name, "text": "t"} for name in images],
            }
            answers = client.post("/v1/predict/batch", json=body).json()["answers"]
            assert [answer["status"] for answer in answers] == ["ok"] * len(images)


def test_an_explanation_names_the_word_and_shows_what_the_model_sees(colour_engine: Any) -> None:
    with serving(Predictor(colour_engine())) as client:
        found = client.post(
            "/v1/explain", json={"image": text64(image("red")), "text": "blue shirt"}
        ).json()
        assert found["prediction"] == "mismatch"
        assert [(part["text"], part["start"], part["end"]) for part in found["named"]] == [
            ("blue", 0, 4)
        ]
        assert "red" in [word for word, _ in found["swaps"][0]["alternatives"]]
        assert np.array(found["heat"]).shape == (8, 8), "as fine as the eight pixels of this model"
        with Image.open(io.BytesIO(base64.b64decode(found["picture"]))) as picture:
            assert picture.size == (8, 8)
        quick = client.post(
            "/v1/explain",
            json={"image": text64(image("red")), "text": "blue shirt", "heat_map": False},
        ).json()
        assert (quick["heat"], quick["picture"], quick["named"]) == (None, None, found["named"])
        assert (
            problem(client.post("/v1/explain", json={"image": text64(image("red")), "text": " "}))[
                1
            ]
            == "the text is empty"
        )
        noise = io.BytesIO()
        Image.effect_noise((64, 64), 80).save(noise, "JPEG")
        cut = client.post(
            "/v1/explain", json={"image": text64(noise.getvalue()[:700]), "text": "red"}
        )
        assert problem(cut)[1].startswith("is damaged or cut short") or "damaged" in problem(cut)[1]


def test_explanations_wait_in_a_queue_of_their_own_with_a_bound(colour_engine: Any) -> None:
    engine, go = colour_engine(), threading.Event()
    real = engine.encode_images
    engine.encode_images = lambda pixels: (go.wait(20), real(pixels))[1]
    question = {"image": text64(image("red")), "text": "blue", "heat_map": False}
    with serving(Predictor(engine), explanations=1) as client, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, "/v1/explain", json=question) for _ in range(3)]
        [refused], others = wait(asked, return_when=FIRST_COMPLETED)
        assert problem(refused.result())[1] == "1 explanations wait already; try again in a moment"
        assert refused.result().headers["retry-after"] == "2"
        go.set()
        assert [one.result().status_code for one in others] == [200, 200]


def test_drift_is_told_where_the_model_has_a_reference(colour_engine: Any) -> None:
    logits = np.linspace(-3, 1, 1000)
    score = ScoreSpec("probability", 0.5, reference=reference_of(logits, [20] * 1000))
    with serving(Predictor(colour_engine(score=score))) as client:
        images = {"a": text64(image("red"))}
        message = {
            "images": images,
            "texts": {"t": "red"},
            "pairs": [{"image": "a", "text": "t"}] * 250,
        }
        assert client.get("/readyz").json()["warnings"] == []
        assert client.post("/v1/predict/batch", json=message).status_code == 200
        state = client.get("/readyz")
        assert (state.status_code, state.json()["ready"]) == (200, True), "a warning, no more"
        assert [warning.split(" are ")[0] for warning in state.json()["warnings"]] == [
            "model default: scores",
            "model default: lengths of texts",
        ]
        assert {one["of"]: one["psi"] > 0.25 for one in state.json()["drift"]} == {
            "score": True,
            "text_length": True,
        }
        assert 'mismatch_drift_psi{model="default",of="score"}' in client.get("/metrics").text


def test_a_reference_and_earlier_thresholds_are_no_part_of_the_models_id(
    colour_engine: Any,
) -> None:
    plain = ScoreSpec("probability", 0.5)
    ids = []
    for score in (
        plain,
        replace(plain, reference=reference_of(np.arange(300), np.arange(300))),
        replace(plain, default_threshold=0.6),
    ):
        with serving(Predictor(colour_engine(score=score))) as client:
            ids.append(client.get("/v1/model").json()["model_id"])
    assert ids[0] == ids[1] != ids[2]


def test_a_model_that_cannot_be_loaded_leaves_all_as_they_were(
    colour_engine: Any, tmp_path: Path
) -> None:
    async def work() -> None:
        models = Models(
            Settings(str(tmp_path / "absent")), Metrics(), {"default": Predictor(colour_engine())}
        )
        assert await models.load() == ["default"]
        served = models.get(None)
        with pytest.raises(MismatchError, match="absent"):
            await models.load()
        assert models.get(None) is served
        red: Any = image("red")
        [answer] = await served.answers([served.row(red, "red", None)])
        assert answer.prediction == "match"
        await models.close()

    asyncio.run(work())


ROUTES: dict[str, Any] = {
    "/v1/predict": PAIR,
    "/v1/explain": PAIR | {"heat_map": False},
    "/v1/predict/batch": {
        "images": {"a": PAIR["image"]},
        "texts": {"a": "red"},
        "pairs": [{"image": "a", "text": "a"}],
    },
}


def test_requests_that_are_being_read_are_finished_by_the_model_that_they_have(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models are loaded again meanwhile, and a third time only when the first ones are closed."""
    go = threading.Event()
    began = threading.Semaphore(0)
    real = ImageDecoder._decoded

    async def slow(*args: Any) -> Any:
        began.release()
        while not go.is_set():
            await asyncio.sleep(0.01)
        return await real(*args)

    monkeypatch.setattr(ImageDecoder, "_decoded", slow)
    monkeypatch.setattr(models_module, "load", lambda *_: Predictor(colour_engine(), threshold=0.9))
    first = Predictor(colour_engine(), threshold=0.1)
    with serving(first, reload=True) as client, ThreadPoolExecutor(8) as pool:
        before = client.get("/v1/model").json()["model_id"]
        asked = [pool.submit(client.post, route, json=body) for route, body in ROUTES.items()]
        for _ in asked:
            assert began.acquire(timeout=20)
        assert client.post("/v1/reload").json()["changed"] == ["default"]
        assert client.get("/v1/model").json()["model_id"] != before
        third = pool.submit(client.post, "/v1/reload")
        assert wait([third], timeout=0.3).done == set()
        go.set()
        answers = [one.result() for one in asked]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert [before in answer.text for answer in answers] == [True, True, True]
        assert third.result().status_code == 200


def test_an_explanation_that_nobody_waits_for_ends_and_leaves_its_thread_to_the_next(
    colour_engine: Any,
) -> None:
    engine, slow, began = colour_engine(), threading.Event(), threading.Event()
    real = engine.encode_texts

    def encode_texts(ids: Any, mask: Any) -> Any:
        began.set()
        slow.wait(30)
        return real(ids, mask)

    with serving(Predictor(engine), deadline=3.0) as client:
        # the first image starts the processes that decode
        client.post("/v1/predict", json={"image": text64(image()), "text": "red"})
        engine.encode_texts = encode_texts
        question = {"image": text64(image()), "text": "red blue " * 800}
        status, said = problem(client.post("/v1/explain", json=question))
        assert (status, began.is_set(), "not scored within" in said) == (504, True, True)
        before = len(engine.text_shapes)
        slow.set()
        assert (
            client.post(
                "/v1/explain", json={"image": text64(image()), "text": "red bag", "heat_map": False}
            ).json()["left_out"]
            == 0
        )
        assert len(engine.text_shapes) - before <= 2, (
            "what was given up has made one call more, and the next one its own"
        )


@pytest.mark.parametrize(
    "text",
    [
        "red bag &#" + "1" * 4301 + ";",
        "red\x00",
        "<|endoftext|> red",
        "e" + "\u0301" * 7000,
        "&" * 7000,
        "🏳️‍🌈" * 1000,
    ],
)
def test_any_text_is_scored_and_explained(colour_engine: Any, text: str) -> None:
    with serving(Predictor(colour_engine()), max_text=8000) as client:
        for route in ("predict", "explain"):
            assert (
                client.post(
                    f"/v1/{route}", json={"image": text64(image()), "text": text}
                ).status_code
                == 200
            )


def test_a_text_that_the_model_fails_on_costs_its_own_request_alone(colour_engine: Any) -> None:
    predictor = Predictor(colour_engine())
    clean = predictor.pipeline.tokenizer._clean

    def failing(text: str) -> str:
        if "green" in text:
            raise ValueError("a bug")
        return clean(text)

    predictor.pipeline.tokenizer._clean = failing
    with serving(predictor) as client:
        pairs = [{"image": "one", "text": name} for name in ("red", "green", "blue")]
        texts = {name: name for name in ("red", "green", "blue")}
        message = {"images": {"one": text64(image())}, "texts": texts, "pairs": pairs}
        answers = client.post("/v1/predict/batch", json=message).json()["answers"]
        assert [answer["prediction"] == "error" for answer in answers] == [False, True, False]
        assert "a bug" not in answers[1]["status"]
        status, said = problem(
            client.post("/v1/explain", json={"image": text64(image()), "text": "green bag"})
        )
        assert (status, "tokenized" in said) == (400, True)


def test_explanations_of_clients_take_turns_and_all_are_finished(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one client half of those that may wait do; what was accepted is finished at the end."""
    go = threading.Event()
    order = list[str]()

    def slow(self: Served, prepared: Any, text: str, *rest: Any) -> ExplanationAnswer:
        go.wait(20)
        order.append(text)
        return ExplanationAnswer.model_construct()

    monkeypatch.setattr(Served, "_explain", slow)

    async def ask(served: Served, client: str, text: str) -> None:
        with Budget(1, 1).account(client):
            await served.explanation(image("red"), text, None, heat_map=False)  # type: ignore[arg-type]

    async def work() -> None:
        models = Models(
            Settings("m", explanations=8), Metrics(), {"default": Predictor(colour_engine())}
        )
        await models.load()
        served = models.get(None)
        tasks = []
        for text in ("a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1"):
            tasks.append(asyncio.create_task(ask(served, text[0], text)))
            await asyncio.sleep(0)
        with pytest.raises(FullError):
            await ask(served, "a", "a6")
        closing = asyncio.create_task(models.close())
        await asyncio.sleep(0.05)
        with pytest.raises(ClosedError):
            await ask(served, "d", "d1")
        go.set()
        await asyncio.gather(*tasks, closing)

    asyncio.run(work())
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4", "a5"]


def test_replaced_models_are_let_go_of_at_once(tiny_bundles: dict[str, Path]) -> None:
    """Without waiting for a collection of cycles."""

    async def replaced() -> list[bool]:
        models = Models(Settings(model=str(tiny_bundles["openclip"])), Metrics(), {})
        kept = []
        for _ in range(4):
            await models.load()
            kept.append(weakref.ref(models.get(None)))
            await asyncio.sleep(0.1)
        alive = [reference() is not None for reference in kept]
        await models.close()
        return alive

    gc.disable()
    try:
        assert asyncio.run(replaced()) == [False, False, False, True]
    finally:
        gc.enable()


def test_a_damaged_picture_that_comes_again_costs_no_memory(tiny_bundles: dict[str, Path]) -> None:
    """An error that is raised again and again holds the frames, and these the picture."""
    settings = Settings(model=str(tiny_bundles["openclip"]))
    data = bytearray(image("red"))
    at = data.index(b"IDAT")
    data[at + 6 : at + 12] = b"\xff" * 6

    async def refused(decoder: ImageDecoder, served: Served) -> int:
        with pytest.raises(MismatchError) as failure:
            await decoder.prepared(bytes(data), served, None)
        frames = 0
        trace = failure.value.__traceback__
        while trace is not None:
            frames += 1
            trace = trace.tb_next
        return frames

    async def often() -> list[int]:
        models = Models(settings, Metrics(), {})
        await models.load()
        decoder = ImageDecoder(settings)
        found = [await refused(decoder, models.get(None)) for _ in range(8)]
        await models.close()
        return found

    found = asyncio.run(often())
    assert max(found[1:]) == min(found[1:])


def test_decoded_pictures_have_their_bounds(colour_engine: Any) -> None:
    """A picture of a few bytes is a large one once it is decoded, however many requests wait."""
    engine = colour_engine()
    engine.image_spec = replace(engine.image_spec, size=336)
    settings = Settings("m", max_bodies=32 * 2**20)

    async def work() -> None:
        served = Served("default", Predictor(engine), settings, Metrics())
        budget = Budget(2**30, 2**25)

        def taken(client: str, most: int) -> int:
            """How many requests of 256 pictures are let in at a time."""
            with ExitStack() as stack:
                for count in range(most):
                    stack.enter_context(budget.account(client))
                    try:
                        stack.enter_context(served.room_for(256))
                    except HTTPException:
                        with budget.account("another"), served.room_for(1):
                            return count
            return most

        assert taken("one", 150) == 2
        assert taken("one", 150) == 2, "the room is given back"
        with budget.account("one"), served.room_for(256), budget.account("two"):
            assert taken("three", 2) == 2
        await served.close()

    asyncio.run(work())


def test_a_batch_that_finds_no_room_is_decoded_later(
    colour_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()
    go = threading.Event()
    real = ImageDecoder._decoded

    async def slow(*args: Any) -> Any:
        began.set()
        while not go.is_set():
            await asyncio.sleep(0.01)
        return await real(*args)

    monkeypatch.setattr(ImageDecoder, "_decoded", slow)
    monkeypatch.setattr(models_module, "QUEUES", 0)
    engine = colour_engine()
    engine.image_spec = replace(engine.image_spec, size=700)  # 1.5 MB
    options = {"max_bodies": 2**21, "max_body": 2**20, "max_pairs": 1}
    with serving(Predictor(engine), **options) as client, ThreadPoolExecutor(1) as pool:
        batch = ROUTES["/v1/predict/batch"]
        first = pool.submit(client.post, "/v1/predict/batch", json=batch)
        assert began.wait(20)
        status, words = problem(client.post("/v1/predict/batch", json=batch))
        assert status == 503
        assert "memory" in words
        go.set()
        assert first.result().status_code == 200
        assert client.post("/v1/predict/batch", json=batch).status_code == 200
