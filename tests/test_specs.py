"""The specs travel as JSON and refuse what they don't know."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.specs import (
    Calibration,
    HeadSpec,
    ImageSpec,
    ReviewBand,
    ScoreSpec,
    SliceThresholds,
    TextSpec,
    Threshold,
)

IMAGE = ImageSpec(
    size=224,
    resize=256,
    mean=(0.48, 0.46, 0.41),
    std=(0.27, 0.26, 0.28),
    crop_rounding="floor",
    fill=(1, 2, 3),
)
TEXT = TextSpec(
    context_length=77,
    pad_id=49407,
    padding="longest",
    cleaning="clip",
    tokenizer_json='{"version": "1.0"}',
)
HEAD = HeadSpec(kind="adapter", image_dim=640, text_dim=512)
CALIBRATION = Calibration(slope=1.5, intercept=-0.25, rows=1406)
THRESHOLD = Threshold(value=0.62, objective="accuracy", rows=1406, date="2026-11-24T00:00:00Z")
SCORE = ScoreSpec("probability", 0.5, CALIBRATION, THRESHOLD).to_dict()


@pytest.mark.parametrize(
    "spec", [IMAGE, HEAD, CALIBRATION, THRESHOLD], ids=lambda spec: type(spec).__name__
)
def test_a_spec_survives_json(spec: Any) -> None:
    assert type(spec).from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_of_an_earlier_version_ignores_colour_profiles() -> None:
    data = {key: value for key, value in IMAGE.to_dict().items() if key != "colour_profile"}
    earlier = ImageSpec.from_dict(data)
    assert (IMAGE.colour_profile, earlier.colour_profile) == ("convert", "ignore")
    assert earlier.to_dict() == data, "what is known by the spec, as embeddings are, stays known"
    assert ImageSpec.from_dict(json.loads(json.dumps(earlier.to_dict()))) == earlier
    assert ImageSpec.from_dict(data | {"colour_profile": "ignore"}) == earlier


def test_the_tokenizer_travels_as_a_file_of_its_own() -> None:
    data = json.loads(json.dumps(TEXT.to_dict()))
    assert "tokenizer_json" not in data
    assert TextSpec.from_dict(data, tokenizer_json=TEXT.tokenizer_json) == TEXT
    assert "version" not in repr(TEXT)


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
@pytest.mark.parametrize("threshold", [None, THRESHOLD])
@pytest.mark.parametrize("long_text", ["truncate", "chunk", "chunk-mean"])
def test_a_score_spec_survives_json(
    calibration: Calibration | None, threshold: Threshold | None, long_text: Any
) -> None:
    score = ScoreSpec("probability", 0.5, calibration, threshold, long_text)
    assert ScoreSpec.from_dict(json.loads(json.dumps(score.to_dict()))) == score
    assert score.threshold_in_use == (0.62 if threshold else 0.5)


def test_a_score_of_an_earlier_version_truncates_long_texts() -> None:
    data = {key: value for key, value in SCORE.items() if key != "long_text"}
    assert ScoreSpec.from_dict(data).long_text == "truncate"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda: ImageSpec.from_dict(IMAGE.to_dict() | {"gamma": 1}),
            "ImageSpec has unknown fields gamma; it was written by a newer mismatch: upgrade",
        ),
        (lambda: ImageSpec.from_dict({"size": 224}), "ImageSpec is incomplete"),
        (lambda: ImageSpec(size=0, mean=IMAGE.mean, std=IMAGE.std), "ImageSpec.size is 0"),
        (lambda: ImageSpec(size=8, resize=-1, mean=IMAGE.mean, std=IMAGE.std), "resize -1"),
        (lambda: ImageSpec(size=100_000, mean=IMAGE.mean, std=IMAGE.std), "pixels up to 8,192"),
        (
            lambda: ImageSpec(size=8, resize=100_000, mean=IMAGE.mean, std=IMAGE.std),
            "pixels up to 8,192",
        ),
        (
            lambda: TextSpec(context_length=10**9, pad_id=0, padding="context"),
            "tokens up to 65,536",
        ),
        (lambda: TextSpec(context_length=0, pad_id=0, padding="context"), "context_length is 0"),
        (
            lambda: ImageSpec.from_dict(IMAGE.to_dict() | {"mode": "stretch"}),
            "ImageSpec.mode is 'stretch'; one of shortest, longest, squash",
        ),
        (
            lambda: ImageSpec.from_dict(IMAGE.to_dict() | {"interpolation": "area"}),
            "ImageSpec.interpolation is 'area'",
        ),
        (
            lambda: ImageSpec.from_dict(IMAGE.to_dict() | {"crop_rounding": "ceil"}),
            "ImageSpec.crop_rounding is 'ceil'",
        ),
        (
            lambda: ImageSpec.from_dict(IMAGE.to_dict() | {"colour_profile": "srgb"}),
            "ImageSpec.colour_profile is 'srgb'; one of convert, ignore is needed",
        ),
        (lambda: ImageSpec.from_dict("none"), "ImageSpec is 'none'"),  # type: ignore[arg-type]
        (
            lambda: TextSpec.from_dict(TEXT.to_dict() | {"padding": "max"}),
            "TextSpec.padding is 'max'; one of longest, context",
        ),
        (
            lambda: TextSpec.from_dict(TEXT.to_dict() | {"cleaning": "lower"}),
            "TextSpec.cleaning is 'lower'",
        ),
        (
            lambda: ScoreSpec.from_dict(SCORE | {"margin": 1}),
            "ScoreSpec has unknown fields margin; it was written by a newer mismatch: upgrade",
        ),
        (
            lambda: ScoreSpec.from_dict(SCORE | {"kind": "distance"}),
            "ScoreSpec.kind is 'distance'; one of probability, cosine is needed",
        ),
        (
            lambda: ScoreSpec.from_dict(SCORE | {"long_text": "split"}),
            "ScoreSpec.long_text is 'split'; one of truncate, chunk, chunk-mean is needed",
        ),
        (lambda: ScoreSpec.from_dict({"kind": "cosine"}), "ScoreSpec is incomplete"),
        (
            lambda: ScoreSpec.from_dict(SCORE | {"calibration": {"slope": 1.0}}),
            "Calibration is incomplete",
        ),
        (
            lambda: HeadSpec(kind="cosine", image_dim=640, text_dim=512),
            "images are 640 wide and texts 512; use the adapter head",
        ),
        (
            lambda: HeadSpec(kind="zero-shot", image_dim=640, text_dim=512),
            "the zero-shot head needs equal widths",
        ),
    ],
)
def test_a_wrong_spec_is_refused_in_words(build: Any, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        build()
    assert reason in str(caught.value)


def test_the_shorter_side_is_the_size_unless_said() -> None:
    assert IMAGE.resize_to == 256
    assert ImageSpec(size=64, mean=IMAGE.mean, std=IMAGE.std).resize_to == 64


def test_specs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        IMAGE.size = 1  # type: ignore[misc]


BENT = Calibration(1.5, -0.25, 1406, "piecewise", knots=(-1.0, 0.5, 2.0), bent=(-2.0, 0.5, 1.0))


@pytest.mark.parametrize(
    "score",
    [
        ScoreSpec(
            "probability",
            0.5,
            BENT,
            THRESHOLD,
            review=ReviewBand(0.3, 0.7, 900, 0.05),
            earlier=(THRESHOLD, THRESHOLD),
        ),
        ScoreSpec("probability", 0.5, slices=SliceThresholds("language", {"de": 0.4}, {"de": 90})),
    ],
)
def test_a_score_with_everything_survives_json(score: ScoreSpec) -> None:
    assert ScoreSpec.from_dict(json.loads(json.dumps(score.to_dict()))) == score


def test_a_score_of_an_earlier_version_has_platt_and_nothing_else() -> None:
    old = {
        "kind": "probability",
        "default_threshold": 0.5,
        "calibration": {"slope": 1.5, "intercept": -0.25, "rows": 1406},
        "threshold": None,
    }
    assert ScoreSpec.from_dict(old) == ScoreSpec("probability", 0.5, CALIBRATION)
    assert CALIBRATION.kind == "platt"


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Calibration(0.0, 0.0, 9), "a platt calibration of slope 0.0"),
        (
            lambda: Calibration(1.0, 0.0, 9, "piecewise"),
            "a piecewise calibration of slope 1.0 has 0 knots and 0 values",
        ),
        (
            lambda: Calibration(1.0, 0.0, 9, "platt", (0.0, 1.0), (0.0, 1.0)),
            "a platt calibration of slope 1.0 has 2 knots",
        ),
        (lambda: Calibration(1.0, 0.0, 9, "piecewise", (0.0, 1.0), (1.0, 1.0)), "must rise"),
        (lambda: Calibration(1.0, 0.0, 9, "isotonic"), "Calibration.kind is 'isotonic'"),  # type: ignore[arg-type]
        (lambda: ReviewBand(0.7, 0.3), "a review band from 0.7 to 0.3 is none"),
        (
            lambda: ScoreSpec(
                "probability", 0.5, review=ReviewBand(0.3, 0.7), slices=SliceThresholds("a", {}, {})
            ),
            "don't go together",
        ),
    ],
)
def test_wrong_scores_are_refused(build: Any, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        build()
    assert reason in str(caught.value)


def test_a_new_threshold_remembers_the_old_one() -> None:
    plain = ScoreSpec("probability", 0.5)
    first = plain.with_threshold(THRESHOLD)
    assert (first.threshold, first.earlier) == (THRESHOLD, ())
    assert first.with_threshold(THRESHOLD).earlier == (THRESHOLD,)


def test_a_band_holds_its_low_end_only() -> None:
    band = ReviewBand(0.3, 0.7)
    assert [score in band for score in (0.29, 0.3, 0.5, 0.7)] == [False, True, True, False]


def test_a_band_on_one_side_of_the_threshold_decides_nothing_it_was_chosen_for() -> None:
    assert ReviewBand(0.3, 0.7).holds_threshold(0.3)
    assert ReviewBand(0.3, 0.7).holds_threshold(0.7)
    ReviewBand(0.5, 0.5).check_thresholds([0.5])
    for band in (ReviewBand(0.1, 0.3), ReviewBand(0.6, 0.7)):
        assert not band.holds_threshold(0.5)
        with pytest.raises(InputError, match=r"does not hold the threshold 0\.5000") as refusal:
            band.check_thresholds([0.65 if band.low == 0.6 else 0.2, 0.5])
        assert refusal.value.option == "review_band"
    with pytest.raises(InputError, match=r"`review` from 0\.1 to 0\.3") as refusal:
        ReviewBand(0.1, 0.3).check_thresholds([0.5], "review")
    assert refusal.value.option == "review"
