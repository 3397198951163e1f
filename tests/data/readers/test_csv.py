"""mismatch.data.readers.csv: what TSV adds; CSV itself is in test_pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.pairs import read_header, read_rows, scan_rows
from mismatch.data.readers import csv as csv_rows
from mismatch.errors import InputError

HEAD = "image_path\ttext\tlabel\n"


@pytest.mark.parametrize("name", ["rows.tsv", "ROWS.TSV", "rows.tab"])
def test_fields_are_separated_by_tabs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        HEAD + 'a.jpg\tred, 5" wide; "new"\t1\n\nb.jpg\t"two\nlines\tand a tab"\t0\n'
    )
    rows = list(read_rows(tmp_path / name, require_label=True))
    assert [row[:4] for row in rows] == [
        (2, "a.jpg", 'red, 5" wide; "new"', 1),
        (4, "b.jpg", "two\nlines\tand a tab", 0),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            HEAD + 'a.jpg\tred\t1\nb.jpg\t"blue\t1\nc.jpg\tgreen\t0\n',
            ":3: a double quote opens here and never closes",
        ),
        ("image_path,label\na.jpg,1\n", "',' separates the columns, pass `delimiter=','`"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "rows.tsv").write_text(content)
    with pytest.raises(InputError, match=words):
        list(read_rows(tmp_path / "rows.tsv", require_label=True))


def test_a_csv_of_tabs_is_known_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(HEAD + "a.jpg\tred, wide\t1\n")
    [row] = read_rows(tmp_path / "rows.csv", require_label=True)
    assert (row.text, row.label) == ("red, wide", 1)


def test_a_row_of_another_width_speaks_of_tabs(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text(HEAD + "a.jpg\tred\tblue\t1\nb.jpg\tred\n")
    wide, narrow = scan_rows(tmp_path / "rows.tsv", lambda line, message: pytest.fail(message))
    assert (
        wide.problem
        == "4 fields where the header has 3; put a text that holds tabs in double quotes"
    )
    assert narrow.problem == "2 fields where the header has 3; a tab or a closing quote is missing"


@pytest.mark.parametrize("count", [4_097, 40_000])
def test_a_header_without_end_is_one_line(tmp_path: Path, count: int) -> None:
    (tmp_path / "rows.csv").write_text(
        ",".join(["image_path", "text", *(f"c{i}" for i in range(count - 2))]) + "\na.jpg,red\n"
    )
    with pytest.raises(
        InputError,
        match=rf"rows.csv:1: there are {count:,} columns; a file of rows has at most 4,096",
    ):
        read_header(tmp_path / "rows.csv", require_label=False)


def test_a_missing_column_among_thousands_is_a_short_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        ",".join(["image_path", *(f"c{i}" for i in range(4_000))]) + "\n"
    )
    with pytest.raises(InputError, match=r"column 'text' is missing; .* and 3,981 more") as caught:
        read_header(tmp_path / "rows.csv", require_label=False)
    assert len(str(caught.value)) < 1_000


HEADER = "image_path,text,label\n"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("," * 5_000, "a row has more than 1,000 fields"),
        ('"\n"' + ',"\n"' * 1_001, "a row has more than 1,000 fields"),
        ("x" * 20_000, "a row is longer than 10,000 characters"),
        ('"' + "x\n" * 8_000 + '"', "a row is longer than 10,000 characters"),
    ],
    ids=["fields", "fields on lines", "line", "lines"],
)
def test_a_row_without_end_is_a_fault_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, words: str
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_RECORD", 10_000)
    monkeypatch.setattr(csv_rows, "MAX_FIELDS", 1_000)
    (tmp_path / "rows.csv").write_text(f"{HEADER}a.jpg,red,1\n{row}\nb.jpg,blue,0\n")
    with pytest.raises(InputError, match=f":3: {words}"):
        list(read_rows(tmp_path / "rows.csv", require_label=True))
    if "\n" in row:
        return
    said: list[tuple[int, str]] = []
    rows = list(
        scan_rows(tmp_path / "rows.csv", lambda line, message: said.append((line, message)))
    )
    assert [(row.line, row.image_path) for row in rows] == [(2, "a.jpg"), (4, "b.jpg")]
    assert [line for line, _ in said] == [3]


def test_a_row_that_can_not_be_used_keeps_what_stands_there(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        HEADER + 'a.jpg,red,1\r\nb.jpg,"blue\nbag",1,"more, ""of it""",x\r\nc.jpg\n'
    )
    first, wide, narrow = read_rows(tmp_path / "rows.csv", require_label=True)
    assert (first.raw, wide.raw, narrow.raw) == (
        "",
        'b.jpg,"blue\nbag",1,"more, ""of it""",x',
        "c.jpg",
    )


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        (
            "far.csv",
            'image_path,text,label\na.jpg,"12 inch cable,1\nb.jpg,red,0\nc.jpg,cable 12",1\n',
            3,
        ),
        ("next.csv", 'image_path,text,label\na.jpg,"12 inch,1\nc.JPG,cable 12",1\n', 2),
        ("kinds.csv", 'image_path,text\n0.png,"12 inch\ntwo.jpg,cable 12"\n', 2),
        ("ids.tsv", HEAD + '1001\t"12 inch\t1\n1002\tcable 12"\t0\n', 2),
        ("text-first.csv", 'text,image_path,label\n"12 inch,a.jpg,1\ncable 12",c.jpg,0\n', 2),
        ("no-label.csv", 'image_path,text\na.jpg,"12 inch\nb.jpg,red\nc.jpg,cable 12"\n', 3),
        ("numbers.csv", 'image_path,text\n1001,"12 inch\n1002,red\n1003,cable 12"\n', 3),
        ("named.csv", 'image_path,text\nsku-0998,"12 inch\nsku-0999,cable 12"\n', 2),
        ("tabs.tsv", HEAD + 'a.jpg\t"12 inch\t1\r\nb.jpg\tcable 12"\t1\r\n', 2),
    ],
)
def test_rows_that_a_quote_has_taken_in_are_a_problem(
    tmp_path: Path, name: str, content: str, count: int
) -> None:
    (tmp_path / name).write_text(content)
    (row,) = read_rows(tmp_path / name, require_label="label" in content)
    assert row.problem is not None
    assert row.problem.startswith(f"{count} rows run together here, as a text opens with")
    assert row.raw == content[content.index("\n") + 1 :].rstrip()  # all that it has taken in


