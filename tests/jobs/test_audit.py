"""mismatch.audit on whole files: what it says of pairs, of names, of pictures and their texts is true."""

from __future__ import annotations

import csv
import html
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.io.web_images import shown_url
from tests.support.commands import run

TEXTS = {
    "en": ["red leather bag", "blue denim jacket", "grilled salmon", "wooden chair", "tea pot"],
    "fr": ["sac en cuir", "veste bleue", "saumon grillé", "chaise en bois", "théière"],
    "zh": ["红色手提包", "蓝色牛仔夹克", "香煎三文鱼", "木椅", "茶壶"],
    "ja": ["赤い革のバッグ", "青いジャケット", "焼き鮭", "木の椅子", "急須"],
    "ar": ["حقيبة جلدية", "سترة زرقاء", "سلمون مشوي", "كرسي خشبي", "إبريق شاي"],
    "hi": ["लाल थैला", "नीली जैकेट", "भुना सामन", "लकड़ी की कुर्सी", "चायदानी"],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(name: str, seed: int) -> str:
    """Draw a picture like no other."""
    noise = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(path)
    return name


def write(name: str, rows: Sequence[Sequence[object]], header: str = "image_path,text") -> str:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return name


def read(name: str) -> list[dict[str, str]]:
    with Path(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def kinds(report: mismatch.AuditReport) -> dict[str, Any]:
    return {finding.kind: finding for finding in report.findings}


def pairs(language: str, count: int = 5) -> list[tuple[str, str]]:
    texts = TEXTS[language]
    return [
        (draw(f"{number}.png", number), f"{texts[number % 5]} {number // 5 or ''}".strip())
        for number in range(count)
    ]


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("header", ["image_path,text", "image_path,text,class"])
def test_pairs_without_labels_are_judged_as_pairs(language: str, header: str) -> None:
    rows = [(*row, "shop")[: header.count(",") + 1] for row in pairs(language)]
    report = mismatch.audit(write("pairs.csv", rows, header))
    [file] = report.files
    assert (report.ok, file.unusable, file.problem_count, file.labelled) == (True, 0, 0, False)
    assert (
        report.verdict() == "fit to make mismatches of: 5 rows, no problems; 5 rows without labels"
    )
    assert not any("label" in warning for warning in file.warnings)
    done = run("validate", "pairs.csv")
    assert done.exit_code == 0
    assert "  labels    none: " in done.stdout
    assert "can't be used" not in done.stdout


def test_pairs_with_faults_are_counted_and_fixed() -> None:
    rows = [*pairs("en"), ("gone.png", "a bag"), ("0.png", ""), ("0.png", TEXTS["en"][0])]
    write("pairs.csv", rows)
    report = mismatch.audit("pairs.csv", fix="fixed.csv")
    assert report.verdict() == (
        "not fit to make mismatches of: 2 problems, 2 of 8 rows can't be used"
    )
    assert "1 row repeats an earlier one: same image and text" in report.files[0].warnings
    assert [row["image_path"] for row in read("fixed.csv")] == [f"{at}.png" for at in range(5)]
    reasons = [row["reason"] for row in read("fixed.rejected.csv")]
    assert "gone.png" in reasons[0]
    assert reasons[1:] == ["the text is empty", "repeats line 2: same image and text"]
    assert mismatch.audit("fixed.csv").ok


@pytest.mark.parametrize("name", ["Label", "labels", "target", "is_match"])
def test_labels_under_another_name_are_no_pairs(name: str) -> None:
    rows = [(*row, 1) for row in pairs("en")]
    report = mismatch.audit(write("a.csv", rows, f"image_path,text,{name}"))
    [(line, problem)] = report.files[0].problems
    assert line == 1
    assert f"`label_column={name!r}`" in problem
    assert not report.ok


def test_labels_that_are_asked_for_have_to_be_there() -> None:
    write("a.csv", pairs("en"))
    assert not mismatch.audit("a.csv", label_column="is_right").ok
    assert not mismatch.audit("a.csv", label_map="yes/no").ok


def test_files_with_and_without_labels_are_told_apart() -> None:
    rows = pairs("en")
    write("a.csv", [(*row, at % 2) for at, row in enumerate(rows[:3])], "image_path,text,label")
    report = mismatch.audit("a.csv", write("b.csv", rows[3:]))
    assert report.ok
    assert "2 rows without labels" in report.verdict()
    assert report.verdict().startswith("fit to train on: 5 rows")
    assert any(warning.startswith("b.csv has no labels") for warning in report.warnings)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("column", ["picture", "foto", "图片", "image_file_name"])
def test_an_image_column_under_another_name_is_one_line(kind: str, column: str) -> None:
    rows = [
        {column: draw(f"{at}.png", at), "text": f"bag {at}", "label": at % 2} for at in range(4)
    ]
    if kind == "jsonl":
        Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        write("rows.csv", [list(row.values()) for row in rows], f"{column},text,label")
    done = run("validate", f"rows.{kind}")
    assert done.exit_code == 1
    assert done.stderr == ""
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"rows.{kind}:")]
    assert f"rows.{kind}:1: column 'image_path' is missing; found '{column}', 'text'" in line


