"""Rows as pairs: what is an image, whose pixels it has, and what is wrong with a row."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.data.columns import Columns
from mismatch.data.rows import Row
from mismatch.errors import ImageError, InputError
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.row_pairs import (
    Pair,
    PairReader,
    image_name,
    image_source,
    locator,
    rows_of,
    text_problem,
)

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


def reader(**options: Any) -> PairReader:
    return PairReader(locator("", None), **options)


@pytest.mark.parametrize("value", [3, True, 1.5, None, np.int64(3), ["a.png"], object()])
def test_what_is_no_image_is_an_error_of_its_row(value: Any) -> None:
    [pair] = reader().pairs({"image": value, "text": "red"}, 1)
    assert type(value).__name__ in (pair.problem or "")
    with pytest.raises(ImageError, match=type(value).__name__):
        image_source(value)


def test_pixels_are_copied_where_they_may_change() -> None:
    for image in (RED.copy(), Image.fromarray(RED)):
        [copied] = reader().pairs({"image": image, "text": "red"}, 1)
        [same] = reader(copy=False).pairs({"image": image, "text": "red"}, 1)
        assert same.image is image
        assert copied.image is not image
        np.testing.assert_array_equal(np.asarray(copied.image), RED)


def test_a_damaged_picture_is_an_error_of_its_row(colour_images: Path) -> None:
    with Image.open(colour_images / "cut.jpg") as image:
        [pair] = reader().pairs({"image": image, "text": "red"}, 1)
    assert "damaged" in (pair.problem or "")


def test_a_generator_may_use_its_array_again(colour_engine: Any) -> None:
    buffer = RED.copy()

    def frames() -> Iterator[dict[str, Any]]:
        for channel in (0, 1, 2):
            buffer[:] = 0
            buffer[..., channel] = 255
            yield {"image": buffer, "text": ("red", "green", "blue")[channel]}

    for live in (True, False):
        found = Predictor(colour_engine()).predict_pairs(frames(), live=live)
        assert [one.is_match for one in found] == [True] * 3


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_live_source_may_write_its_file_again(
    keep_time: bool, colour_engine: Any, tmp_path: Path
) -> None:
    """As a camera does, once it has the answer for the frame before; and as a copy that keeps its
    times.
    """
    frame = tmp_path / "frame.bmp"  # of one size in any colour
    answered = threading.Semaphore(1)

    def frames() -> Iterator[dict[str, Any]]:
        for colour in ("red", "green", "blue"):
            assert answered.acquire(timeout=20)
            Image.new("RGB", (16, 16), colour).save(frame)
            if keep_time:
                os.utime(frame, (1_700_000_000, 1_700_000_000))
            yield {"image": frame, "text": colour}

    found = []
    for one in Predictor(colour_engine()).predict_pairs(frames(), live=True):
        found.append(one.is_match)
        answered.release()
    assert found == [True] * 3


def test_a_row_of_csv_with_more_fields_than_columns_is_not_scored_cut(
    colour_engine: Any, colour_images: Path
) -> None:
    lines = ["image_path,text", "red.png,red", "red.png,red square, not green"]
    rows = csv.DictReader(lines)
    found = list(Predictor(colour_engine()).predict_pairs(rows, image_base_path=colour_images))
    assert [one.prediction for one in found] == ["match", "error"]
    assert "more fields than there are columns" in found[1].status


def test_every_kind_of_image_is_scored(colour_engine: Any, colour_images: Path) -> None:
    path = colour_images / "red.png"
    data = path.read_bytes()
    with path.open("rb") as file:
        kinds = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        kinds += [{"bytes": data, "path": None}, {"bytes": None, "path": str(path)}, RED]
        rows = [{"image": kind, "text": "red"} for kind in kinds]
        found = list(Predictor(colour_engine()).predict_pairs(rows))
    assert [one.status for one in found] == ["ok"] * len(kinds)
    assert all(one.is_match for one in found)


def test_of_two_images_in_a_row_the_same_one_counts_everywhere(
    colour_engine: Any, colour_images: Path, tmp_path: Path
) -> None:
    """`image` counts where a row has no `image_path`, as in a file, where it is any column."""
    pandas = pytest.importorskip("pandas")
    green = (colour_images / "green.png").read_bytes()
    paths = [str(colour_images / "red.png"), None]
    rows = [{"image": green, "image_path": path, "text": "red"} for path in paths]
    predictor = Predictor(colour_engine())
    mismatch.predict_file(predictor, rows, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    found = {
        "predict_pairs": [row.prediction for row in predictor.predict_pairs(rows)],
        "predict_frame": [*predictor.predict_frame(pandas.DataFrame(rows))["prediction"]],
        "predict_file": [json.loads(line)["prediction"] for line in lines],
    }
    assert found == {name: ["match", "error"] for name in found}


def test_a_frame_holds_every_kind_of_image(colour_engine: Any, colour_images: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = colour_images / "red.png"
    data = path.read_bytes()
    with Image.open(path) as picture:
        kinds: list[Any] = [path, str(path), data, io.BytesIO(data), picture, RED, {"bytes": data}]
        for name in ("image_path", "image", "photo"):
            frame = pandas.DataFrame({name: pandas.Series(kinds, dtype=object), "text": "red"})
            frame["image_path" if name == "photo" else "other"] = "nowhere.png"
            found = Predictor(colour_engine()).predict_frame(
                frame, image_column="photo" if name == "photo" else "image_path"
            )
            assert list(found["status"]) == ["ok"] * len(kinds)


def test_half_a_character_in_a_text_is_an_error_of_its_row_everywhere(
    colour_engine: Any, colour_images: Path, tmp_path: Path
) -> None:
    path = str(colour_images / "red.png")
    rows = [{"image_path": path, "text": text} for text in ("red \udc00", "red")]
    predictor = Predictor(colour_engine())
    mismatch.predict_file(predictor, rows, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    for found in (
        [row.status for row in predictor.predict_pairs(rows)],
        [json.loads(line)["status"] for line in lines],
    ):
        assert found[0].startswith("half of a character"), found
        assert found[1] == "ok"
    with pytest.raises(InputError, match="half of a character"):
        predictor.predict(path, "\ud800")


def test_a_column_called_problem_is_a_column() -> None:
    [pair] = reader().pairs({"image_path": "a.png", "text": "red", "problem": float("nan")}, 1)
    assert pair.problem is None


def test_a_row_of_a_file_keeps_its_problem_and_its_slice() -> None:
    row = Row(2, "a.png", "red", None, {"kind": "bag"}, "5 fields where the header has 3")
    [pair] = reader(slice_column="kind").pairs(row, 1)
    assert (pair.problem, pair.slice_value) == ("5 fields where the header has 3", "bag")


def test_a_row_may_have_several_images_or_none() -> None:
    columns = Columns(multi_image="best")
    several = reader(columns=columns).pairs(Row(2, "a.png; b.png", "red", None, {}), 1)
    assert [pair.name for pair in several] == ["a.png", "b.png"]
    [none] = reader(columns=columns).pairs(Row(3, " ; ", "red", None, {}), 2)
    assert none.problem == "the image_path is empty"


def test_a_pair_is_taken_as_it_is() -> None:
    pair = Pair("a.png", "red", "why", "a.png", "bag")
    assert reader().pairs(pair, 1) == [pair]


@pytest.mark.parametrize("rows", ["a.csv", b"a", {"image": 1}, 3, None])
def test_what_holds_no_rows_is_refused(rows: Any) -> None:
    with pytest.raises(InputError, match=type(rows).__name__):
        rows_of(rows)


def test_a_row_that_is_none_is_named_by_its_number() -> None:
    with pytest.raises(InputError, match="row 3 is a NoneType"):
        reader().pairs(None, 3)


def test_texts_and_names() -> None:
    assert text_problem("red") is None
    assert "NUL" in (text_problem("re\0d") or "")
    assert text_problem(3) == "the text is 3, not a string"
    assert (image_name(Path("a.png")), image_name(b"png")) == ("a.png", "")
