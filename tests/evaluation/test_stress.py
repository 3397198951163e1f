"""Stress on an engine that knows colours only: what it must notice and what can't move it is known
exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mismatch.errors import InputError
from mismatch.evaluation.intervals import wilson_interval
from mismatch.evaluation.stress import CEILING, CHANGES, IMAGE_EDITS, StressRow, Z, stress
from mismatch.runtime.pipeline import EmbeddingMemo
from mismatch.runtime.predictor import Predictor


@pytest.fixture
def rows(colour_images: Path) -> list[StressRow]:
    return [
        StressRow(str(colour_images / f"{name}.png"), f"{name} shirt", 0.5, "", name)
        for name in ("red", "green", "blue")
    ] * 4


@pytest.fixture
def found(rows: list[StressRow], colour_engine: Any) -> dict[str, dict[str, Any]]:
    return {one["change"]: one for one in stress(Predictor(colour_engine()), rows, resamples=100)}


def test_every_change_is_reported_in_order(found: dict[str, dict[str, Any]]) -> None:
    assert list(found) == [change.name for change in CHANGES]
    assert {one["part"] for one in found.values()} == {"text", "image"}
    assert len(CEILING) >= 4


def test_what_the_engine_sees_changes_its_decision_and_what_it_does_not_see_does_not(
    found: dict[str, dict[str, Any]],
) -> None:
    assert (found["colour"]["rows"], found["colour"]["decided"]) == (12, 12)
    assert found["colour"]["right"] == 1.0  # any other word for a colour is far from the image's
    assert found["colour"]["mean_change"] < -0.2
    assert found["article"]["right"] == 0.0  # articles are beyond it
    assert found["article"]["mean_change"] == 0.0
    assert found["negation"]["right"] == 0.0
    for name in ("word order", "mirror", "crop"):
        assert found[name]["right"] == 1.0
        assert found[name]["mean_change"] == pytest.approx(0, abs=1e-6)
        assert found[name]["right_interval"] == list(wilson_interval(1.0, 3, Z))  # three images


def test_a_change_without_occasion_has_no_figures(found: dict[str, dict[str, Any]]) -> None:
    for name in ("material", "gender", "count"):
        assert (found[name]["rows"], found[name]["decided"]) == (0, 0)
        assert np.isnan(found[name]["right"])


def test_rows_that_were_no_matches_before_do_not_count_as_right(
    rows: list[StressRow], colour_engine: Any
) -> None:
    wrong = [row._replace(text="red shirt") for row in rows]  # right for a third
    [colour] = [
        one
        for one in stress(Predictor(colour_engine()), wrong, resamples=50)
        if one["change"] == "colour"
    ]
    assert (colour["rows"], colour["decided"], colour["right"]) == (12, 4, 1.0)


def test_the_same_seed_gives_the_same_figures_and_images_are_encoded_once_for_texts(
    rows: list[StressRow], colour_engine: Any
) -> None:
    engine = colour_engine()
    known = EmbeddingMemo.empty()
    first = stress(Predictor(engine), rows, seed=4, memo=known, resamples=50)
    assert repr(stress(Predictor(colour_engine()), rows, seed=4, resamples=50)) == repr(first)
    assert sum(engine.image_batches) == 3 + len(IMAGE_EDITS) * 12 - (
        12 - next(one["rows"] for one in first if one["change"] == "other title printed")
    )


def test_a_brand_of_its_column_is_removed(rows: list[StressRow], colour_engine: Any) -> None:
    branded = [row._replace(brand="red") for row in rows]
    [one] = [
        one
        for one in stress(Predictor(colour_engine()), branded, resamples=50)
        if one["change"] == "brand removed"
    ]
    assert (one["rows"], one["right"]) == (4, 0.0)  # its brand is all that this engine reads


@pytest.mark.parametrize("name", IMAGE_EDITS)
def test_an_image_edit_changes_pixels_and_leaves_the_image_alone(name: str) -> None:
    image = Image.effect_noise((90, 60), 90).convert("RGB")
    before = image.tobytes()
    changed = IMAGE_EDITS[name](image, "Puma Men Black Tshirt")
    assert changed is not None
    assert changed.mode == "RGB"
    assert changed.size == ((72, 48) if name == "crop" else (90, 60))
    assert image.tobytes() == before
    assert changed.tobytes() != before


def test_a_title_is_printed_as_large_as_the_image_allows_and_only_in_letters_that_the_font_has() -> (
    None
):
    blank = Image.new("RGB", (200, 100), (255, 0, 0))
    short, long = (
        np.asarray(IMAGE_EDITS["own title printed"](blank, text))
        for text in ("bag", "a very long title of a red bag " * 3)
    )
    assert (short[:, :, 1] > 0).any(axis=1).sum() > (long[:, :, 1] > 0).any(axis=1).sum() > 5
    assert IMAGE_EDITS["own title printed"](blank, "赤いシャツ") is None
    IMAGE_EDITS["own title printed"](Image.new("RGB", (1, 1)), "tiny")


def test_without_rows_there_is_nothing_to_stress(colour_engine: Any) -> None:
    with pytest.raises(InputError, match="no matched rows"):
        stress(Predictor(colour_engine()), [])
