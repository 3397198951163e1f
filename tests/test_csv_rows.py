"""mismatch.data.csv_rows: what TSV adds; CSV itself is in test_pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.pairs import read_rows, scan_rows
from mismatch.errors import InputError

HEAD = "image_path\ttext\tlabel\n"


@pytest.mark.parametrize("name", ["rows.tsv", "ROWS.TSV", "rows.tab"])
def test_fields_are_separated_by_tabs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HEAD + 'a.jpg\tred, 5" wide; "new"\t1\n\nb.jpg\t"two\nlines\tand a tab"\t0\n')
    rows = list(read_rows(tmp_path / name, require_label=True))
    assert [row[:4] for row in rows] == [(2, "a.jpg", 'red, 5" wide; "new"', 1), (4, "b.jpg", "two\nlines\tand a tab", 0)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD + 'a.jpg\tred\t1\nb.jpg\t"blue\t1\nc.jpg\tgreen\t0\n', ":3: a double quote opens here and never closes"),
        ("image_path,text,label\na.jpg,red,1\n", "the columns are separated by ',': name the file .csv"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "rows.tsv").write_text(content)
    with pytest.raises(InputError, match=words):
        list(read_rows(tmp_path / "rows.tsv", require_label=True))


def test_a_csv_of_tabs_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(HEAD)
    with pytest.raises(InputError, match=r"save the file with commas, or name it \.tsv"):
        list(read_rows(tmp_path / "rows.csv", require_label=True))


def test_a_row_of_another_width_speaks_of_tabs(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(HEAD + "a.jpg\tred\tblue\t1\nb.jpg\tred\n")
    wide, narrow = scan_rows(tmp_path / "rows.tsv", lambda line, message: pytest.fail(message))
    assert wide.problem == "4 fields where the header has 3; put a text that holds tabs in double quotes"
    assert narrow.problem == "2 fields where the header has 3; a tab or a closing quote is missing"
