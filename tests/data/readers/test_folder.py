"""mismatch.data.readers.folder: images and titles find each other, and what has no
counterpart is named.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mismatch.data.columns import Columns
from mismatch.data.readers.folder import TitledImages
from mismatch.errors import InputError
from mismatch.io.atomic import sha256_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images in two folders, one of them hidden; nothing here looks into them."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name in (
        "a.jpg",
        "b.PNG",
        "sub/a.webp",
        "sub/c.jpeg",
        "both.jpg",
        "both.png",
        ".hidden.jpg",
    ):
        (images / name).write_bytes(b"x")
    (images / "notes.md").write_text("no image")
    return images


def found(images: TitledImages) -> list[tuple[str, str]]:
    return [(row.image_path, row.text) for row in images.rows()]


@pytest.mark.parametrize(
    "content",
    [
        "image_path,text\na.jpg,red\nsub/a.webp,green\n./b.PNG,blue\ngone.jpg,grey\n",
        "Title,File\nred,a.jpg\ngreen,sub/a.webp\nblue,./b.PNG\ngrey,gone.jpg\n",
        "a.jpg\tred\nsub/a.webp\tgreen\n\n./b.PNG\tblue\r\ngone.jpg\tgrey\n",
        "\ufefffile\ttitle\na.jpg\tred\nsub/a.webp\tgreen\n./b.PNG\tblue\ngone.jpg\tgrey",
    ],
    ids=["csv", "csv with usual names", "tabs", "tabs with a header"],
)
def test_a_file_of_titles(folder: Path, tmp_path: Path, content: str) -> None:
    titles = tmp_path / "titles"
    titles.write_text(content, encoding="utf-8", newline="")
    images = TitledImages(folder, titles)
    assert found(images) == [
        ("a.jpg", "red"),
        ("sub/a.webp", "green"),
        ("./b.PNG", "blue"),
        ("gone.jpg", "grey"),
    ]
    notes = [
        "3 images have no title and were not scored: both.jpg, both.png, sub/c.jpeg",
        "1 title has no image: gone.jpg",
        "1 file has a suffix of no image and was not scored: notes.md",
    ]
    assert images.notes() == notes
    assert found(images)[0] == ("a.jpg", "red"), "rows can be read again"
    assert images.notes() == notes
    before = images.digest()
    titles.write_text(content.replace("red", "teal"), encoding="utf-8", newline="")
    assert images.digest() != before


def test_other_columns_are_there_to_be_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text("sku,file,title,name\nA1,a.jpg,red,x\n")
    images = TitledImages(folder, tmp_path / "titles.csv")
    assert images.header == ["sku", "image_path", "text", "name"]
    [row] = images.rows()
    assert (row.image_path, row.text, row.columns["sku"], row.columns["name"]) == (
        "a.jpg",
        "red",
        "A1",
        "x",
    )


def test_a_text_beside_each_image(folder: Path) -> None:
    for name, text in {
        "a": " red\nbag \n",
        "sub/a": "green",
        "both": "blue",
        "alone": "grey",
        "sub/c": "  ",
    }.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    images = TitledImages(folder)
    assert found(images) == [
        ("a.jpg", "red\nbag"),
        ("alone", "grey"),
        ("both.jpg", "blue"),
        ("both.png", "blue"),
        ("sub/a.webp", "green"),
        ("sub/c.jpeg", ""),
    ]
    assert [row.problem for row in images.rows()] == [
        None,
        "there is no image next to alone.txt",
        None,
        None,
        None,
        "c.txt is empty",
    ]
    assert images.notes() == [
        "1 image has no title and was not scored: b.PNG",
        "1 title has no image: alone.txt",
        "1 file has a suffix of no image and was not scored: notes.md",
    ]
    before = images.digest()
    assert images.digest() == before
    (folder / "sub" / "a.txt").write_text("teal")
    assert images.digest() != before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "a.txt: byte 0xff is not UTF-8; save the file as UTF-8, or pass its `encoding`"),
        (b"\xef\xbb\xbf", "a.txt is empty"),
    ],
)
def test_a_text_that_can_not_be_used_is_a_status(
    folder: Path, content: bytes, problem: str
) -> None:
    (folder / "a.txt").write_bytes(content)
    [row] = TitledImages(folder).rows()
    assert (row.image_path, row.problem) == ("a.jpg", problem)


def test_a_line_without_a_tab_is_a_status(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "titles.tsv").write_text("a.jpg\tred\nb.PNG blue\nb.PNG\t \n")
    rows = list(TitledImages(folder, tmp_path / "titles.tsv").rows())
    assert [(row.line, row.problem is None) for row in rows] == [(1, True), (2, False), (3, False)]
    assert "no tab" in str(rows[1].problem)
    assert "empty" in str(rows[2].problem)


def test_many_names_are_counted_and_the_first_ones_shown(folder: Path) -> None:
    for i in range(1200):
        (folder / f"x{i:04}.jpg").write_bytes(b"")
    images = TitledImages(folder)
    assert found(images) == []
    assert images.notes() == [
        (
            "1,206 images have no title and were not scored: a.jpg, b.PNG, both.jpg, both.png,"
            " sub/a.webp, …"
        ),
        "1 file has a suffix of no image and was not scored: notes.md",
    ]


def test_a_name_that_is_not_utf8_is_a_status(folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (folder / os.fsdecode(b"\xff.txt")).write_text("red")
    [row] = TitledImages(folder).rows()
    assert (row.image_path.isascii(), row.text, row.problem) == (
        True,
        "red",
        "the image's name is not UTF-8; rename the file",
    )


@pytest.mark.parametrize(
    ("images", "titles", "words"),
    [
        ("gone", None, "is not a folder"),
        ("images", "gone.csv", "gone.csv"),
        ("images", "wrong.csv", "'text' is missing"),
        ("images", "latin.tsv", "not UTF-8"),
    ],
)
def test_what_can_not_be_used_is_named(
    folder: Path, tmp_path: Path, images: str, titles: str | None, words: str
) -> None:
    (tmp_path / "wrong.csv").write_text("file,price\na.jpg,1\n")
    (tmp_path / "latin.tsv").write_bytes(b"a.jpg\tgr\xfcn\n")
    with pytest.raises(InputError, match=words):
        list(TitledImages(tmp_path / images, tmp_path / titles if titles else None).rows())


def test_a_title_is_no_link_out_of_the_folder_and_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (folder / name).write_bytes(b"")
    (folder / "a.txt").symlink_to("../secret.txt")
    os.mkfifo(folder / "b.txt")
    (folder / "c.txt").write_text("red")
    (folder / "d.txt").symlink_to("c.txt")
    found = {row.image_path: (row.text, row.problem) for row in TitledImages(folder).rows()}
    assert found["a.png"] == (
        "",
        (f"a.txt is a link that leaves {folder}; allow outside images if it may lie elsewhere"),
    )
    assert found["b.png"] == ("", "b.txt is no regular file")
    assert found["c.png"] == found["d.png"] == ("red", None)
    assert {row.image_path: row.text for row in TitledImages(folder, outside=True).rows()}[
        "a.png"
    ] == "a secret"


def test_a_title_with_a_nul_character_is_no_text(folder: Path, tmp_path: Path) -> None:
    (folder / "a.txt").write_text("red\0bag", encoding="utf-8")
    (tmp_path / "titles.tsv").write_text("a.jpg\tred\0bag\n", encoding="utf-8")
    for images in (TitledImages(folder), TitledImages(folder, tmp_path / "titles.tsv")):
        [row] = images.rows()
        assert row.problem is not None
        assert "NUL" in row.problem


@pytest.mark.parametrize(
    "suffix", ["heic", "HEIF", "jp2", "j2k", "avif", "jxl", "psd", "JPE", "nef"]
)
def test_pictures_of_every_kind_are_rows(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("red")
    images = TitledImages(tmp_path)
    assert found(images) == [(f"a.{suffix}", "red")]
    assert images.notes() == []


@pytest.mark.parametrize(
    ("image", "text"),
    [("a.png", "a.TXT"), ("A.PNG", "A.Txt"), ("a.jpg", "A.TXT"), ("É.jpg", "é.txt")],
)
def test_a_text_is_found_whatever_the_case_of_its_name(
    tmp_path: Path, image: str, text: str
) -> None:
    (tmp_path / image).write_bytes(b"x")
    (tmp_path / text).write_text("red")
    images = TitledImages(tmp_path)
    assert [(row.image_path, row.text, row.problem) for row in images.rows()] == [
        (image, "red", None)
    ]
    assert images.notes() == []


def test_two_spellings_of_a_name_stay_apart(tmp_path: Path) -> None:
    for name in ("a.jpg", "A.jpg"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("a.txt", "A.txt"):
        (tmp_path / name).write_text(name)
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system folds the case of names")
    assert found(TitledImages(tmp_path)) == [("A.jpg", "A.txt"), ("a.jpg", "a.txt")]
    (tmp_path / "a.TXT").write_text("other")
    problems = {row.image_path: row.problem for row in TitledImages(tmp_path).rows()}
    assert problems["A.jpg"] is None
    assert "both stand there; keep one" in (problems["a.jpg"] or "")


def test_a_suffix_that_is_not_known_is_said(tmp_path: Path) -> None:
    for name in ("a.xyz", "b.xyz", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("a.txt", "c.txt"):
        (tmp_path / name).write_text("red")
    images = TitledImages(tmp_path)
    assert [(row.image_path, row.problem) for row in images.rows()] == [
        ("a", "there is no image next to a.txt, but a.xyz, whose suffix is of no image"),
        ("c.png", None),
    ]
    assert images.notes() == [
        "1 title has no image: a.txt",
        "2 files have suffixes of no image and were not scored: a.xyz, b.xyz",
    ]


def test_a_file_of_titles_in_the_folder_is_no_image(folder: Path) -> None:
    (folder / "titles.csv").write_text("file,title\na.jpg,red\nodd.xyz,blue\n")
    (folder / "odd.xyz").write_bytes(b"x")
    images = TitledImages(folder, folder / "titles.csv")
    assert found(images) == [("a.jpg", "red"), ("odd.xyz", "blue")]
    assert images.notes()[1:] == ["1 file has a suffix of no image and was not scored: notes.md"]


TEXTS = {
    "gb18030": "红色手提包",
    "cp932": "赤いハンドバッグ",
    "cp1256": "حقيبة يد حمراء",
    "cp1252": "Robe à fleurs d'été",
    "utf-16": "लाल चमड़े का बैग",
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("titles", [None, "titles.tsv", "titles.csv"])
def test_titles_in_another_encoding(tmp_path: Path, encoding: str, titles: str | None) -> None:
    title = TEXTS[encoding]
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"x")
    said = {
        None: title,
        "titles.tsv": f"a.png\t{title}\n",
        "titles.csv": f"file,title\na.png,{title}\n",
    }
    file = tmp_path / titles if titles else images / "a.txt"
    file.write_bytes(said[titles].encode(encoding))
    path = tmp_path / titles if titles else None
    named = TitledImages(images, path, columns=Columns(encoding=encoding))
    assert found(named) == [("a.png", title)]
    if encoding == "utf-16":  # which its first bytes say
        assert found(TitledImages(images, path)) == [("a.png", title)]
        return
    try:
        [row] = TitledImages(images, path).rows()
        message = row.problem or ""
    except InputError as error:
        message = str(error)
    assert f"{file.name}:" in message
    assert f"`encoding='{encoding}'`" in message
    if path is not None:
        assert named.digest() != sha256_file(path), "the encoding is part of it"
