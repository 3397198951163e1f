"""Rows in: what is read, and how each fault is named with its file and line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import (
    load_pairs,
    one_image_each,
    parse_label,
    read_header,
    read_rows,
    refusal,
    resolve_image,
    rows_files,
    scan_rows,
    source_digest,
)
from mismatch.data.readers import csv as csv_rows
from mismatch.errors import InputError, LabelError, MachineError
from mismatch.io.remote import Remote

HEAD = b"image_path,text,label\n"


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """Write bytes as train.csv; returns the path."""

    def write(content: bytes) -> Path:
        path = tmp_path / "train.csv"
        path.write_bytes(content)
        return path

    return write


def rows_of(
    path: Path, *, require_label: bool = True
) -> list[tuple[int, str, str, int | None, str | None]]:
    return [
        (row.line, row.image_path, row.text, row.label, row.problem)
        for row in read_rows(path, require_label=require_label)
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEAD + b"a.jpg,red,1\nb.jpg,blue,0\n", [(2, "a.jpg", "red", 1), (3, "b.jpg", "blue", 0)]),
        (HEAD + b"a.jpg,red,1", [(2, "a.jpg", "red", 1)]),
        (b"\xef\xbb\xbf" + HEAD + b"a.jpg,red,1\n", [(2, "a.jpg", "red", 1)]),
        (
            b"\xef\xbb\xbf" + b'"image_path",text,label\n' + b"a.jpg,red,1\n",
            [(2, "a.jpg", "red", 1)],
        ),
        (
            b"image_path,text,label\r\na.jpg,red,1\r\nb.jpg,blue,0\r\n",
            [(2, "a.jpg", "red", 1), (3, "b.jpg", "blue", 0)],
        ),
        (
            b"image_path,text,label\ra.jpg,red,1\rb.jpg,blue,0\r",
            [(2, "a.jpg", "red", 1), (3, "b.jpg", "blue", 0)],
        ),
        (
            HEAD + b'a.jpg,"red\nand\nblue",1\nb.jpg,blue,0\n',
            [(2, "a.jpg", "red\nand\nblue", 1), (5, "b.jpg", "blue", 0)],
        ),
        (
            HEAD + b'a.jpg,"red\r\nblue",1\n\n\nb.jpg,blue,0\n',
            [(2, "a.jpg", "red\r\nblue", 1), (6, "b.jpg", "blue", 0)],
        ),
        (HEAD + b'a.jpg,"a ""red"" one, new",1\n', [(2, "a.jpg", 'a "red" one, new', 1)]),
        (b" label ,text, image_path\n 1 ,red,a.jpg\n", [(2, "a.jpg", "red", 1)]),
        (HEAD + "a.jpg,crème brûlée 🍮 赤,1\n".encode(), [(2, "a.jpg", "crème brûlée 🍮 赤", 1)]),
        (b"\n" + HEAD + b"a.jpg,red,1\n", [(3, "a.jpg", "red", 1)]),
    ],
    ids=[
        "plain",
        "no last newline",
        "bom",
        "bom and quote",
        "crlf",
        "cr",
        "quoted newlines",
        "quoted crlf",
        "quotes",
        "order and spaces",
        "unicode",
        "blank first",
    ],
)
def test_rows_are_read_with_the_line_on_which_they_start(
    save: Any, content: bytes, expected: list[tuple[Any, ...]]
) -> None:
    assert rows_of(save(content)) == [(*row, None) for row in expected]


def test_other_columns_are_kept_as_written(save: Any) -> None:
    [row] = read_rows(
        save(b'sku,image_path,text,label,"note, long"\nA1,a.jpg,red,0, x \n'), require_label=True
    )
    assert row.columns == {
        "sku": "A1",
        "image_path": "a.jpg",
        "text": "red",
        "label": "0",
        "note, long": " x ",
    }
    assert read_header(save(b"image_path,text,sku\n"), require_label=False) == [
        "image_path",
        "text",
        "sku",
    ]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"a.jpg,red,yes", "label 'yes' is neither 0 nor 1"),
        (b"a.jpg,red,1.5", "label '1.5' is neither 0 nor 1"),
        (b"a.jpg,red,10", "label '10' is neither 0 nor 1"),
        (b"a.jpg,red,2", "label '2' is neither"),
        (b"a.jpg,red,-1", "label '-1' is neither"),
        (b"a.jpg,red,True", "label 'True' is neither"),
        ("a.jpg,red,１".encode(), "label '１' is neither"),
        (b"a.jpg,red,", "the label is empty"),
        (b"a.jpg,,1", "the text is empty"),
        (b'a.jpg,"  \n ",1', "the text is empty"),
        (b" ,red,1", "the image_path is empty"),
        (b",,maybe", "the image_path is empty; the text is empty; label 'maybe' is neither"),
        (
            b"a.jpg,red, blue,1",
            "4 fields where the header has 3; put a text that holds commas in double quotes",
        ),
        (b"a.jpg,red", "2 fields where the header has 3"),
        (b"a.jpg", "1 field where the header has 3"),
        (b"a.jpg,r\0ed,1", "a NUL byte"),
    ],
)
def test_a_row_that_can_not_be_used_says_why_and_the_next_one_is_read(
    save: Any, record: bytes, words: str
) -> None:
    first, bad, last = read_rows(
        save(HEAD + b"x.jpg,green,1\n" + record + b"\ny.jpg,green,0\n"), require_label=True
    )
    assert bad.line == 3
    assert words in (bad.problem or "")
    assert (first.problem, first.label, last.problem, last.label) == (None, 1, None, 0)


def test_labels_are_not_looked_at_where_none_is_wanted(save: Any) -> None:
    assert rows_of(save(HEAD + b"a.jpg,red,yes\n"), require_label=False) == [
        (2, "a.jpg", "red", None, None)
    ]
    assert rows_of(save(b"image_path,text\na.jpg,red\n"), require_label=False) == [
        (2, "a.jpg", "red", None, None)
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ":1: the file is empty; a header image_path,text,label"),
        (b"\n\n", ":1: the file is empty"),
        (b"image_path,text\na,b\n", ":1: column 'label' is missing; found 'image_path', 'text'"),
        (
            b"image_path,caption,Label\n",
            (
                ":1: column 'label' is missing; found 'image_path', 'caption', 'Label';"
                " rename 'Label' to 'label'"
            ),
        ),
        (b'{"image_path": "a.jpg", "text": "b"}\n', "name the file .jsonl"),
        (b"imagepath,text,label\n", "rename 'imagepath' to 'image_path'"),
        (
            b"image_path,caption,title,label\n",
            "several may be the text: pass `text_column='caption'` or `text_column='title'`",
        ),
        (b"image_path;words\na.jpg;red\n", "if ';' separates the columns, pass `delimiter=';'`"),
        (b"image_path\twords\na.jpg\tred\n", "pass `delimiter='\\t'`"),
        (b"image_path,text,label,text\n", ":1: column 'text' stands twice"),
        (
            HEAD + b"a.jpg,red,1\nb.jpg,caf\xe9,1\n",
            ":3: byte 0xe9 is not UTF-8; save the file as UTF-8",
        ),
        (b"image_path,text,label\ra.jpg,red,1\rb.jpg,caf\xe9,1\r", ":3: byte 0xe9 is not UTF-8"),
        ("image_path,text,label\na.jpg,red,1\n".encode("utf-16-le"), ":1: this is not plain text"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00", ":1: this is not plain text"),
        (
            HEAD + b'a.jpg,red,1\nb.jpg,"blue,1\nc.jpg,green,0\n',
            ":3: a double quote opens here and never closes",
        ),
        (
            HEAD + b'a.jpg,red,1\n"b\nb.jpg","blue,1\nc.jpg,green,0\n',
            ":4: a double quote opens here and never closes",
        ),
        (
            HEAD + b'a.jpg,"a "red" one",1\n',
            ":2: ',' expected after '\"'; write a quote inside a quoted text twice",
        ),
    ],
    ids=[
        *(
            "empty",
            "blank",
            "no label",
            "caption",
            "json",
            "typo",
            "several",
            "semicolon",
            "tab",
            "twice",
            "latin-1",
            "latin-1 cr",
            "utf-16 no bom",
            "xlsx",
        ),
        *("open quote", "second open quote", "lone quote"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_line(save: Any, content: bytes, words: str) -> None:
    path = save(content)
    with pytest.raises(InputError) as caught:
        list(read_rows(path, require_label=True))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_what_a_model_says_is_no_label(save: Any) -> None:
    """To rename it would measure the model against its own decisions."""
    path = save(b"image_path,text,similarity_score,threshold,is_match,prediction\n")
    with pytest.raises(InputError, match=r"column 'label' is missing; found .*'prediction'$"):
        read_header(path, require_label=True)


def test_a_bad_byte_far_behind_is_found(save: Any) -> None:
    path = save(HEAD + "a.jpg,é,1\n".encode() * 20_000 + b"b.jpg,\xff,1\n")
    with pytest.raises(InputError, match=r":20002: byte 0xff"):
        list(read_rows(path, require_label=True))


def test_a_long_text_is_read_and_an_endless_one_is_refused(
    save: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = csv.field_size_limit()
    try:
        csv.field_size_limit(1000)
        [row] = read_rows(save(HEAD + b"a.jpg," + b"x" * 500_000 + b",1\n"), require_label=True)
        assert len(row.text) == 500_000
        csv.field_size_limit(1000)
        monkeypatch.setattr(csv_rows, "MAX_FIELD", 1000)
        with pytest.raises(InputError, match=r":2: a field is longer than 1,000 characters"):
            list(read_rows(save(HEAD + b"a.jpg," + b"x" * 2000 + b",1\n"), require_label=True))
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.csv", "No such file or directory"),
        ("", "is a folder, a pipe or a device; a CSV, TSV"),
    ],
)
def test_a_file_that_is_not_there(tmp_path: Path, name: str, words: str) -> None:
    for read in (
        lambda path: list(read_rows(path, require_label=True)),
        lambda path: list(scan_rows(path, print)),
        lambda path: read_header(path, require_label=False),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path / name)


def test_load_pairs_gives_all_rows(save: Any) -> None:
    rows = load_pairs(save(HEAD + b"a.jpg,red,1\nb.jpg,blue,0\n"))
    assert [(row.line, row.label) for row in rows] == [(2, 1), (3, 0)]
    assert [
        row.label for row in load_pairs(save(b"image_path,text\na.jpg,red\n"), require_label=False)
    ] == [None]


def test_load_pairs_names_the_first_ten_problems_and_counts_the_rest(save: Any) -> None:
    path = save(HEAD + b"a.jpg,red,no\n" * 12 + b"a.jpg,red,1\n")
    with pytest.raises(LabelError) as caught:
        load_pairs(path)
    message = str(caught.value)
    assert [f"{path}:{line}: label 'no'" in message for line in range(2, 14)] == [True] * 10 + [
        False
    ] * 2
    assert message.endswith("(and 2 more; mismatch validate lists all)")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("record", "is_label"),
    [
        (b"a.jpg,red,no", True),
        (b"a.jpg,red,", True),
        (b"a.jpg,,1", False),
        (b"a.jpg,,no", False),
        (b"label 1.jpg,,no", False),
    ],
)
def test_an_error_about_labels_alone_is_a_label_error(
    save: Any, record: bytes, is_label: bool
) -> None:
    with pytest.raises(InputError) as caught:
        load_pairs(save(HEAD + record + b"\n"))
    assert isinstance(caught.value, LabelError) is is_label


def test_load_pairs_refuses_a_file_without_rows(save: Any) -> None:
    with pytest.raises(InputError, match="no rows under the header"):
        load_pairs(save(HEAD))


@pytest.mark.parametrize(
    ("value", "label"),
    [("0", 0), ("1", 1), (" 1 ", 1), ("1.0", 1), ("0.0", 0), ("1,0", 1), (" 0.000 ", 0)],
)
def test_parse_label(value: str, label: int) -> None:
    assert parse_label(value) == label


@pytest.mark.parametrize(
    ("base", "image", "expected"),
    [
        ("", "a/b.jpg", "a/b.jpg"),
        (".", "b.jpg", "b.jpg"),
        ("data/", "a/b.jpg", "data/a/b.jpg"),
        (Path("data"), "b.jpg", "data/b.jpg"),
        ("data", "/abs/b.jpg", "/abs/b.jpg"),
    ],
)
def test_resolve_image(base: str | Path, image: str, expected: str) -> None:
    assert resolve_image(base, image) == Path(expected)


@pytest.mark.parametrize(
    ("content", "faults", "rows"),
    [
        (b"image_path,text\na.jpg,red\nb.jpg,\n", [1], [(2, None), (3, "the text is empty")]),
        (
            b"image_path,label\na.jpg,1\nb.jpg,2\n",
            [1],
            [(2, None), (3, "label '2' is neither 0 nor 1 (1 = the text describes the image)")],
        ),
        (HEAD + b"a.jpg,red,1\nb.jpg,caf\xe9,0\nc.jpg,\xe9t\xe9,0\n", [3], []),
        (
            HEAD + b"a.jpg,\xff,1\nb.jpg,red,0\n",
            [],
            [
                (
                    2,
                    "byte 0xff is not UTF-8; save the file as UTF-8, or pass its `encoding`",
                ),
                (3, None),
            ],
        ),
        (HEAD + b'a.jpg,"a "b" c",1\nb.jpg,red,0\n', [2], [(3, None)]),
        (HEAD + b'a.jpg,red,1\nb.jpg,"red,0\n', [3], [(2, None)]),
        ("image_path,text,label\na.jpg,red,1\n".encode("utf-16-be"), [1], []),
        (b"text,text\na,b\n", [1], []),
        (b"", [1], []),
    ],
    ids=[
        "no label",
        "no text",
        "latin-1",
        "a byte",
        "lone quote",
        "open quote",
        "utf-16",
        "twice",
        "empty",
    ],
)
def test_scan_rows_goes_on_after_a_fault(
    save: Any, content: bytes, faults: list[int], rows: list[tuple[int, str | None]]
) -> None:
    said: list[tuple[int, str]] = []
    found = [
        (row.line, row.problem)
        for row in scan_rows(save(content), lambda line, message: said.append((line, message)))
    ]
    assert found == rows
    assert [line for line, _ in said] == faults


def test_reading_is_lazy(save: Any) -> None:
    rows = read_rows(save(HEAD + b"a.jpg,red,1\n" * 50_000 + b'b.jpg,"open\n'), require_label=True)
    assert [next(rows).line for _ in range(3)] == [2, 3, 4]
    rows.close()  # type: ignore[attr-defined]


def test_real_titles(fashion: Path) -> None:
    rows = load_pairs(fashion / "test.csv")
    assert len(rows) == 1406
    assert sum(row.label or 0 for row in rows) == 703


@pytest.mark.parametrize(
    ("header", "renamed"),
    [
        ("file,title", ["image_path", "text"]),
        ("Caption,sku,Image File", ["text", "sku", "image_path"]),
        ("image_path,text,file,title", ["image_path", "text", "file", "title"]),
        ("Text,PATH", ["text", "image_path"]),
    ],
)
def test_usual_names_stand_for_columns_where_they_may(
    tmp_path: Path, header: str, renamed: list[str]
) -> None:
    (tmp_path / "rows.csv").write_text(f"{header}\n{header}\n")
    assert read_header(tmp_path / "rows.csv", require_label=False, aliases=True) == renamed
    [row] = read_rows(tmp_path / "rows.csv", require_label=False, aliases=True)
    assert list(row.columns) == renamed
    assert (row.image_path, row.text) == (row.columns["image_path"], row.columns["text"])
    # each of them stands alone, so that it is taken elsewhere too
    assert read_header(tmp_path / "rows.csv", require_label=False) == renamed


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reads fail is needed")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_that_can_not_be_read_are_the_machines_fault_and_not_the_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    (tmp_path / f"rows{suffix}").symlink_to("/proc/self/mem")  # EIO at its beginning
    monkeypatch.setattr("mismatch.io.retries.PAUSES", ())
    with pytest.raises(
        MachineError,
        match=rf"rows\{suffix} can't be read to its end: Input/output error, tried 1 times",
    ):
        list(read_rows(tmp_path / f"rows{suffix}", require_label=False))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (
            "rows.csv",
            b"image_path,text\na.jpg,red\nb.jpg,\xff\n",
            "{url}:3: byte 0xff is not UTF-8; save the file as UTF-8",
        ),
        (
            "rows.csv",
            b'image_path,text\na.jpg,red\nb.jpg,"blue\n',
            "{url}:3: a double quote opens here and never closes",
        ),
        ("rows.tsv", b"image_path\nred\n", "{url}:1: column 'text' is missing"),
        ("rows.jsonl", b"[]", "{url}:row 1: there is no object with keys in this file"),
        ("rows.csv", b"", "{url}:1: the file is empty"),
    ],
)
def test_faults_of_an_object_name_its_url_and_the_line(
    store: Remote, name: str, data: bytes, said: str
) -> None:
    url = f"{store}/{name}"
    (store / name).write(data)
    with pytest.raises(InputError) as caught:
        list(read_rows(url, require_label=False))
    assert str(caught.value).startswith(said.format(url=url))


def test_the_digest_of_an_object_is_of_what_the_store_says_of_it(
    store: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "rows.csv").write(b"image_path,text\na.jpg,red\n")
    with monkeypatch.context() as patch:
        patch.delattr(Remote, "read")
        before = source_digest(store / "rows.csv")
        assert source_digest(store / "rows.csv") == before
        assert source_digest(store / "rows.csv", Columns("photo", "caption")) != before
    (store / "rows.csv").write(b"image_path,text\na.jpg,blue\n")
    assert source_digest(str(store / "rows.csv")) != before
    assert rows_files(store / "rows.csv") == []


def test_a_row_says_whether_its_label_alone_is_wrong(tmp_path: Path) -> None:
    lines = ["image_path,text,label", "label 1.png,,1", "a.png,red,7", "a.png,red,", "a.png,,7"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    rows = list(read_rows(tmp_path / "a.csv", require_label=True))
    assert [row.only_label for row in rows] == [False, True, True, False]
    assert isinstance(refusal("a.csv", rows[1:3]), LabelError)
    assert not isinstance(refusal("a.csv", rows), LabelError)
    both = Columns(multi_image="best")
    [row] = one_image_each(rows[1]._replace(image_path="a;b", label=1, problem=None), both)
    assert row.only_label
