"""mismatch.data.readers.csv_blanks: blanks belong to a text, unless it is quoted behind them."""

from __future__ import annotations

import csv

import pytest

from mismatch.data.readers.csv_blanks import blanks_kept, unquoted


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("a,b", ["a", "b"]),
        ("a, b,  c", ["a", " b", "  c"]),
        (' a,"b"', [" a", "b"]),
        ('a, "b, c"', ["a", "b, c"]),
        ('a,  b," ""c"""', ["a", "  b", ' "c"']),
        ('a, b,"""c"", ""d"', ["a", " b", '"c", "d']),
        ("a;  b", ["a;  b"]),
    ],
)
def test_blanks_are_kept_where_no_quotes_stand_behind_them(line: str, kept: list[str]) -> None:
    for end in ("\n", "\r\n", ""):
        [fields] = csv.reader([line + end], strict=True, skipinitialspace=True)
        assert blanks_kept(fields, [line + end], ",") == kept


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ('a, "Best" shirt,1', ["a", ' "Best" shirt', "1"]),
        ('a, "Red" ,1', []),
        ('a,"b', []),
    ],
)
def test_a_quote_that_ends_no_text_is_part_of_it(line: str, values: list[str]) -> None:
    assert unquoted([line], ",") == values