def test_many_problems_of_one_kind_hide_no_other() -> None:
    lines = [json.dumps({"image_path": draw("a.png", 0), "text": "a bag", "label": 1})]
    lines += ['{"image_path": "a.png", "text": '] * 60
    lines += [
        json.dumps({"image_path": f"gone{at}.png", "text": f"bag {at}", "label": at % 2})
        for at in range(200)
    ]
    lines += [json.dumps({"image_path": "a.png", "text": "", "label": 1})]
    lines += [json.dumps({"image_path": "a.png", "text": "b", "label": "x"})]
    Path("rows.jsonl").write_text("\n".join(lines))
    [file] = mismatch.audit("rows.jsonl", max_problems=20).to_dict()["files"]
    groups = {group["kind"]: group for group in file["problem_kinds"]}
    counts = {kind: (group["count"], len(group["lines"])) for kind, group in groups.items()}
    assert counts == {"line": (60, 9), "not-found": (200, 9), "empty": (1, 1), "label": (1, 1)}
    assert groups["not-found"]["lines"] == list(range(62, 71))
    assert (file["problem_count"], len(file["problems"])) == (262, 20)
    done = run("validate", "rows.jsonl", "--max-problems", "20", "--report", "page.html")
    counted = "60 lines that can't be read, 200 images not found, 1 row with an empty field"
    assert f"  problems  262: {counted}, 1 wrong label" in done.stdout
    assert "rows.jsonl: … and 191 more images not found" in done.stdout
    page = html.unescape(Path("page.html").read_text(encoding="utf-8"))
    assert "<h4>200 images not found</h4>" in page
    assert "… and 51 more lines that can't be read" in page


SPELLINGS = [
    ("images\\0.png", "images/0.png"),
    ("Images/0.PNG", "images/0.png"),
    ("images/my%20photo.png", "images/my photo.png"),
    ("images/A&amp;B.png", "images/A&B.png"),
    ("images/0", "images/0.png"),
    ("images/0.png ", "images/0.png"),
    (" images/0.png", "images/0.png"),
    ("\u200bimages/0.png", "images/0.png"),
    (
        unicodedata.normalize("NFC", "images/niño.png"),
        unicodedata.normalize("NFD", "images/niño.png"),
    ),
    ("images/红色.PNG", "images/红色.png"),
    ("images/%E8%B5%A4.png", "images/赤.png"),
    ("images\\حقيبة.png", "images/حقيبة.png"),
    ("images/थैला", "images/थैला.png"),
]


@pytest.mark.parametrize(("written", "meant"), SPELLINGS)
def test_the_file_that_is_meant_is_named_and_written(written: str, meant: str) -> None:
    draw(meant, 3)
    draw("images/other.png", 4)
    rows = [(written, "a bag", "1", "x"), ("images/other.png", "a hat", "1", "y")]
    write("a.csv", [*rows, ("images/other.png", "a coat", "0", "z")], "image_path,text,label,sku")
    report = mismatch.audit("a.csv", image_base_path=".", fix="fixed.csv")
    [group] = report.files[0].problem_groups
    [(line, message)] = group.problems
    assert (group.kind, line) == ("misspelt", 2)
    assert f"'{meant}' is there" in message
    assert "`fix` writes it" in message
    assert "base path" not in " ".join(report.files[0].warnings)
    assert [(row["image_path"], row["sku"]) for row in read("fixed.csv")] == [
        (meant, "x"),
        ("images/other.png", "y"),
        ("images/other.png", "z"),
    ]
    assert mismatch.audit("fixed.csv", image_base_path=".").ok
    done = run("validate", "a.csv", "--image-base-path", ".")
    assert done.exit_code == 1
    assert "--fix writes it" in done.stdout


def test_a_file_that_is_meant_is_checked_as_any_other() -> None:
    Path("cut.png").write_bytes(Path(draw("whole.png", 1)).read_bytes()[:300])
    draw("test.png", 2)
    rows = [("CUT.PNG", "a bag", 1), ("TEST.PNG", "a hat", 1), ("WHOLE.png", "a coat", 1)]
    write("a.csv", [*rows, ("whole.png", "a coat", 1)], "image_path,text,label")
    write("b.csv", [("test.png", "a hat", 1)], "image_path,text,label")
    report = mismatch.audit("a.csv", "b.csv", fix="fixed.csv")
    assert [(row["image_path"], row["text"]) for row in read("fixed.csv")] == [
        ("whole.png", "a coat")
    ]
    reasons = [row["reason"] for row in read("fixed.rejected.csv")]
    assert "can't be decoded" in reasons[0]
    assert "stands in b.csv" in reasons[1]
    assert "repeats line 4" in reasons[2]
    assert any("share 1 image" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org//a/b.jpg?w=1&h=2#x",
        "http://example.org/图片.png",
        "https://example.org/a b.jpg",
        "s3://bucket/key.png",
    ],
)
@pytest.mark.parametrize("base", ["", ".", "photos"])
def test_urls_stand_as_they_are(url: str, base: str) -> None:
    Path("photos").mkdir()
    write("a.csv", [(url, "a bag", 1), (url + "2", "a hat", 0)], "image_path,text,label")
    report = mismatch.audit("a.csv", image_base_path=base, report="page.html")
    [group] = report.files[0].problem_groups
    assert (group.kind, group.count) == ("address", 2)
    assert f"'{shown_url(url)}'" in group.problems[0][1]
    assert "not found" not in group.problems[0][1]
    assert not any("base path" in warning for warning in report.files[0].warnings)
    assert html.escape(shown_url(url), quote=False) in Path("page.html").read_text(encoding="utf-8")


