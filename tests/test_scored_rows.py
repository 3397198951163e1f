"""mismatch.jobs.scored_rows: a row of several images has the prediction of the one that decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.rows import Row
from mismatch.jobs.scored_rows import predict_rows
from mismatch.runtime.predictor import Predictor

ROWS = [
    ("red.png; blue.png", "red"),
    ("red.png", "red"),
    ("blue.png;green.png", "red"),
    ("blue.png;blue.png;red.png", "blue"),
]


@pytest.fixture
def found(colour_engine: Any, colour_images: Path) -> Any:
    """Score rows of ROWS' shape in one mode."""

    def score(rows: Any, mode: Any) -> Any:
        given = [
            Row(i, *row, None, {}, "the text is empty" if not row[1] else None)
            for i, row in enumerate(rows)
        ]
        predictor = Predictor(colour_engine(), workers=1)
        return list(
            predict_rows(predictor, iter(given), str(colour_images), Columns(multi_image=mode))
        )

    return score


@pytest.mark.parametrize(
    ("mode", "matches"), [("best", [True, True, False, True]), ("all", [False, True, False, False])]
)
def test_the_best_or_the_worst_decides(found: Any, mode: str, matches: list[bool]) -> None:
    results = found(ROWS, mode)
    assert [row.line for row, _ in results] == [0, 1, 2, 3]
    assert [said.is_match for _, said in results] == matches
    assert [said.image_path for _, said in results[2:]] == [image for image, _ in ROWS[2:]]
    alone = {
        image: found([(image, "red")], None)[0][1].similarity_score
        for image in ("red.png", "blue.png")
    }
    assert results[0][1].similarity_score == alone["red.png" if mode == "best" else "blue.png"]


@pytest.mark.parametrize("mode", ["best", "all"])
def test_one_image_that_can_not_be_read_is_named(found: Any, mode: str) -> None:
    (_, bad), (_, good), (_, empty) = found(
        [("red.png;gone.png;cut.jpg", "red"), ("red.png", "red"), ("red.png;blue.png", "")], mode
    )
    assert (bad.image_path, bad.prediction, bad.similarity_score) == (
        "red.png;gone.png;cut.jpg",
        "error",
        None,
    )
    assert "/gone.png' not found" in bad.status
    assert good.status == "ok"
    assert (empty.image_path, empty.status) == ("red.png;blue.png", "the text is empty")


def test_without_a_mode_a_row_has_one_image(found: Any) -> None:
    [(_, said)] = found([("red.png;blue.png", "red")], None)
    assert "/red.png;blue.png' not found" in said.status
