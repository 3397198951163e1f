"""mismatch.jobs.output.tables: one prediction, three formats, the same columns."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import MissingExtraError
from mismatch.jobs.output import tables as module
from mismatch.jobs.output.tables import COLUMNS, CsvTable, JsonLinesTable, ParquetTable
from mismatch.jobs.row_tables import harmless, table_kind
from mismatch.runtime.predictor import Prediction

SCORE = 0.1 + 0.2  # more digits than CSV shows
GOOD = Prediction("a.jpg", 'Größe "42",\r\nrot\u2028', SCORE, 0.25, True, "match", "ok", 1.0)
BAD = Prediction("b.jpg", "", None, 0.25, None, "error", "the text is empty")
VALUES = [
    ("a.jpg", GOOD.text, SCORE, 0.25, True, "match", "ok", "007"),
    ("b.jpg", "", None, 0.25, None, "error", "the text is empty", ""),
]


def filled(table: Any) -> None:
    table.begin()
    table.add(GOOD, ["007"])
    table.add(BAD, [""])
    table.end()


def test_csv() -> None:
    file = io.StringIO(newline="")
    filled(CsvTable(file, ["sku"]))
    header, good, bad = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert header == [*COLUMNS, "sku"]
    assert good == ["a.jpg", GOOD.text, "0.3", "0.25", "True", "match", "ok", "007"]
    assert bad == ["b.jpg", "", "", "0.25", "", "error", "the text is empty", ""]


def test_json_lines() -> None:
    file = io.StringIO(newline="")
    filled(JsonLinesTable(file, ["sku"]))
    lines = file.getvalue().split("\n")
    assert lines.pop() == ""
    assert [tuple(json.loads(line).values()) for line in lines] == VALUES
    assert list(json.loads(lines[0])) == [*COLUMNS, "sku"]
    assert "Größe" in lines[0]


@pytest.mark.parametrize(("rows", "groups"), [(65_536, 1), (1, 2)])
def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, groups: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "GROUP_ROWS", rows)
    with (tmp_path / "out.parquet").open("wb") as file:
        filled(ParquetTable(file, ["sku"]))
    with parquet.ParquetFile(tmp_path / "out.parquet") as found:
        assert found.num_row_groups == groups
        table = found.read()
    assert [tuple(row.values()) for row in table.to_pylist()] == VALUES
    assert table.column_names == [*COLUMNS, "sku"]
    assert [str(kind) for kind in table.schema.types] == [
        "string",
        "string",
        "double",
        "double",
        "bool",
        "string",
        "string",
        "string",
    ]


def test_a_parquet_without_rows_has_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with (tmp_path / "out.parquet").open("wb") as file:
        table = ParquetTable(file, [])
        table.begin()
        table.end()
    assert parquet.read_table(tmp_path / "out.parquet").column_names == list(COLUMNS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("-", "csv"),
        ("a.csv", "csv"),
        ("a", "csv"),
        ("a.tsv", "tsv"),
        ("a.JSONL", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("x.y/a.jsonl", "jsonl"),
    ],
)
def test_the_name_decides(name: str, kind: str) -> None:
    assert table_kind(name) == kind


def test_without_pyarrow_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError,
        match=r'an output that ends in .parquet needs .* pip install "mismatch-clip\[parquet\]"',
    ):
        table_kind("out.parquet")


@pytest.mark.parametrize(
    "cell",
    [
        '=HYPERLINK("http://a.test","x")',
        "=1+1",
        "+49 30 1234",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1+1",
        "-",
        "+",
        "-1e",
        "=-5",
    ],
)
def test_a_formula_is_put_behind_an_apostrophe_where_that_is_asked_for(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"
    file = io.StringIO(newline="")
    table = CsvTable(file, [cell], safe=True)
    table.begin()
    table.add(Prediction(cell, cell, -0.25, -0.5, True, "match", "ok"), [cell])
    header, row = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert header[-1] == f"'{cell}"
    assert row == [f"'{cell}", f"'{cell}", "-0.25", "-0.5", "True", "match", "ok", f"'{cell}"]


@pytest.mark.parametrize(
    "cell", ["", "red", "a=b", "-5", "+3.5", "-0.25", "1e-9", "-1.5E+3", "'=1", "007", "Größe -5"]
)
def test_everything_else_stays(cell: str) -> None:
    assert harmless(cell) == cell