@pytest.mark.parametrize(
    "content",
    [
        'image_path,text,label\na.jpg,"Nice, red\nshoes, b.jpg, good",1\n',
        'image_path,text,label\na.jpg,"one,1\ntwo,0",1\n',
        'text,image_path,label\n"Nice red\nshoes",c.jpg,1\n',
        'image_path,text\n1001,"Nice red\nshoes, size 5\n10,5 cm"\n',
        'image_path,text\nshoe,"Nice\nshoe, red"\n',
        'image_path,text\na.jpg,"Nice red\nshoes, size 5, in\n\nblue"\n',
    ],
)
def test_a_text_of_several_lines_is_no_problem(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.csv").write_text(content)
    (row,) = read_rows(tmp_path / "rows.csv", require_label="label" in content)
    assert row.problem is None
    assert "\n" in row.text


def rows_of(path: Path) -> list[tuple[int, str, str, int | None, str | None]]:
    return [
        (row.line, row.image_path, row.text, row.label, row.problem)
        for row in read_rows(path, require_label=True)
    ]


@pytest.mark.parametrize("blanks", [" ", "   "])
@pytest.mark.parametrize(
    "text", ["Red, shiny bag", "红色, 手提包", "Sac, rouge", "أحمر, حقيبة", "लाल, थैला"]
)
@pytest.mark.parametrize("header", ["image_path,text,label", "image_path, text, label"])
def test_a_blank_before_a_quote_is_no_part_of_the_text(
    tmp_path: Path, blanks: str, text: str, header: str
) -> None:
    (tmp_path / "a.csv").write_text(
        f'{header}\na.png,{blanks}"{text}",{blanks}1\nb.png,{blanks}Blue bag,{blanks}0\n'
        f'c.png,{blanks}"{text}\nand ""more""",{blanks}1\n',
        encoding="utf-8",
    )
    first, second, third = rows_of(tmp_path / "a.csv")
    assert first == (2, "a.png", text, 1, None)
    assert (second[2].strip(), second[3], second[4]) == ("Blue bag", 0, None)
    assert third == (4, "c.png", f'{text}\nand "more"', 1, None)


def test_a_blank_before_a_quote_in_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(HEAD + 'a.png\t "Red\tbag"\t 1\n')
    assert rows_of(tmp_path / "a.tsv") == [(2, "a.png", "Red\tbag", 1, None)]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ('a.png, "Best" shirt ever,1', ' "Best" shirt ever'),
        ("a.png, Red bag,1", " Red bag"),
        ('a.png,"  ""Best"" bag",1', '  "Best" bag'),
        ('a.png,Red 5" bag,1', 'Red 5" bag'),
    ],
)
def test_other_blanks_and_quotes_are_kept(tmp_path: Path, record: str, text: str) -> None:
    (tmp_path / "a.csv").write_text(f"image_path,text,label\n{record}\n")
    assert rows_of(tmp_path / "a.csv") == [(2, "a.png", text, 1, None)]


