"""mismatch.runtime.predictor: one pair, many pairs, embeddings, thresholds, threads; and load,
which finds the engine.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import (
    CheckpointError,
    ImageError,
    ImageNotFoundError,
    InputError,
    MissingExtraError,
)
from mismatch.io.remote import Remote
from mismatch.runtime.bundle import read_bundle, write_manifest
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.text_tower import TextCounts
from mismatch.specs import Calibration, ReviewBand, ScoreSpec, SliceThresholds, Threshold
from tests.support.engines import bytes_spec


@pytest.fixture
def predictor(colour_engine: Any) -> Predictor:
    return Predictor(colour_engine(), batch_size=2)


def test_an_image_may_be_a_path_bytes_a_picture_or_an_array(
    predictor: Predictor, colour_images: Path
) -> None:
    path = colour_images / "red.png"
    encoded = io.BytesIO()
    Image.open(path).save(encoded, "PNG")
    kinds: list[Any] = [
        path,
        str(path),
        encoded.getvalue(),
        Image.open(path),
        np.full((5, 9, 3), (255, 0, 0), np.uint8),
    ]
    results = [predictor.predict(image, "red shirt") for image in kinds]
    # sigmoid(1)
    assert [round(result.similarity_score or 0, 6) for result in results] == [0.731059] * 5
    assert [result.prediction for result in results] == ["match"] * 5
    assert [result.image_path for result in results] == [str(path)] * 2 + [""] * 3


def test_predict_raises_where_predict_pairs_gives_a_status(
    predictor: Predictor, colour_images: Path
) -> None:
    rows = [
        {"image_path": name, "text": text}
        for name, text in [
            ("absent.png", "red"),
            ("lie.jpg", "red"),
            ("red.png", ""),
            ("red.png", "red"),
        ]
    ]
    results = list(predictor.predict_pairs(rows, image_base_path=colour_images))
    assert [
        (result.prediction, result.similarity_score is None, result.is_match) for result in results
    ] == [("error", True, None)] * 3 + [("match", False, True)]
    assert [result.image_path for result in results] == [
        "absent.png",
        "lie.jpg",
        "red.png",
        "red.png",
    ]
    with pytest.raises(ImageNotFoundError, match=r"absent\.png"):
        predictor.predict(colour_images / "absent.png", "red")
    with pytest.raises(ImageError, match=r"lie\.jpg"):
        predictor.predict(colour_images / "lie.jpg", "red")
    with pytest.raises(InputError, match="empty"):
        predictor.predict(colour_images / "red.png", "")


def test_rows_may_carry_images_and_other_keys(predictor: Predictor, colour_images: Path) -> None:
    rows = [
        {"image": Image.open(colour_images / "blue.png"), "text": "blue", "price": 3},
        {"image_path": "blue.png", "text": None},
    ]
    first, second = predictor.predict_pairs(rows, image_base_path=colour_images)
    assert first.is_match is True
    assert second.status == "the text is None, not a string"


def test_a_row_without_the_needed_keys_is_an_error(predictor: Predictor) -> None:
    with pytest.raises(
        InputError, match=r"row 2 has the keys picture, text; image_path and text are needed"
    ):
        list(
            predictor.predict_pairs(
                [{"image_path": "a", "text": "b"}, {"picture": "a", "text": "b"}]
            )
        )


def test_predict_pairs_is_lazy(predictor: Predictor, colour_images: Path) -> None:
    def rows() -> Iterator[dict[str, str]]:
        for _ in range(4096):
            yield {"image_path": str(colour_images / "red.png"), "text": "red"}
        raise AssertionError("a second window was read before the first was used up")

    assert next(predictor.predict_pairs(rows())).is_match is True


@pytest.mark.parametrize(
    ("score", "given", "expected"),
    [
        (ScoreSpec("probability", 0.5), None, 0.5),
        (ScoreSpec("cosine", 0.25), None, 0.25),
        (
            ScoreSpec(
                "probability",
                0.5,
                threshold=Threshold(0.61, "accuracy", 900, "2026-01-01T00:00:00Z"),
            ),
            None,
            0.61,
        ),
        (
            ScoreSpec(
                "probability",
                0.5,
                threshold=Threshold(0.61, "accuracy", 900, "2026-01-01T00:00:00Z"),
            ),
            0.0,
            0.0,
        ),
    ],
)
def test_the_flag_wins_over_the_stored_threshold_over_the_default(
    colour_engine: Any, score: ScoreSpec, given: float | None, expected: float
) -> None:
    assert Predictor(colour_engine(score=score), threshold=given).threshold == expected


@pytest.mark.parametrize(
    ("kind", "threshold"),
    [("probability", -0.1), ("probability", 1.5), ("cosine", -1.1), ("probability", float("nan"))],
)
def test_an_impossible_threshold_is_refused(
    colour_engine: Any, kind: Any, threshold: float
) -> None:
    with pytest.raises(InputError, match="scores lie between"):
        Predictor(colour_engine(score=ScoreSpec(kind, 0.5)), threshold=threshold)


def test_a_score_equal_to_the_threshold_is_a_match(colour_engine: Any, colour_images: Path) -> None:
    engine = colour_engine(score=ScoreSpec("cosine", 1.0))
    assert Predictor(engine).predict(colour_images / "red.png", "red").is_match is True


def test_the_calibration_is_applied(colour_engine: Any, colour_images: Path) -> None:
    engine = colour_engine(score=ScoreSpec("probability", 0.5, Calibration(2.0, -2.0, 100)))
    result = Predictor(engine).predict(colour_images / "red.png", "red")
    assert result.similarity_score == pytest.approx(0.5, abs=1e-6)
    assert result.logit == pytest.approx(1.0, abs=1e-6)


def test_embeddings_of_many_and_of_none(predictor: Predictor, colour_images: Path) -> None:
    np.testing.assert_allclose(
        predictor.encode_images([colour_images / "red.png", colour_images / "blue.png"]),
        [[1, 0, 0], [0, 0, 1]],
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        predictor.encode_texts(["green", "red blue"]), [[0, 1, 0], [1, 0, 1]]
    )
    assert predictor.encode_images([]).shape == predictor.encode_texts([]).shape == (0, 3)
    with pytest.raises(ImageError, match=r"lie\.jpg"):
        predictor.encode_images([colour_images / "red.png", colour_images / "lie.jpg"])


def test_many_threads_share_one_predictor(predictor: Predictor, colour_images: Path) -> None:
    def run(i: int) -> list[bool | None]:
        name = ["red", "green", "blue"][i % 3]
        rows = [
            {"image_path": f"{name}.png", "text": text}
            for text in ("red", "green bag", "blue shoe shirt")
        ] * 10
        return [
            result.is_match
            for result in predictor.predict_pairs(rows, image_base_path=colour_images)
        ]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(24)))
    assert results == [[i % 3 == k for k in range(3)] * 10 for i in range(24)]


@pytest.mark.parametrize("path", ["nowhere", "./nowhere/at/all"])
def test_loading_what_is_not_there(path: str) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        mismatch.load(path)


@pytest.mark.parametrize("text", [None, 3, float("nan")])
def test_a_text_that_is_none_is_refused(
    predictor: Predictor, colour_images: Path, text: Any
) -> None:
    with pytest.raises(InputError, match=f"the text is {text}, not a string"):
        predictor.predict(colour_images / "red.png", text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (None, "the image_path is missing"),
        (float("nan"), "the image_path is missing"),
        (7, "the image_path is 7, not a path"),
    ],
)
def test_a_row_without_an_image_path_says_so(
    predictor: Predictor, colour_images: Path, path: Any, status: str
) -> None:
    bad, good = predictor.predict_pairs(
        [{"image_path": path, "text": "red"}, {"image_path": Path("red.png"), "text": "red"}],
        image_base_path=colour_images,
    )
    assert (bad.image_path, bad.prediction, bad.status, bad.similarity_score) == (
        "",
        "error",
        status,
        None,
    )
    assert (good.image_path, good.status, good.is_match) == ("red.png", "ok", True)


def test_a_logit_that_is_no_number_is_an_error(colour_engine: Any, colour_images: Path) -> None:
    engine = colour_engine()
    engine.logits = lambda images, texts: np.full(len(images), np.nan, np.float32)
    predictor = Predictor(engine)
    one = predictor.predict(colour_images / "red.png", "red")
    [same] = predictor.predict_pairs(
        [{"image_path": str(colour_images / "red.png"), "text": "red"}]
    )
    assert one == same
    assert (one.similarity_score, one.is_match, one.prediction, one.status) == (
        None,
        None,
        "error",
        "the model gave no number",
    )


@pytest.mark.parametrize(
    ("bundle", "words"),
    [(True, "onnxruntime can't be imported: pip install onnxruntime"), (False, r"\[train\]")],
)
def test_a_missing_module_is_named_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: bool, words: str
) -> None:
    class Opener:
        def load(self) -> Any:
            raise ModuleNotFoundError(
                "No module named 'onnxruntime'", name="onnxruntime" if bundle else "torch"
            )

    if bundle:
        (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr("mismatch.runtime.engines.entry_points", lambda **wanted: [Opener()])
    with pytest.raises(CheckpointError if bundle else MissingExtraError, match=words):
        mismatch.load(tmp_path)


SAID = "red shirt bag shoe\nblue shirt"  # two pieces; its beginning is red


@pytest.mark.parametrize(
    ("stored", "given", "logit", "used"),
    [
        ("truncate", None, 1.0, "truncate"),
        ("truncate", "chunk", -3.0, "chunk"),
        ("chunk", None, -3.0, "chunk"),
        ("chunk", "truncate", 1.0, "truncate"),
        ("chunk-mean", None, -1.0, "chunk-mean"),
    ],
)
def test_one_long_text_scores_as_in_many_rows(
    colour_engine: Any, colour_images: Path, stored: Any, given: Any, logit: float, used: str
) -> None:
    predictor = Predictor(
        colour_engine(
            score=ScoreSpec("probability", 0.5, Calibration(2.0, 1.0, 9), long_text=stored)
        ),
        long_text=given,
    )
    one = predictor.predict(colour_images / "red.png", SAID)
    [same] = predictor.predict_pairs([{"image_path": str(colour_images / "red.png"), "text": SAID}])
    assert one == same
    assert one.logit == pytest.approx(logit, abs=1e-6)
    assert one.similarity_score == pytest.approx(1 / (1 + np.exp(-(2 * logit + 1))), abs=1e-6)
    assert (
        predictor.score.long_text,
        predictor.pipeline.totals.long_texts,
        predictor.pipeline.totals.truncated,
    ) == (used, 2, 2 * (used == "truncate"))
    np.testing.assert_array_equal(predictor.encode_texts([SAID]), [[1, 0, 0]])


@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
def test_much_white_space_is_an_empty_text(
    colour_engine: Any, colour_images: Path, long_text: Any
) -> None:
    """Also where the tokenizer counts it, so that there is more of it than fits."""
    engine = colour_engine()
    engine.text_spec = bytes_spec(8)
    predictor = Predictor(engine, long_text=long_text)
    with pytest.raises(InputError, match="the text is empty"):
        predictor.predict(colour_images / "red.png", "\n" * 50)
    [row] = predictor.predict_pairs(
        [{"image_path": str(colour_images / "red.png"), "text": "\n" * 50}]
    )
    assert (row.status, row.logit, predictor.pipeline.totals.long_texts) == (
        "the text is empty",
        None,
        0,
    )


@pytest.mark.parametrize("text", ["👍👍", "👍👜", "a 👍"])
@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
def test_one_pair_counts_long_texts_as_many_rows_do(
    colour_engine: Any, colour_images: Path, text: str, long_text: Any
) -> None:
    """Of a letter that is longer than the context as well: an emoji is four bytes, and the context
    two.
    """
    engine = colour_engine()
    engine.text_spec = bytes_spec(2)
    one, many = Predictor(engine, long_text=long_text), Predictor(engine, long_text=long_text)
    counts = TextCounts()
    single = one.predict(colour_images / "red.png", text)
    assert one.predict(colour_images / "red.png", text, counts=counts) == single
    assert (counts.long_texts, counts.truncated) == (
        one.pipeline.totals.long_texts,
        one.pipeline.totals.truncated,
    )
    [row] = many.predict_pairs([{"image_path": str(colour_images / "red.png"), "text": text}])
    assert single == row
    assert one.pipeline.totals.long_texts == many.pipeline.totals.long_texts == 1
    assert (
        one.pipeline.totals.truncated
        == many.pipeline.totals.truncated
        == (
            1
            if long_text == "truncate"
            else text.replace("👍👍", "👍").count("👍") + text.count("👜")
        )
    )


@pytest.mark.parametrize("long_text", ["chunk", "chunk-mean"])
def test_a_bundle_agrees_with_its_checkpoint_on_long_texts(
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    family: str,
    colour_images: Path,
    tmp_path: Path,
    long_text: Any,
) -> None:
    """Both carry what becomes of long texts, and both say the worst or the mean of what they say of
    each piece.
    """
    from mismatch.training.checkpoint import read_meta, write_meta

    checkpoint, bundle = (
        shutil.copytree(tiny_checkpoints[family], tmp_path / "checkpoint"),
        shutil.copytree(tiny_bundles[family], tmp_path / "bundle"),
    )
    meta, manifest = read_meta(checkpoint), read_bundle(bundle)
    write_meta(checkpoint, replace(meta, score=replace(meta.score, long_text=long_text)))
    write_manifest(bundle, replace(manifest, score=replace(manifest.score, long_text=long_text)))
    sentences = [
        "a red leather bag with gold hardware and two handles. " * 6,
        "it is a blue shoe! " * 12,
        "Größe 42, grün; " * 9,
        "黒いスニーカー。" * 9,
    ]
    texts = ["".join(sentences[i:]) for i in range(4)] + ["a red shirt"]
    rows = [
        {"image_path": f"{name}.png", "text": text}
        for name in ("red", "green", "blue")
        for text in texts
    ]
    both = [mismatch.load(folder, "cpu") for folder in (checkpoint, bundle)]
    logits: list[Any] = [
        [p.logit for p in predictor.predict_pairs(rows, image_base_path=colour_images)]
        for predictor in both
    ]
    torch_says, bundle_says = logits
    np.testing.assert_allclose(bundle_says, torch_says, atol=1e-4)
    assert [
        (p.pipeline.totals.long_texts, p.pipeline.totals.truncated, p.score.long_text) for p in both
    ] == [(4, 0, long_text)] * 2
    plain = mismatch.load(bundle, "cpu", long_text="truncate")
    pieces: list[Any] = both[0].pipeline.pieces([row["text"] for row in rows])
    alone: list[Any] = [
        [plain.predict(colour_images / row["image_path"], piece).logit for piece in own]
        for row, own in zip(rows, pieces, strict=True)
    ]
    assert [len(own) > 1 for own in pieces[:5]] == [True, True, True, True, False]
    pooled: Any = min if long_text == "chunk" else np.mean
    np.testing.assert_allclose(bundle_says, [pooled(own) for own in alone], atol=1e-4)
    assert plain.pipeline.totals.truncated == 0


def test_a_longer_context_takes_longer_texts_whole(
    tiny_checkpoints: dict[str, Path], colour_images: Path, tmp_path: Path
) -> None:
    """As Long-CLIP has it: 248 positions."""
    import torch
    from safetensors.torch import load_file, save_file

    from mismatch.backbones.registry import load_backbone
    from mismatch.training.checkpoint import meta_for
    from mismatch.training.detector import Detector
    from mismatch.training.engine import TorchEngine
    from mismatch.training.head import build_head, head_spec_for

    load_backbone("hf-clip:tiny").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 248
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in tmp_path.glob("*tokenizer_config.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 248}))
    weights = load_file(tmp_path / "model.safetensors")
    name = "text_model.embeddings.position_embedding.weight"
    weights[name] = torch.randn(
        248, weights[name].shape[1], generator=torch.Generator().manual_seed(0)
    )
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    backbone = load_backbone("hf-clip", str(tmp_path))
    spec = head_spec_for(backbone, "cosine")
    predictor = Predictor(
        TorchEngine(Detector(backbone, build_head(spec)), meta_for("hf-clip", "long", spec)),
        long_text="chunk",
    )
    assert backbone.text_spec.context_length == 248
    text = "a red bag with gold hardware. " * 30  # 210 tokens
    scores = [
        predictor.predict(colour_images / "red.png", said).logit
        for said in (text, text + "it is blue", text + "it is blue. " * 20)
    ]
    assert predictor.pipeline.totals.long_texts == 1, "the last one"
    assert predictor.pipeline.totals.truncated == 0
    pieces: list[Any] = predictor.pipeline.pieces([text, text + "it is blue. " * 20])
    assert [len(own) for own in pieces] == [1, 2]
    assert len(set(scores)) == 3


def test_a_cache_folder_serves_the_next_predictor_of_the_same_model_only(
    colour_engine: Any, colour_images: Path
) -> None:
    rows = [{"image_path": "red.png", "text": "red"}, {"image_path": "absent.png", "text": "red"}]
    results = []
    for fingerprint, images in (("aa", 1), ("aa", 0), ("bb", 1)):
        engine = colour_engine()
        engine.fingerprint = fingerprint
        results.append(
            list(
                Predictor(engine, cache=colour_images / "cache").predict_pairs(
                    rows, image_base_path=colour_images
                )
            )
        )
        assert sum(engine.image_batches) == images
    assert results[0] == results[1] == results[2]
    assert [result.prediction for result in results[0]] == ["match", "error"]


# the right colour has 0.73
BANDED = ScoreSpec(
    "probability",
    0.5,
    threshold=Threshold(0.5, "f1", 9, "2026-01-01T00:00:00Z"),
    review=ReviewBand(0.6, 0.8),
)
SLICED = ScoreSpec(
    "probability", 0.5, slices=SliceThresholds("shop", {"strict": 0.9}, {"strict": 40})
)


def test_a_score_in_the_review_band_is_for_a_person(
    colour_engine: Any, colour_images: Path
) -> None:
    said = Predictor(colour_engine(score=BANDED)).predict(colour_images / "red.png", "red")
    assert (said.prediction, said.is_match) == ("review", True)
    assert (
        Predictor(colour_engine(score=BANDED)).predict(colour_images / "red.png", "blue").prediction
        == "mismatch"
    )
    assert (
        Predictor(colour_engine(score=BANDED), threshold=0.5)
        .predict(colour_images / "red.png", "red")
        .prediction
        == "match"
    )
    given = Predictor(colour_engine(), review=ReviewBand(0.0, 0.5)).predict(
        colour_images / "red.png", "blue"
    )
    assert (given.prediction, given.is_match) == ("review", False)


def test_a_threshold_that_leaves_out_what_is_stored_says_so(
    colour_engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Predictor(colour_engine(score=BANDED), threshold=0.5)
    Predictor(colour_engine(score=SLICED), threshold=0.5)
    Predictor(colour_engine(score=BANDED), threshold=0.5, review=(0.5, 0.6))
    assert caplog.messages == [
        "`threshold` is given: the stored review band is left out",
        "`threshold` is given: the stored thresholds by 'shop' are left out",
    ]


def test_a_review_band_must_hold_the_thresholds_in_use(colour_engine: Any) -> None:
    for score, threshold, band, refused in (
        (BANDED, None, (0.6, 0.8), 0.5),
        (BANDED, 0.4, (0.5, 0.8), 0.4),
        (SLICED, None, (0.4, 0.8), 0.9),
    ):
        words = f"`review` from .* does not hold the threshold {refused:.4f}"
        with pytest.raises(InputError, match=words) as refusal:
            Predictor(colour_engine(score=score), threshold=threshold, review=band)
        assert refusal.value.option == "review"
    sliced = Predictor(colour_engine(score=SLICED), review=(0.4, 0.95))
    assert (sliced.thresholds, sliced.review) == ([0.5, 0.9], ReviewBand(0.4, 0.95))
    assert Predictor(colour_engine(score=SLICED), threshold=0.6, review=(0.6, 0.8)).review


def test_slices_have_thresholds_of_their_own(colour_engine: Any, colour_images: Path) -> None:
    predictor = Predictor(colour_engine(score=SLICED))
    rows = [
        {"image_path": "red.png", "text": "red", **shop}
        for shop in ({"shop": "strict"}, {"shop": "other"}, {})
    ]
    said = list(predictor.predict_pairs(rows, image_base_path=colour_images))
    assert [(one.threshold, one.prediction) for one in said] == [
        (0.9, "mismatch"),
        (0.5, "match"),
        (0.5, "match"),
    ]
    assert (
        predictor.predict(colour_images / "red.png", "red", slice_value="strict").prediction
        == "mismatch"
    )
    assert [
        one.threshold
        for one in Predictor(colour_engine(score=SLICED), threshold=0.4).predict_pairs(
            rows, image_base_path=colour_images
        )
    ] == [0.4] * 3


def test_a_url_as_base(store: Remote, colour_engine: Any, colour_images: Path) -> None:
    (store / "images" / "red.png").write((colour_images / "red.png").read_bytes())
    (store / "red.png").write((colour_images / "red.png").read_bytes())
    names = [
        "red.png",
        f"{store}/images/red.png",
        "../red.png",
        f"{store}/red.png",
        str(colour_images / "red.png"),
    ]
    predictor, rows = (
        Predictor(colour_engine()),
        [{"image_path": name, "text": "red"} for name in names],
    )
    found = list(predictor.predict_pairs(rows, image_base_path=f"{store}/images"))
    assert [one.image_path for one in found] == names
    assert [one.status == "ok" for one in found] == [True, True, False, False, False]
    assert "leaves the image base path" in found[2].status
    outside = predictor.predict_pairs(rows, image_base_path=f"{store}/images", outside_images=True)
    assert [one.status == "ok" for one in outside] == [True, True, True, True, False]
    assert predictor.predict(store / "red.png", "red").image_path == f"{store}/red.png"
    assert predictor.predict(store / "red.png", "red").similarity_score == found[0].similarity_score


@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
def test_texts_without_end_cost_their_rows_alone(
    colour_engine: Any, colour_images: Path, long_text: Any
) -> None:
    predictor = Predictor(colour_engine(), long_text=long_text)
    rows = [
        {"image_path": "red.png", "text": text}
        for text in ("red", "红色衬衫" * 250_000, "red " * 250_000, "blue")
    ]
    found = list(predictor.predict_pairs(rows, image_base_path=colour_images))
    assert [one.status == "ok" for one in found] == [
        True,
        long_text == "truncate",
        long_text == "truncate",
        True,
    ]
    if long_text != "truncate":
        assert "1,000,000 characters; at most 50,000 are scored in pieces" in found[1].status
        with pytest.raises(InputError, match="999,999 characters"):
            predictor.predict(colour_images / "red.png", rows[2]["text"])


@pytest.fixture
def linked(colour_images: Path) -> Path:
    """A folder with in.png, which is a link within it, and out.png and away, which are links out of
    it; above it lies red.png.
    """
    folder = colour_images / "base"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(colour_images / "blue.png", folder / "deep" / "blue.png")
    (folder / "in.png").symlink_to("deep/blue.png")
    (folder / "out.png").symlink_to("../red.png")
    (folder / "away").symlink_to("..")
    return folder


def statuses(predictor: Predictor, paths: list[Any], **options: Any) -> list[bool]:
    found = predictor.predict_pairs(
        [{"image_path": path, "text": "red"} for path in paths], **options
    )
    return [one.status == "ok" for one in found]


def test_paths_stay_below_the_base(
    predictor: Predictor, linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = ["deep/blue.png", "in.png", str(linked / "in.png"), "deep/../in.png"]
    outside = [
        "out.png",
        "away/red.png",
        "../red.png",
        str(linked.parent / "red.png"),
        Path("out.png"),
    ]
    for options in ({}, {"outside_images": False}):
        assert (
            statuses(predictor, [*inside, *outside], image_base_path=linked, **options)
            == [True] * 4 + [False] * 5
        )
    assert (
        statuses(predictor, [*inside, *outside], image_base_path=linked, outside_images=True)
        == [True] * 9
    )
    (linked.parent / "link").symlink_to("base")
    # the base is the caller's own
    assert statuses(predictor, inside, image_base_path=linked.parent / "link") == [True] * 4
    monkeypatch.chdir(linked)
    assert statuses(predictor, [*inside, *outside]) == [True] * 9
    assert (
        statuses(predictor, [*inside, *outside], outside_images=False) == [True] * 4 + [False] * 5
    )
    [own] = predictor.predict_pairs(
        [{"image": linked / "out.png", "text": "red"}], image_base_path=linked, outside_images=False
    )
    assert "leaves" in own.status, "a path in `image` is held alike"


@pytest.mark.parametrize(
    "text", [float("nan"), 5, True, None, b"red", {"a": 1}, ["red"], [], np.float32(1)]
)
def test_what_is_no_text_has_no_score(predictor: Predictor, colour_images: Path, text: Any) -> None:
    [row] = predictor.predict_pairs(
        [{"image_path": "red.png", "text": text}], image_base_path=colour_images
    )
    assert (row.similarity_score, row.prediction) == (None, "error")
    assert row.status.startswith("the text is ")
    for call in (
        lambda: predictor.predict(colour_images / "red.png", text),
        lambda: predictor.encode_texts(["red", text]),
    ):
        with pytest.raises(InputError, match="the text is"):
            call()


@pytest.mark.parametrize("path", [5, True, ["red.png"]])
def test_what_is_no_path_has_no_score(predictor: Predictor, colour_images: Path, path: Any) -> None:
    [row] = predictor.predict_pairs(
        [{"image_path": path, "text": "red"}], image_base_path=colour_images
    )
    assert row.status.startswith("the image_path is ")
    assert row.status.endswith(", not a path")


def test_an_image_in_memory_may_stand_under_image_path(
    predictor: Predictor, colour_images: Path
) -> None:
    data = (colour_images / "red.png").read_bytes()
    with Image.open(colour_images / "red.png") as picture:
        picture.load()
    images: list[Any] = [data, memoryview(data), {"bytes": data, "path": None}, picture]
    rows = [{"image_path": image, "text": "red"} for image in images]
    scores = {row.similarity_score for row in predictor.predict_pairs(rows)}
    assert scores == {predictor.predict(colour_images / "red.png", "red").similarity_score}
    [row] = predictor.predict_pairs(
        [{"image_path": {"path": "red.png"}, "text": "red"}], image_base_path=colour_images
    )
    assert row.similarity_score in scores


def test_scores_of_pairs(predictor: Predictor, colour_images: Path) -> None:
    images = [colour_images / "red.png", colour_images / "blue.png"]
    scores = predictor.scores(images, iter(["red", "red"]))
    assert scores.shape == (2,)
    assert scores[0] > 0.5 > scores[1]
    assert predictor.scores([], []).shape == (0,)
    with pytest.raises(InputError, match="2 images and 1 texts"):
        predictor.scores(images, ["red"])
    with pytest.raises(InputError, match=r"pair 2: .*lie\.jpg"):
        predictor.scores([images[0], colour_images / "lie.jpg"], ["red", "red"])


def test_texts_and_images_go_by_position(predictor: Predictor, colour_images: Path) -> None:
    pandas = pytest.importorskip("pandas")
    texts = pandas.Series(["green", "red", "blue"], index=[2, 0, 1])
    expected = [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(predictor.encode_texts(texts), expected)
    np.testing.assert_array_equal(predictor.encode_texts(iter(texts)), expected)
    images = pandas.Series(
        [str(colour_images / f"{name}.png") for name in ("green", "red", "blue")], index=[2, 0, 1]
    )
    np.testing.assert_allclose(predictor.encode_images(images), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.encode_images(iter(images)), expected, atol=1e-6)


@pytest.mark.parametrize("texts", ["shirt", None, 3, b"shirt"])
def test_one_text_is_not_several(predictor: Predictor, texts: Any) -> None:
    for method in (predictor.encode_texts, predictor.embed_texts):
        with pytest.raises(InputError, match="several are needed"):
            method(texts)


def test_a_frame_is_rows_and_a_live_source_is_answered(
    predictor: Predictor, colour_images: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"image_path": ["red.png"] * 2, "text": ["red", None]})
    good, bad = predictor.predict_pairs(frame, image_base_path=colour_images)
    assert (good.status, bad.prediction) == ("ok", "error")
    answered: list[bool] = []

    def source() -> Iterator[dict[str, str]]:
        for i in range(3):
            assert len(answered) == i
            yield {"image_path": "red.png", "text": "red"}
            until = time.monotonic() + 20
            while len(answered) <= i and time.monotonic() < until:
                time.sleep(0.01)

    for one in predictor.predict_pairs(source(), image_base_path=colour_images):
        answered.append(bool(one.is_match))  # noqa: PERF401 - the source looks at it
    assert answered == [True] * 3


def test_rows_of_a_file(predictor: Predictor, colour_images: Path) -> None:
    path = colour_images / "rows.csv"
    path.write_text("image_path,text,problem\nred.png,red,x\ngone.png,red,\n")
    found = list(predictor.predict_rows(path, image_base_path=colour_images))
    assert [row.line for row, _ in found] == [2, 3]
    assert [one.prediction for _, one in found] == ["match", "error"]
    [(row, one)] = predictor.predict_rows(
        [{"image_path": "red.png", "text": "red", "id": 3}], image_base_path=colour_images
    )
    assert (row["id"], one.is_match) == (3, True)


def test_a_closed_predictor_says_so(colour_engine: Any, colour_images: Path) -> None:
    with Predictor(colour_engine()) as predictor:
        assert predictor.predict(colour_images / "red.png", "red").is_match
        assert "numpy cpu" in repr(predictor)
    predictor.close()
    assert "closed" in repr(predictor)
    with pytest.raises(InputError, match="closed"):
        predictor.predict(colour_images / "red.png", "red")


def test_a_copy_loads_the_model_again(
    tiny_bundles: dict[str, Path], colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundles["openclip"].parent)
    predictor = mismatch.load(tiny_bundles["openclip"].name, threads=1, review=(0.0, 1.1))
    predictor.threshold = 0.125
    data = pickle.dumps(predictor)
    monkeypatch.chdir(colour_images)
    for again in (pickle.loads(data), copy.deepcopy(predictor)):  # noqa: S301 - its own
        assert again is not predictor
        assert again.predict("red.png", "red") == predictor.predict("red.png", "red")
        assert (again.threshold, again.review) == (0.125, ReviewBand(0.0, 1.1))


def test_a_copy_is_not_made_of_another_model_that_has_come_since(
    tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundles["openclip"], tmp_path / "bundle")
    predictor = mismatch.load(tmp_path / "bundle", "cpu", 1)
    data = pickle.dumps(predictor)
    shutil.rmtree(tmp_path / "bundle")
    shutil.copytree(tiny_bundles["hf-clip"], tmp_path / "bundle")
    words = r"bundle holds another model .* load"
    for act in (copy.copy, copy.deepcopy):
        with pytest.raises(CheckpointError, match=words):
            act(predictor)
    with pytest.raises(CheckpointError, match=words):
        pickle.loads(data)  # noqa: S301 - its own


def test_a_predictor_of_an_engine_cannot_be_copied(predictor: Predictor) -> None:
    for act in (pickle.dumps, copy.deepcopy):
        with pytest.raises(mismatch.MismatchError, match="load the model"):
            act(predictor)


def test_an_explanation_leaves_the_counts_of_others_alone(
    predictor: Predictor, colour_images: Path
) -> None:
    rows = [{"image_path": "red.png", "text": SAID}]
    found = predictor.predict_pairs(rows, image_base_path=colour_images)
    next(found)
    mismatch.explain(predictor, colour_images / "red.png", SAID)
    assert (found.counts.long_texts, predictor.pipeline.totals.long_texts) == (1, 1)
    with pytest.raises(ImageError, match="a NoneType"):
        mismatch.explain(predictor, None, "red")  # type: ignore[arg-type]
