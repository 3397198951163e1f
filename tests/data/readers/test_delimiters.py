"""mismatch.data.readers.delimiters: what separates the columns of a CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import load_pairs, read_rows, reading_remark, scan_rows, source_digest
from mismatch.errors import InputError

NAMES = {";": "';' separates", "\t": "a tab separates", "|": "'|' separates"}


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.txt"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_it_is_known_by_the_header(tmp_path: Path, sign: str, name: str) -> None:
    path = tmp_path / name
    rows = [("sku", "image_path", "text", "label"), ("1", "a.jpg", '"red, wide; big|x"', "1")]
    path.write_text("\n".join(["", *(sign.join(row) for row in rows), ""]))
    [row] = load_pairs(path)
    assert (row.line, row.image_path, row.text, row.label) == (3, "a.jpg", "red, wide; big|x", 1)
    is_default = sign == ("\t" if name == "rows.tsv" else ",")
    remark = reading_remark(path)
    said = "a comma separates" if sign == "," else NAMES[sign]
    assert remark is None if is_default else said in (remark or "")


def test_usual_names_tell_it_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file;title\na.jpg;red, 3,5 cm\n")
    [row] = load_pairs(tmp_path / "a.csv", require_label=False)
    assert (row.image_path, row.text) == ("a.jpg", "red, 3,5 cm")
    assert reading_remark(tmp_path / "a.csv") == (
        f"{tmp_path / 'a.csv'}: ';' separates its columns; 'file' is read as image_path and 'title'"
        " as text"
    )


def test_what_is_asked_for_counts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("photo^text,\na.jpg^red\n")
    columns = Columns(image="photo", text="text,", delimiter="^")
    [row] = load_pairs(tmp_path / "a.csv", require_label=False, columns=columns)
    assert (row.image_path, row.text) == ("a.jpg", "red")
    (tmp_path / "b.csv").write_text("sep=;\nimage_path,text\na.jpg,red\n")
    [row] = load_pairs(tmp_path / "b.csv", require_label=False, columns=Columns(delimiter=","))
    assert row.text == "red"
    assert source_digest(tmp_path / "a.csv", columns) != source_digest(tmp_path / "a.csv")


def test_a_header_that_leaves_doubt_is_refused_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("photo;text\na.jpg;red\n")
    with pytest.raises(InputError, match="if ';' separates the columns, pass `delimiter=';'`"):
        load_pairs(tmp_path / "a.csv", require_label=False)
    columns = Columns(delimiter=";", image="photo")
    assert load_pairs(tmp_path / "a.csv", require_label=False, columns=columns)[0].text == "red"


def test_blanks_behind_bars_are_no_part_of_values(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        'image_name| comment_number| comment\na.jpg| 0| Two "men" , in\n'
        'a.jpg| 1| " Hi " he says\nb.jpg| 4   A dog runs\n'
    )
    first, second, broken = scan_rows(path, lambda *_: pytest.fail("a fault"), require_label=False)
    assert first.columns == {
        "image_path": "a.jpg",
        "comment_number": "0",
        "text": 'Two "men" , in',
    }
    assert second.text == '" Hi " he says'
    assert broken.problem == "2 fields where the header has 3; a bar or a closing quote is missing"


def test_a_quote_that_never_closes_is_found_behind_any_sign(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image_path|text\na.jpg|red\nb.jpg|"blue\n')
    with pytest.raises(InputError, match=r"a\.csv:3: a double quote opens here"):
        list(read_rows(tmp_path / "a.csv", require_label=False))


@pytest.mark.parametrize("written", ["tab", "\\t", "\t"])
def test_a_tab_may_be_spelt(written: str) -> None:
    assert Columns(delimiter=written).delimiter == "\t"


@pytest.mark.parametrize("wrong", ["", ";;", "a", '"', "\n", "0", ".", " ", 5])
def test_what_can_not_separate_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="`delimiter` is"):
        Columns(delimiter=wrong)  # type: ignore[arg-type]
