"""mismatch.jobs.prediction_rows: rows of a table or a folder, all of them or a shard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.jobs.options import RowSettings
from mismatch.jobs.prediction_rows import Shard, all_rows_failed, open_prediction_rows


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shards_together_are_all_rows_once(count: int) -> None:
    rows = [Row(n, f"{n}.png", "red", None, {}, None) for n in range(20)]
    shards = [list(Shard(number, count).of(iter(rows))) for number in range(1, count + 1)]
    assert sorted((row for shard in shards for row in shard), key=lambda row: row.line) == rows
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert [row.line for row in shards[0][:2]] == [0, count][: len(shards[0])]


@pytest.mark.parametrize(
    "value",
    [
        "0/4",
        "5/4",
        "1",
        "1/",
        "/4",
        "1/0",
        "-1/4",
        "a/b",
        "1/4/2",
        "1.0/4",
        "",
        " 1/4",
        "1/4\n",
        "1/9999999999",
    ],
)
def test_what_is_no_shard_is_refused(value: str) -> None:
    assert str(Shard.parse("2/4")) == "2/4"
    with pytest.raises(InputError, match="is not a shard; write I/N with I from 1 to N, as in 2/4"):
        Shard.parse(value)


def test_rows_of_a_table_and_of_a_folder(colour_images: Path, write_rows: Any) -> None:
    path = write_rows(colour_images / "rows.csv", [("image_path", "text"), ("red.png", "red")])
    with open_prediction_rows(path, None, None, RowSettings(), whole_header=True) as source:
        assert (source.name, source.files, source.base) == (str(path), (path,), "")
        assert [row.text for row in source.read()] == [row.text for row in source.read()] == ["red"]
        assert len(source.digest()) == 64
        assert source.notes() == []
    (colour_images / "red.txt").write_text("a red square")
    with open_prediction_rows(
        None, colour_images, None, RowSettings(), whole_header=False
    ) as source:
        rows = list(source.read())
        assert [(row.image_path, row.text) for row in rows] == [("red.png", "a red square")]
        assert source.columns.inside == source.base == str(colour_images)
        assert "5 images have no title" in source.notes()[0]
    assert "mismatch validate" in str(all_rows_failed(source, 1))


@pytest.mark.parametrize(
    ("rows", "images", "titles", "options", "words"),
    [
        (None, None, None, {}, "give either `rows` or `images`"),
        ([], ".", None, {}, "give either `rows` or `images`"),
        ([], None, "t.csv", {}, "`titles` goes with `images`"),
        (None, ".", None, {"image_base_path": "x"}, "`image_base_path` goes with `rows`"),
        (None, ".", None, {"text_column": "t", "multi_image": "all"}, "`text_column`, `multi_im"),
        (None, "gone", None, {}, "gone is not a folder; `images` needs"),
    ],
)
def test_what_does_not_go_together_is_refused(
    rows: Any, images: Any, titles: Any, options: dict[str, Any], words: str
) -> None:
    with (
        pytest.raises(InputError, match=words),
        open_prediction_rows(rows, images, titles, RowSettings.of(options), whole_header=False),
    ):
        pytest.fail("never reached")
