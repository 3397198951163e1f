"""mismatch.data.readers.text_files: files that are not UTF-8, or no text at all, are named for what
they are, and read where their encoding is given.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.pairs import (
    load_pairs,
    read_header,
    read_rows,
    reading_remark,
    scan_rows,
    source_digest,
)
from mismatch.data.readers.text_files import (
    content_problem,
    decoded,
    encoding_problem,
    file_problem,
    look_at_bytes,
    open_rows,
    open_text,
    wrong_byte,
)
from mismatch.errors import InputError

TEXTS = {
    "gb18030": ["红色手提包", "蓝色棉质衬衫", "黑色皮鞋", "透明玻璃花瓶"],
    "cp932": ["赤いハンドバッグ", "青い綿のシャツ", "黒い革靴", "ガラスの花瓶"],
    "cp1256": ["حقيبة يد حمراء", "قميص قطني أزرق", "حذاء جلدي أسود", "مزهرية زجاجية"],
    "cp1252": ["Sac à main foncé", "Robe à fleurs d'été", "Montre élégante", "Théière émaillée"],
    "utf-16-le": ["लाल चमड़े का बैग", "नीली सूती कमीज़", "काले जूते", "काँच का फूलदान"],
}
ENCODINGS = pytest.mark.parametrize("encoding", TEXTS)
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])


def content(texts: list[str], suffix: str) -> str:
    if suffix == ".jsonl":
        rows = [
            {"image_path": f"{i}.jpg", "text": text, "label": i % 2} for i, text in enumerate(texts)
        ]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    mark = "\t" if suffix == ".tsv" else ","
    rows_of_fields = [("image_path", "text", "label")]
    rows_of_fields += [(f"{i}.jpg", text, str(i % 2)) for i, text in enumerate(texts)]
    return "".join(mark.join(fields) + "\n" for fields in rows_of_fields)


@pytest.fixture
def save(tmp_path: Path) -> object:
    def write(encoding: str, suffix: str) -> Path:
        path = tmp_path / f"rows{suffix}"
        path.write_bytes(content(TEXTS[encoding], suffix).encode(encoding))
        return path

    return write


@ENCODINGS
@SUFFIXES
def test_a_file_in_another_encoding_is_refused_in_one_line_that_names_it(
    save: object, encoding: str, suffix: str
) -> None:
    path = save(encoding, suffix)  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        list(read_rows(path, require_label=True))
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert f"`encoding='{encoding}'`" in message
    assert "\n" not in message
    if encoding != "utf-16-le":
        assert repr(TEXTS[encoding][0]) in message


@ENCODINGS
@SUFFIXES
def test_it_is_one_fault_of_an_audit_too(save: object, encoding: str, suffix: str) -> None:
    faults: list[tuple[int, str]] = []
    path = save(encoding, suffix)  # type: ignore[operator]
    assert list(scan_rows(path, lambda line, message: faults.append((line, message)))) == []
    [(_, message)] = faults
    assert f"`encoding='{encoding}'`" in message


@ENCODINGS
@SUFFIXES
def test_with_its_encoding_it_says_what_it_says_in_utf8(
    save: object, tmp_path: Path, encoding: str, suffix: str
) -> None:
    path = save(encoding, suffix)  # type: ignore[operator]
    same = tmp_path / f"same{suffix}"
    same.write_text(content(TEXTS[encoding], suffix), encoding="utf-8")
    columns = Columns(encoding=encoding)
    assert load_pairs(path, columns=columns) == load_pairs(same)
    assert read_header(path, require_label=True, columns=columns) == ["image_path", "text", "label"]
    assert list(scan_rows(path, lambda *_: pytest.fail("a fault"), columns)) == load_pairs(same)
    assert source_digest(path, columns) not in (source_digest(path), source_digest(same))


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "cp932", "utf-16-le"])
@SUFFIXES
def test_a_file_in_utf8_is_not_read_in_another_encoding(
    tmp_path: Path, encoding: str, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    for texts in TEXTS.values():
        path.write_text(content(texts, suffix), encoding="utf-8")
        with pytest.raises(InputError, match=r":1: this file is UTF-8, .*leave `encoding` out"):
            load_pairs(path, columns=Columns(encoding=encoding))
    # a few bytes may be UTF-8 by chance
    path.write_bytes(content(["联通"], suffix).encode("gbk"))
    [row] = load_pairs(path, columns=Columns(encoding="gbk"))
    assert row.text == "联通"


def test_digests_of_files_in_utf8_stay(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_path,text\na,b\n")
    plain = source_digest(tmp_path / "a.csv")
    assert source_digest(tmp_path / "a.csv", Columns(encoding="utf-8")) == plain
    assert "encoding" not in repr(Columns(encoding="gbk"))


def test_names_of_columns_may_be_in_the_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("图片,文本,标签\n红.jpg,红色,1\n".encode("gbk"))
    columns = Columns(image="图片", text="文本", label="标签", encoding="gbk")
    [row] = load_pairs(tmp_path / "a.csv", columns=columns)
    assert (row.image_path, row.text, row.label) == ("红.jpg", "红色", 1)
    with pytest.raises(InputError, match=r"a\.csv:1: byte 0x.. is not UTF-8.*`encoding="):
        read_header(tmp_path / "a.csv", require_label=True)


def test_some_damaged_lines_are_problems_of_their_rows(tmp_path: Path) -> None:
    good = "a.jpg,红色手提包,1\n".encode() * 5
    path = tmp_path / "a.csv"
    path.write_bytes(b"image_path,text,label\n" + good + b"b.jpg,caf\xe9,0\n" + good)
    rows = list(scan_rows(path, lambda *_: pytest.fail("a fault of the file")))
    assert [row.line for row in rows if row.problem] == [7]
    assert (rows[5].text, rows[5].intact) == ("", False)
    assert rows[5].raw == r"b.jpg,caf\xe9,0"
    assert "byte 0xe9 is not UTF-8" in (rows[5].problem or "")
    assert "'café'" in (rows[5].problem or "")
    assert list(read_rows(path, require_label=True, strict=False)) == rows
    with pytest.raises(InputError, match=r"a\.csv:7: byte 0xe9 is not UTF-8"):
        list(read_rows(path, require_label=True))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_bytes_that_are_not_in_the_encoding_are_named_by_their_line(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    data = content(["红色", "?", "蓝色"], suffix).encode("gbk").replace(b"?", b"caf\xff")
    path.write_bytes(data)
    columns = Columns(encoding="gbk")
    rows = list(scan_rows(path, lambda *_: pytest.fail("a fault"), columns))
    assert [row.problem is None for row in rows] == [True, False, True]
    assert "nothing in gbk; pass another `encoding`" in (rows[1].problem or "")
    line = 3 if suffix == ".csv" else 2
    with pytest.raises(InputError, match=rf"a\{suffix}:{line}: this line has bytes"):
        load_pairs(path, columns=columns)


def test_columns_refuse_what_is_no_encoding() -> None:
    with pytest.raises(InputError, match="`encoding` is 'gkb'"):
        Columns(encoding="gkb")


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "image_path,text\n")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.csv"))
    return file.getvalue()


CSV = b"image_path,text,label\na.jpg,red,1\n" * 40
PACKED = {
    "gzip": (gzip.compress(CSV), "gunzip"),
    "bzip2": (bz2.compress(CSV), "bunzip2"),
    "xz": (lzma.compress(CSV), "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "unzstd"),
    "zip": (zipped("rows.csv"), "zip archive"),
    "xlsx": (zipped("[Content_Types].xml"), "workbook of Excel"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20), r"\.xls"),
    "parquet": (b"PAR1" + bytes(20), r"a Parquet file; name it \.parquet"),
    "arrow": (b"ARROW1\0\0" + bytes(20), "Arrow"),
    "tar": (tarred(), "tar archive; name it .tar"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG image"),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in ("rows.csv", "rows.csv.gz", "rows.tsv", "rows.jsonl")
        for kind in PACKED
        if (name, kind) != ("rows.csv.gz", "parquet")  # which is read as what it is
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, kind: str, name: str) -> None:
    data, words = PACKED[kind]
    path = tmp_path / name
    path.write_bytes(data)
    for encoding in (None, "gbk"):
        with pytest.raises(InputError, match=rf":1: this is not plain text but .*{words}"):
            list(read_rows(path, require_label=True, columns=Columns(encoding=encoding)))
    faults: list[int] = []
    assert list(scan_rows(path, lambda line, _: faults.append(line))) == []
    assert faults == [1]


@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind != "parquet"])
def test_a_file_that_is_called_parquet_is_named_too(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyarrow")
    data, words = PACKED[kind]
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.parquet is no Parquet file but .*{words}"):
        read_header(tmp_path / "a.parquet", require_label=True)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_characters_are_known_without_a_guess(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("image_path,text\na,红\n".encode(encoding))
    problem = file_problem(tmp_path / "a.csv") or ""
    if encoding.endswith("e"):
        assert f"`encoding='{encoding}'`" in problem
    else:  # a mark at the beginning says so
        assert problem == ""
        [row] = read_rows(tmp_path / "a.csv", require_label=False)
        assert row.text == "红"
        remark = reading_remark(tmp_path / "a.csv") or ""
        assert f"it is {encoding.upper()}, as its first bytes say" in remark
    assert file_problem(tmp_path / "a.csv", encoding) is None
    [row] = read_rows(tmp_path / "a.csv", require_label=False, columns=Columns(encoding=encoding))
    assert row.text == "红"


def test_text_is_nothing_else() -> None:
    assert content_problem(CSV) is None
    assert content_problem(b"") is None
    assert content_problem("BZh, 红\n".encode()) is None


def test_a_file_is_opened_in_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff红\r\n".encode("gb18030"))
    with open_text(path, "strict", "gb18030") as text, open_rows(path, "gb18030") as data:
        assert (text.read(), data.read()) == ("红\r\n", "\ufeff红\r\n".encode())
    with path.open("rb") as file:
        assert decoded(file, "gb18030", path).read() == "红\r\n"
    with pytest.raises(InputError, match=r"gone\.txt: No such file"):
        open_rows(tmp_path / "gone.txt", "gbk")


def test_what_is_known_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n" + "红\n".encode() + b"\xff\n")
    wrong = look_at_bytes(path)
    assert wrong is not None
    assert (wrong.line, wrong.byte, wrong.whole, wrong.guess) == (3, 0xFF, False, None)
    assert wrong.message() == wrong_byte(0xFF, None)
    assert encoding_problem(path, None) == (3, wrong.message())
    path.write_text("红\n", encoding="utf-8")
    assert look_at_bytes(path) is None
