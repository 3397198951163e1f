"""mismatch.data.audit.spelling: the file that is meant, and none where that can't be known."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from mismatch.data.audit.spelling import FileFinder, misspelling

NFD = unicodedata.normalize("NFD", "niño.png")
FILES = [
    "images/0.png",
    "images/B.JPG.png",
    f"images/{NFD}",
    "images/my photo.png",
    "images/A&B.png",
    "images/红色 连衣裙.jpg",
    "images/ドレス.jpg",
    "images/فستان أحمر.jpg",
    "images/लाल_पोशाक.jpg",
    "images/Été.JPEG",
    "images/two.png",
    "images/two.jpg",
    "images/Twin.png",
    "images/twin.png",
    "Sub Folder/1.webp",
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("images\\0.png", "images/0.png"),
        ("Images/0.PNG", "images/0.png"),
        ("images/my%20photo.png", "images/my photo.png"),
        ("images/my%2520photo.png", "images/my photo.png"),
        ("images%2Fmy+photo.png", "images/my photo.png"),
        ("images/my  photo.png", "images/my photo.png"),
        ("images/my\u00a0photo.png", "images/my photo.png"),
        ("images/0.png ", "images/0.png"),
        (" images/0.png", "images/0.png"),
        ("images/ 0.png", "images/0.png"),
        ("'images/0.png'", "images/0.png"),
        ("images/0.png\t", "images/0.png"),
        ("images/" + unicodedata.normalize("NFC", "niño.png"), f"images/{NFD}"),
        ("images/A&amp;B.png", "images/A&B.png"),
        ("images/A&amp;amp;B.png", "images/A&B.png"),
        ("images/A%26B.png", "images/A&B.png"),
        ("\u200bimages/0.png", "images/0.png"),
        ("\ufeffimages/0\u200d.png", "images/0.png"),
        ("images/0", "images/0.png"),
        ("images/0.0", "images/0.png"),
        ("images/0.jpg", "images/0.png"),
        ("images/B.JPG", "images/B.JPG.png"),
        ("images/红色%20连衣裙.JPG", "images/红色 连衣裙.jpg"),
        ("images\\红色 连衣裙", "images/红色 连衣裙.jpg"),
        ("images/ﾄﾞﾚｽ.jpg", "images/ドレス.jpg"),
        ("images/ドレス.jpg", "images/ドレス.jpg"),
        ("images/فستان\u200f أحمر.jpg", "images/فستان أحمر.jpg"),
        ("images/%D9%81%D8%B3%D8%AA%D8%A7%D9%86 أحمر.jpg", "images/فستان أحمر.jpg"),
        ("Images/लाल_पोशाक.JPG", "images/लाल_पोशाक.jpg"),
        ("images/लाल_पोशाक", "images/लाल_पोशाक.jpg"),
        ("images/été.jpg", "images/Été.JPEG"),
        ("images/e\u0301te\u0301.jpeg", "images/Été.JPEG"),
        ("sub%20folder\\1.webp", "Sub Folder/1.webp"),
        ("photos/images/0.png", "images/0.png"),
        ("C:\\Users\\me\\photos\\images\\0.png", "images/0.png"),
        ("D:\\shop\\images\\0.png", "images/0.png"),
        ("/data/images/0.png", "images/0.png"),
    ],
)
def test_the_file_that_is_meant(base: Path, written: str, meant: str) -> None:
    assert FileFinder(base)(str(base / written) if written[0] != "/" else written) == meant


def test_without_a_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    for empty in ("", "."):
        assert FileFinder(empty)("Images\\0.PNG") == "images/0.png"
    assert FileFinder("images/")("images/0.PNG") == "0.png"


@pytest.mark.parametrize(
    "written",
    [
        "images/gone.png",
        "images/two.webp",  # two.png or two.jpg
        "images/TWIN.PNG",
        "images/n.png",
        "0.png",
        "other/0.png",
        "images",
        "../photos/images/0.PNG",
        "images/0.txt",
        "https://example.org/images/0.png",
        "images/0.png\0",
        "",
    ],
)
def test_none_is_guessed(base: Path, written: str) -> None:
    path = written if written.startswith("https") else f"{base}/{written}"
    assert FileFinder(base)(path) is None


def test_a_folder_is_looked_up_again_by_the_next_audit(base: Path) -> None:
    assert FileFinder(base)(str(base / "images/new.jpg")) is None
    (base / "images/new.PNG").write_bytes(b"x")
    assert FileFinder(base)(str(base / "images/new.jpg")) == "images/new.PNG"


def test_what_can_not_be_seen_is_written_as_codes() -> None:
    message = misspelling("p/\u200bimages/0.png", "images/0.png")
    assert "image 'p/\\u200bimages/0.png' not found" in message
    assert "'images/0.png' is there" in message
    assert "`fix`" in message
    assert "Unicode" in misspelling("p/" + unicodedata.normalize("NFC", NFD), NFD)
    assert "Unicode" not in misspelling("p/a.PNG", "a.png")