def test_a_quoted_blank_and_quote_takes_no_blanks_from_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        'image_path,text,label,note\na.png,  Red bag,1," ""new"""\nb.png, Cap,0,"""x"", ""y"\r\n'
    )
    assert [row[2] for row in rows_of(tmp_path / "a.csv")] == ["  Red bag", " Cap"]


@pytest.mark.parametrize("record", ['a.png, "Red" , 1', 'a.png,"Red" ,1'])
def test_a_blank_behind_a_quote_is_said(tmp_path: Path, record: str) -> None:
    (tmp_path / "a.csv").write_text(f"image_path,text,label\n{record}\n")
    with pytest.raises(InputError, match=r"a\.csv:2: .*take out the blank behind a closing quote"):
        rows_of(tmp_path / "a.csv")


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_may_name_the_separator(tmp_path: Path, first: str, end: str) -> None:
    (tmp_path / "a.csv").write_text(
        end.join([first, "image_path;text;label", "a.png;Red, 5;1", 'b.png;"a;b";0', ""]),
        encoding="utf-8",
        newline="",
    )
    assert rows_of(tmp_path / "a.csv") == [
        (3, "a.png", "Red, 5", 1, None),
        (4, "b.png", "a;b", 0, None),
    ]
    assert read_header(tmp_path / "a.csv", require_label=True) == ["image_path", "text", "label"]


@pytest.mark.parametrize("mark", [",", "\t", "|"])
def test_any_usual_separator_may_be_named(tmp_path: Path, mark: str) -> None:
    fields = (("image_path", "text", "label"), ("a.png", "Red", "1"))
    rows = "".join(mark.join(row) + "\n" for row in fields)
    (tmp_path / "a.csv").write_text(f"sep={mark}\n{rows}")
    assert rows_of(tmp_path / "a.csv") == [(3, "a.png", "Red", 1, None)]


def test_a_column_may_be_called_like_that_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=x,image_path,text\n1,a.png,Red\n")
    assert read_header(tmp_path / "a.csv", require_label=False) == ["sep=x", "image_path", "text"]


def test_rows_of_commas_are_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        ",,\nimage_path,text,label\n,,\na.png,Red,1\n , ,\n,,,,\nb.png,Blue,0\n,,\n"
    )
    assert [row[0] for row in rows_of(tmp_path / "a.csv")] == [4, 7]
    assert [row[4] for row in rows_of(tmp_path / "a.csv")] == [None, None]


def test_empty_cells_behind_the_last_column_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "image_path,text,label\na.png,Red,1,,\nb.png,Blue,0, ,x\n", encoding="utf-8"
    )
    first, second = rows_of(tmp_path / "a.csv")
    assert first == (2, "a.png", "Red", 1, None)
    assert "5 fields where the header has 3" in (second[4] or "")


def test_columns_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_path,text,label,,\na.png,Red,1,,x\nb.png,Blue,0,,\n")
    rows = list(read_rows(tmp_path / "a.csv", require_label=True))
    assert [(row.text, row.problem) for row in rows] == [("Red", None), ("Blue", None)]
    assert rows[0].columns["unnamed_5"] == "x"
    # as pandas writes an index
    (tmp_path / "b.csv").write_text(",image_path,text,label\n0,a.png,Red,1\n")
    [row] = read_rows(tmp_path / "b.csv", require_label=True)
    assert (row.image_path, row.columns[""], row.problem) == ("a.png", "0", None)