def copied(name: str, of: str) -> str:
    with Image.open(of) as image:
        image.convert("RGB").save(name, quality=70)
    return name


@pytest.mark.parametrize("language", TEXTS)
def test_near_duplicates_are_shown_with_their_texts(language: str) -> None:
    rows = pairs(language)
    text = TEXTS[language][0]
    rows += [(copied("again.jpg", "0.png"), f"{text} 2")]
    report = mismatch.audit(write("a.csv", rows), report=["a.json", "a.html"])
    finding = kinds(report)["near-duplicates"]
    shown = [[(row.line, row.image, row.text) for row in group] for group in finding.groups]
    assert shown == [[(2, "0.png", text), (7, "again.jpg", f"{text} 2")]]
    assert "same-picture" not in kinds(report)
    [stored] = [
        one
        for one in json.loads(Path("a.json").read_text(encoding="utf-8"))["files"][0]["findings"]
        if one["kind"] == "near-duplicates"
    ]
    assert stored["groups"][0][1] == {"line": 7, "image": "again.jpg", "text": f"{text} 2"}
    assert f"  lines 2, 7: '{text}' / '{text} 2'" in run("validate", "a.csv").stdout
    page = Path("a.html").read_text(encoding="utf-8")
    assert f"<strong>{text}</strong>" in page
    assert f"<strong>{text} 2</strong>" in page


@pytest.mark.parametrize("language", TEXTS)
def test_one_picture_with_other_texts_is_a_finding_of_its_own(language: str) -> None:
    rows = [*pairs(language), (copied("again.jpg", "0.png"), TEXTS[language][2])]
    finding = kinds(mismatch.audit(write("a.csv", rows)))["same-picture"]
    assert (finding.count, finding.lines) == (2, [2, 7])
    assert repr(TEXTS[language][0]) in finding.message
    assert repr(TEXTS[language][2]) in finding.message


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("labelled", [False, True])
def test_texts_that_have_slid_by_one_row_are_named(language: str, labelled: bool) -> None:
    rows = pairs(language, 40)
    for at in range(4):
        copied(f"copy{at}.jpg", f"{at}.png")
        rows.insert(9 * at + 8, (f"copy{at}.jpg", rows[[0, 1, 2, 3][at]][1]))
    images, texts = [row[0] for row in rows], [row[1] for row in rows]
    texts = [texts[-1], *texts[:-1]]
    table = [(image, text, 1)[: 2 + labelled] for image, text in zip(images, texts, strict=True)]
    name = write("a.csv", table, "image_path,text,label" if labelled else "image_path,text")
    finding = kinds(mismatch.audit(name))["shift"]
    assert "the text of an image stands 1 row below it" in finding.message
    write("b.csv", rows)
    assert "shift" not in kinds(mismatch.audit("b.csv"))


def test_pictures_that_show_nothing_are_findings() -> None:
    rows = pairs("en")
    Image.new("RGB", (80, 80), "white").save("white.jpg")
    Image.new("RGB", (80, 80), (90, 90, 120)).save("grey.png")
    Image.new("RGBA", (80, 80), (200, 10, 10, 0)).save("clear.png")
    rows += [("white.jpg", "a sofa"), ("grey.png", "a lamp"), ("clear.png", "a vase")]
    report = mismatch.audit(write("a.csv", rows))
    assert {kind: one.lines for kind, one in kinds(report).items()} == {
        "blank": [7, 8],
        "transparent": [9],
    }
    assert report.ok


@pytest.mark.parametrize("text", ["nan", "None", "#N/A", "-"])
def test_texts_that_stand_for_none_are_findings(text: str) -> None:
    rows = [*pairs("en"), ("0.png", text)]
    finding = kinds(mismatch.audit(write("a.csv", rows)))["no-text"]
    assert (finding.count, finding.lines) == (1, [7])


def test_a_column_of_empty_labels_says_how_to_check_pairs() -> None:
    rows = [(*row, "") for row in pairs("en")]
    report = mismatch.audit(write("a.csv", rows, "image_path,text,label"))
    assert [group.words() for group in report.files[0].problem_groups] == ["5 wrong labels"]
    assert any("checked as pairs" in warning for warning in report.files[0].warnings)
