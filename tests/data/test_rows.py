"""mismatch.data.rows: columns by other names, in every format alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import (
    load_pairs,
    one_image_each,
    read_header,
    read_rows,
    scan_rows,
    source_digest,
)
from mismatch.data.rows import Row, as_text
from mismatch.errors import InputError

HEADER = ("photo", "caption", "verdict", "image_path")
RECORDS = [
    ("a.jpg", "red, blue", "match", "old"),
    ("b.jpg;c.jpg", "été\tnu", "MISMATCH", ""),
    ("../d.jpg", "grün", "match", "x"),
    ("e.jpg", " ", "no", "y"),
]
COLUMNS = Columns("photo", "caption", "verdict", "match/mismatch", "all", "data")


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet"])
def saved(request: pytest.FixtureRequest, tmp_path: Path, write_rows: Any) -> Path:
    """The same rows in each format."""
    path = tmp_path / f"rows.{request.param}"
    if request.param == "csv":
        return write_rows(path, [HEADER, *RECORDS])  # type: ignore[no-any-return]
    if request.param == "tsv":
        path.write_text(
            "\n".join("\t".join(f'"{value}"' for value in values) for values in (HEADER, *RECORDS))
        )
    elif request.param == "jsonl":
        path.write_text(
            "\n".join(json.dumps(dict(zip(HEADER, values, strict=True))) for values in RECORDS)
        )
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(
            pa.table(dict(zip(HEADER, map(list, zip(*RECORDS, strict=True)), strict=True))), path
        )
    return path


def test_every_format_gives_the_same_rows(saved: Path) -> None:
    assert read_header(saved, require_label=True, columns=COLUMNS) == [
        "image_path",
        "text",
        "label",
        "input_image_path",
    ]
    rows = list(read_rows(saved, require_label=True, columns=COLUMNS))
    first = 2 if saved.suffix in (".csv", ".tsv") else 1
    assert [row.line for row in rows] == list(range(first, first + 4))
    assert [row[1:4] for row in rows] == [
        ("a.jpg", "red, blue", 1),
        ("b.jpg;c.jpg", "été\tnu", 0),
        ("../d.jpg", "grün", 1),
        ("e.jpg", " ", None),
    ]
    assert [row.columns["label"] for row in rows] == ["1", "0", "1", "no"]
    assert rows[0].columns == {
        "image_path": "a.jpg",
        "text": "red, blue",
        "label": "1",
        "input_image_path": "old",
    }
    assert [row.problem for row in rows] == [
        *(
            None,
            None,
            (
                "image '../d.jpg' leaves the image base path data; allow outside images if it may"
                " lie elsewhere"
            ),
        ),
        "the text is empty; label 'no' is none of 0, 1, match, mismatch",
    ]
    assert list(scan_rows(saved, lambda line, message: pytest.fail(message), COLUMNS)) == rows


def test_a_label_map_holds_where_no_label_is_needed(saved: Path) -> None:
    rows = list(read_rows(saved, require_label=False, columns=COLUMNS))
    assert [(row.label, row.columns["label"]) for row in rows] == [
        (None, "1"),
        (None, "0"),
        (None, "1"),
        (None, "no"),
    ]


def test_a_missing_column_names_its_option_and_the_near_one(saved: Path) -> None:
    for columns, words in (
        (
            Columns(),
            ("column 'label' is missing; found 'photo', 'caption', 'verdict', 'image_path'"),
        ),
        (
            Columns("photo", "captoin", "verdict"),
            (
                r"column 'captoin' \(`text_column`\) is missing; .*rename 'caption' to 'captoin',"
                r" or pass `text_column='caption'`"
            ),
        ),
    ):
        for read in (read_header, lambda path, **options: list(read_rows(path, **options))):
            with pytest.raises(InputError, match=words):
                read(saved, require_label=True, columns=columns)
    said: list[tuple[int, str]] = []
    assert (
        len(
            list(
                scan_rows(
                    saved,
                    lambda line, message: said.append((line, message)),
                    Columns("photo", "text", "verdict", "match/mismatch"),
                )
            )
        )
        == 4
    )
    assert said == [], "caption is taken for the text"


def test_the_digest_is_of_the_file_and_how_it_is_read(saved: Path) -> None:
    digests = [
        source_digest(saved, columns)
        for columns in (Columns(), COLUMNS, Columns("photo", "caption"))
    ]
    assert len(set(digests)) == 3
    assert source_digest(saved, Columns(inside="data")) == digests[0]
    saved.write_bytes(saved.read_bytes() + b"\n")
    assert source_digest(saved) not in digests


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, ""),
        (1, "1"),
        (True, "true"),
        (1.5, "1.5"),
        (["a", "b"], "a;b"),
        ([1], "[1]"),
        ({"é": []}, '{"é": []}'),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("mode", "label", "images", "found"),
    [
        ("all", 1, "a;b", [("a", 1), ("b", 1)]),
        ("best", 0, "a;b", [("a", 0), ("b", 0)]),
        ("all", 0, "a;b", [("a;b", None)]),
        ("best", 1, "a;b", [("a;b", None)]),
        ("all", None, "a;b", [("a", None), ("b", None)]),
        ("all", 0, " a ;", [("a", 0)]),
        (None, 0, "a;b", [("a;b", 0)]),
    ],
)
def test_a_row_of_several_images_as_rows_of_one(
    mode: Any, label: int | None, images: str, found: list[tuple[str, int | None]]
) -> None:
    rows = list(one_image_each(Row(2, images, "t", label, {}), Columns(multi_image=mode)))
    assert [(row.image_path, row.label) for row in rows] == found
    ambiguous = len(rows) == 1 and label is not None and rows[0].label is None
    assert [bool(row.problem) for row in rows] == [ambiguous] * len(rows)


def test_load_pairs_refuses_a_label_that_holds_for_one_of_several_images(
    tmp_path: Path, write_rows: Any
) -> None:
    path = write_rows(
        tmp_path / "t.csv", [("image_path", "text", "label"), ("a;b", "x", 1), ("c;d;e", "y", 0)]
    )
    with pytest.raises(
        InputError,
        match=(
            r"t.csv:3: label 0 of 3 images does not say which one doesn't match .*; give each image"
            r" a row of its own"
        ),
    ):
        load_pairs(path, columns=Columns(multi_image="all"))
    assert len(load_pairs(path, columns=Columns())) == 2
