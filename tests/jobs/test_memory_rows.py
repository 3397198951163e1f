"""mismatch.jobs.memory_rows: rows come back as they were given, whatever holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.jobs.memory_rows import in_memory, keep_rows, pick_rows

ROWS = [{"image_path": f"{number}.png", "text": f"text {number}"} for number in range(4)]
PICKED = [ROWS[3], ROWS[1], ROWS[1]]


def table(kind: str) -> Any:
    if kind == "datasets":
        return pytest.importorskip("datasets").Dataset.from_list(ROWS)
    if kind == "pyarrow":
        return pytest.importorskip("pyarrow").Table.from_pylist(ROWS)
    return pytest.importorskip(kind).DataFrame(ROWS)


def mappings(rows: Any) -> list[dict[str, str]]:
    if hasattr(rows, "to_pylist"):
        return list(rows.to_pylist())
    if hasattr(rows, "to_dicts"):
        return list(rows.to_dicts())
    return list(rows.to_dict("records")) if hasattr(rows, "iloc") else [dict(row) for row in rows]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "datasets"])
def test_a_table_stays_one(kind: str) -> None:
    rows = table(kind)
    assert keep_rows(rows) is rows
    picked = pick_rows(rows, [3, 1, 1])
    assert type(picked) is type(rows)
    assert mappings(picked) == PICKED


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "datasets"])
def test_columns_are_added_or_replaced(kind: str) -> None:
    rows = table(kind)
    picked = pick_rows(rows, [2, 2], {"text": ["a", "b"], "label": [1, 0]})
    expected = [
        {"image_path": "2.png", "text": "a", "label": 1},
        {"image_path": "2.png", "text": "b", "label": 0},
    ]
    assert mappings(picked) == expected
    assert mappings(rows) == ROWS


def test_a_generator_may_fill_one_mapping_again() -> None:
    def filled() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {}
        for given in ROWS:
            row.update(given)
            yield row

    assert keep_rows(filled()) == ROWS


def test_an_iterable_is_kept_as_a_list_and_a_path_as_it_is() -> None:
    kept = keep_rows(iter(ROWS))
    assert kept == ROWS
    assert pick_rows(kept, [3, 1, 1]) == PICKED
    assert keep_rows("rows.csv") == "rows.csv"
    assert in_memory(ROWS)
    assert not in_memory(Path("rows.csv"))
    with pytest.raises(InputError, match="the rows are an int"):
        keep_rows(3)
