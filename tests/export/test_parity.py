"""mismatch.export.parity: it finds what differs, and says how much the comparison is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError, ParityError
from mismatch.export.parity import (
    Outputs,
    Tolerance,
    built_in_pairs,
    check,
    compare_outputs,
    decisions,
)
from mismatch.runtime.pipeline import Pair
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.scoring import scores_from_logits
from mismatch.specs import Calibration, ReviewBand, ScoreSpec, SliceThresholds
from tests.support.engines import bytes_spec


@pytest.fixture
def pairs(colour_images: Path) -> list[Pair]:
    rows = [
        Pair(colour_images / f"{name}.png", text)
        for name in ("red", "green", "blue")
        for text in ("red", "green bag", "shoe")
    ]
    return [*rows, Pair(colour_images / "lie.jpg", "red"), Pair("", "", problem="too few fields")]


def run(a: Any, b: Any, pairs: list[Pair]) -> Any:
    left = Outputs.of(a, pairs, source="rows.csv")
    return compare_outputs(
        left, Outputs.of(b, pairs, source="rows.csv", like=left), source="rows.csv"
    )


def test_equal_engines_agree(colour_engine: Any, pairs: list[Pair]) -> None:
    report = run(colour_engine(), colour_engine(), pairs)
    assert (report.pairs, report.unscorable, report.flipped_decisions) == (9, 2, 0)
    assert (
        report.max_score_difference
        == report.max_logit_difference
        == report.max_image_embedding_difference
        == 0.0
    )
    assert report.score_max == pytest.approx(0.731059, abs=1e-6)
    assert report.score_std > 0.1
    check(report, Tolerance())


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("encode_images", lambda x: x + 0.01, "score difference before calibration 0.0"),
        ("encode_texts", lambda x: x * 1.01, "embedding difference 0.01"),
        ("logits", lambda x: -x, "flipped decisions 9"),
        ("logits", lambda x: x * np.nan, "score difference before calibration nan"),
    ],
)
def test_a_difference_is_found_and_refused(
    colour_engine: Any,
    pairs: list[Pair],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    change: Any,
    words: str,
) -> None:
    other = colour_engine()
    real = getattr(other, part)
    monkeypatch.setattr(other, part, lambda *args: change(real(*args)))
    with pytest.raises(ParityError, match=words):
        check(run(colour_engine(), other, pairs), Tolerance())


def shifted(engine: Any, by: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an engine whose logits are all higher."""
    real = engine.logits
    monkeypatch.setattr(engine, "logits", lambda *args: real(*args) + by)
    return engine


