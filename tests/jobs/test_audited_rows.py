"""Which rows are ranked, and what is refused of the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import Row, read_rows
from mismatch.errors import InputError, LabelError
from mismatch.jobs.audited_rows import RowChoice
from mismatch.jobs.options import RowSource

TABLE = [
    ("image_path", "text", "label", "kind", "language"),
    ("a.png", "红色的包", "1", "match", "zh"),
    ("b.png", "赤いバッグ", "0", "random", "ja"),
    ("c.png", "حقيبة حمراء", "0", "hard", "ar"),
    ("d.png", "sac rouge", "1", "match", "fr"),
    ("e.png", "लाल बैग", "0", "", "hi"),
]


@pytest.fixture
def source(tmp_path: Path, write_rows: Any) -> RowSource:
    return RowSource("rows.csv", write_rows(tmp_path / "rows.csv", TABLE), "", Columns())


def rows_of(source: RowSource) -> list[Row]:
    return list(read_rows(source.path, require_label=True, columns=source.columns))


@pytest.mark.parametrize(
    ("only", "exclude_kind", "ranked"),
    [
        (None, (), "abcde"),
        ("label=1", (), "ad"),
        ("label=0", (), "bce"),
        (None, ("random",), "acde"),
        (None, ["random", "hard"], "ade"),
        ("label=0", ("hard",), "be"),
        ("language=ar", (), "c"),
        ("text=sac rouge", (), "d"),
        ("kind=hard", (), "c"),
    ],
)
def test_rows_that_are_ranked(
    source: RowSource, only: str | None, exclude_kind: Any, ranked: str
) -> None:
    rows = rows_of(source)
    choice = RowChoice(only, exclude_kind, None).check(source)
    choice.check_rows(rows, source)
    mask = choice.mask(rows, source)
    assert [row.image_path[0] for row, kept in zip(rows, mask, strict=True) if kept] == list(ranked)


def test_kinds_are_a_column_or_the_labels(
    source: RowSource, tmp_path: Path, write_rows: Any
) -> None:
    rows = rows_of(source)
    choice = RowChoice(None, (), None).check(source)
    assert choice.kinds(rows) == ["match", "random", "hard", "match", "mismatch"]
    by_language = RowChoice(None, (), "language").check(source)
    assert by_language.kinds(rows) == ["zh", "ja", "ar", "fr", "hi"]
    plain = write_rows(tmp_path / "plain.csv", [row[:3] for row in TABLE])
    bare = RowSource("plain.csv", plain, "", Columns())
    assert RowChoice(None, (), None).check(bare).kinds(rows_of(bare)) == [
        "match",
        "mismatch",
        "mismatch",
        "match",
        "mismatch",
    ]


def test_labels_have_the_names_of_the_map(tmp_path: Path, write_rows: Any) -> None:
    table = [("image_path", "text", "label"), ("a.png", "red", "good"), ("b.png", "red", "bad")]
    path = write_rows(tmp_path / "rows.csv", table)
    source = RowSource("rows.csv", path, "", Columns(label_map="good=1,bad=0"))
    rows = rows_of(source)
    assert RowChoice("label=good", (), None).mask(rows, source).tolist() == [True, False]
    with pytest.raises(LabelError):
        RowChoice("label=perhaps", (), None).mask(rows, source)


@pytest.mark.parametrize(
    ("only", "exclude_kind", "kind_column", "words"),
    [
        ("label", (), None, "COLUMN=VALUE is needed, as label=1"),
        ("=1", (), None, "COLUMN=VALUE is needed"),
        ("brand=x", (), None, "no column 'brand'; found 'image_path'"),
        (None, (), "sort", "no column 'sort'"),
        (None, ("hards",), None, "no row is of 'hards', .*did you mean 'hard'"),
        ("language=de", (), None, "`only` leaves no row to rank"),
        ("kind=hard", ("hard",), None, "`only` and `exclude_kind` leaves no row"),
        (None, "hard", None, "a list of kinds is needed"),
    ],
)
def test_what_can_not_be_chosen_is_refused(
    source: RowSource, only: str | None, exclude_kind: Any, kind_column: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        RowChoice(only, exclude_kind, kind_column).check(source).check_rows(rows_of(source), source)


def test_kinds_need_a_column(tmp_path: Path, write_rows: Any) -> None:
    path = write_rows(tmp_path / "plain.csv", [row[:3] for row in TABLE])
    with pytest.raises(InputError, match="`kind_column` names another"):
        RowChoice(None, ("hard",), None).check(RowSource("plain.csv", path, "", Columns()))