def test_flips_are_those_of_each_pairs_own_threshold(
    colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four equal pairs, the two whose slice has a threshold right above their score flip."""
    image = colour_images / "red.png"
    values: list[object] = ["a", "b", None, "b"]
    pairs = [Pair(image, "red", slice_value=value) for value in values]
    [own, *_] = scores_from_logits(
        Outputs.of(colour_engine(), pairs, source="rows").logits, ScoreSpec("probability", 0.5)
    )
    slices = SliceThresholds("cat", {"b": float(own) + 0.001}, {"b": 60})
    engine = colour_engine(score=ScoreSpec("probability", 0.5, slices=slices))
    report = run(engine, shifted(colour_engine(), 0.01, monkeypatch), pairs)
    assert (report.flipped_decisions, report.slice_column, report.slice_pairs) == (2, "cat", 2)
    assert (report.threshold, report.to_dict()["slice_pairs"]) == (0.5, 2)
    plain = run(engine, engine, [Pair(image, "red")])
    assert (plain.flipped_decisions, plain.slice_column, plain.slice_pairs) == (0, "cat", 0)


@pytest.mark.parametrize(("by", "flipped"), [(0.01, 1), (1e-7, 0)])
def test_a_row_that_leaves_the_band_has_flipped_but_for_rounding(
    colour_engine: Any,
    colour_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: float,
    flipped: int,
) -> None:
    pairs = [Pair(colour_images / "red.png", "red")]
    [own] = scores_from_logits(
        Outputs.of(colour_engine(), pairs, source="rows").logits, ScoreSpec("probability", 0.5)
    )
    band = ReviewBand(0.4, float(np.nextafter(own, 1)))  # ends at the row's own score
    engine = colour_engine(score=ScoreSpec("probability", 0.5, review=band))
    report = run(engine, shifted(colour_engine(), by, monkeypatch), pairs)
    assert report.flipped_decisions == flipped


@pytest.mark.parametrize(
    "score",
    [
        ScoreSpec("probability", 0.5),
        ScoreSpec("probability", 0.5, review=ReviewBand(0.3, 0.6)),
        ScoreSpec("probability", 0.5, slices=SliceThresholds("cat", {"2": 0.1}, {"2": 60})),
    ],
)
def test_decisions_are_a_predictors(
    colour_engine: Any, colour_images: Path, score: ScoreSpec
) -> None:
    engine = colour_engine(score=score)
    rows: list[dict[str, Any]] = [
        {"image": colour_images / f"{name}.png", "text": text, "cat": value}
        for name in ("red", "green", "blue")
        for text in ("red", "green bag", "shoe")
        for value in (1, 2.0, "2", None)
    ]
    pairs = [Pair(row["image"], row["text"], slice_value=row["cat"]) for row in rows]
    outputs = Outputs.of(engine, pairs, source="rows")
    predicted = [row.prediction for row in Predictor(engine).predict_pairs(rows)]
    names = np.array(["mismatch", "match", "review"])
    assert names[decisions(outputs, score)].tolist() == predicted


@pytest.mark.parametrize(
    ("long_text", "score_min", "said"),
    [
        (
            "truncate",
            1 / (1 + np.exp(-1)),
            "; 2 texts were longer than the backbone's 6 tokens and were scored without their end",
        ),
        (
            "chunk",
            1 / (1 + np.exp(3)),
            (
                "; 2 texts were longer than the backbone's 6 tokens and were scored in pieces, the"
                " worst of which decides"
            ),
        ),
        (
            "chunk-mean",
            1 / (1 + np.exp(1)),
            (
                "; 2 texts were longer than the backbone's 6 tokens and were scored in pieces,"
                " whose mean decides"
            ),
        ),
    ],
)
def test_long_texts_are_compared_as_the_reference_scores_them(
    colour_engine: Any, colour_images: Path, long_text: Any, score_min: float, said: str
) -> None:
    score = ScoreSpec("probability", 0.5, long_text=long_text)
    texts = ["red shirt bag shoe. blue shirt", "red shirt bag shoe. red bag", "red", " "]
    report = run(
        colour_engine(score=score),
        colour_engine(),
        [Pair(colour_images / "red.png", text) for text in texts],
    )
    assert (report.pairs, report.unscorable, report.long_texts, report.long_text) == (
        3,
        1,
        2,
        long_text,
    )
    assert (report.max_score_difference, report.score_min) == (
        0.0,
        pytest.approx(score_min, abs=1e-6),
    )
    assert report.summary().endswith(said)
    assert report.to_dict()["long_text"] == long_text


@pytest.mark.parametrize(
    ("long_text", "scored", "long"), [("truncate", 3, 1), ("chunk", 3, 1), ("chunk-mean", 3, 1)]
)
def test_white_space_is_unscorable_and_a_long_letter_counts_once(
    colour_engine: Any, colour_images: Path, long_text: Any, scored: int, long: int
) -> None:
    """Where the tokenizer counts both by the byte: the context is three, the white space fifty, the
    emoji four each.
    """
    score = ScoreSpec("probability", 0.5, long_text=long_text)
    engine, other = colour_engine(score=score), colour_engine()
    engine.text_spec = other.text_spec = bytes_spec(3)
    report = run(
        engine,
        other,
        [Pair(colour_images / "red.png", text) for text in ("red", "\n" * 50, "👍👜", "a")],
    )
    assert (report.pairs, report.unscorable, report.long_texts) == (scored, 1, long)
    assert report.max_score_difference == 0.0


def test_nothing_to_compare_proves_nothing(colour_engine: Any, colour_images: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 1 pairs can be scored"):
        run(colour_engine(), colour_engine(), [Pair(colour_images / "lie.jpg", "red")])


def test_built_in_pairs_are_of_odd_shapes_and_the_same_each_time() -> None:
    first, second = built_in_pairs(), built_in_pairs()
    assert len(first) == 56
    images: list[Any] = [pair.image for pair in first]
    again: list[Any] = [pair.image for pair in second]
    assert {image.size for image in images} >= {(1, 1), (3, 5), (17, 640), (640, 17), (224, 224)}
    assert [image.tobytes() for image in images] == [image.tobytes() for image in again]
    assert min(len(pair.text) for pair in first) == 1
    assert max(len(pair.text.split()) for pair in first) > 77


@pytest.mark.parametrize("slope", [1e-3, 1.0, 1e3])
def test_a_calibration_neither_hides_nor_magnifies_a_difference(
    colour_engine: Any, slope: float
) -> None:
    """The logits' own difference is what is judged; that of the scores is reported."""
    score = ScoreSpec("probability", 0.5, Calibration(slope, 0.0, 9))
    left, right = colour_engine(score=score), colour_engine(score=score)
    right.logits = lambda images, texts: colour_engine.logits(left, images, texts) + 0.01
    report = run(left, right, built_in_pairs()[:6])
    assert 0.0003 < report.max_uncalibrated_difference < 0.0026
    with pytest.raises(ParityError, match="score difference before calibration"):
        check(replace(report, flipped_decisions=0), Tolerance())
