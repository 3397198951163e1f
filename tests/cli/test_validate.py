"""mismatch.audit and `mismatch validate`: everything that is wrong, in one run, each with its file and line."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import InputError
from tests.support import commands

ROWS = [
    ("image_path", "text", "label"),
    ("red.png", "red shirt", "1"),
    ("green.png", "green shirt", "yes"),
    ("green.png", "green bag", "1.5"),
    ("blue.png", " ", "0"),
    ("gone.png", "a\nblue bag", "0"),
    ("cut.jpg", "grey noise", "1"),
    ("lie.jpg", "grey noise", "0"),
    ("red.png", "red", "comma", "1"),
    ("blue.png", "blue shoe", "0"),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, colour_images: Path) -> Any:
    """Run the command in the folder of the images."""
    monkeypatch.chdir(colour_images)
    return lambda *args: commands.run("validate", *args)


def test_everything_wrong_is_named_with_its_line_in_one_run(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), ROWS)
    write_rows(
        Path("val.csv"), [("image_path", "caption"), ("red.png", "red"), ("absent.png", "green")]
    )
    result = run("train.csv", "val.csv")
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    expected = {
        "train.csv:3: ": "label 'yes' is neither 0 nor 1",
        "train.csv:4: ": "label '1.5' is neither 0 nor 1",
        "train.csv:5: ": "the text is empty",
        "train.csv:6: ": "gone.png",
        "train.csv:8: ": "cut.jpg",
        "train.csv:9: ": "lie.jpg",
        "train.csv:10: ": "4 fields where the header has 3",
        "val.csv:1: ": (
            "columns 'text', 'label' are missing; found 'image_path', 'caption'; rename 'caption'"
            " to 'text'"
        ),
        "val.csv:3: ": "absent.png",
    }
    found = [line for line in lines if line.startswith(("train.csv:", "val.csv:"))]
    assert len(found) == len(expected)
    for line, (place, words) in zip(found, expected.items(), strict=True):
        assert line.startswith(place)
        assert words in line
    assert lines[-1] == "not fit to train on: 9 problems, 9 of 11 rows can't be used"
    assert result.stderr == ""


def test_good_files_pass_and_their_labels_are_counted(run: Any, write_rows: Any) -> None:
    Image.effect_noise((40, 40), 80).save("large.png")
    write_rows(
        Path("train.csv"),
        [
            ("image_path", "text", "label"),
            *[("large.png", f"red {i}", int(i < 150)) for i in range(600)],
        ],
    )
    result = run("train.csv")
    assert result.exit_code == 0, result.output
    found = result.stdout.splitlines()
    assert found[5].startswith("  blind     texts 0.5")
    assert found == [
        "train.csv",
        "  rows      600",
        "  labels    0 (mismatch): 450 (75.0%), 1 (match): 150 (25.0%)",
        "  images    1 distinct",
        "  texts     600 distinct",
        found[5],
        "  problems  0",
        "",
        "warning: train.csv: 600 training rows: enough to begin with; 5,000 and more work best",
        "fit to train on: 600 rows, no problems",
    ]


def test_json_for_programs(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), ROWS)
    result = run("train.csv", "--json", "--num-workers", "0")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    [file] = report["files"]
    assert (report["ok"], file["rows"], file["unusable_rows"], file["problem_count"]) == (
        False,
        9,
        7,
        7,
    )
    assert file["labels"] == {"0": 4, "1": 2}
    assert (file["images"], file["bad_images"]) == (6, 3)
    assert [problem["line"] for problem in file["problems"]] == [3, 4, 5, 6, 8, 9, 10]


def test_the_rest_is_counted_beyond_max_problems(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), ROWS)
    result = run("train.csv", "--max_problems", "2")
    found = [line for line in result.stdout.splitlines() if re.match(r"train\.csv:\d", line)]
    assert found == [
        (
            "train.csv:3: label 'yes' is neither 0 nor 1 (1 = the text describes the image); the"
            " label map yes/no reads it"
        ),
        "train.csv:5: the text is empty",
        found[2],
        found[3],
        found[4],
    ]
    assert [line.partition(" ")[0] for line in found[2:]] == [
        "train.csv:6:",
        "train.csv:8:",
        "train.csv:10:",
    ]
    assert "train.csv: … and 1 more wrong label" in result.stdout
    assert "train.csv: … and 1 more image that can't be decoded" in result.stdout


def test_a_wrong_base_path_is_guessed(run: Any, write_rows: Any) -> None:
    write_rows(
        Path("train.csv"),
        [("image_path", "text", "label"), ("red.png", "red", 1), ("blue.png", "red", 0)],
    )
    result = run("train.csv", "--image-base-path", "photos")
    assert result.exit_code == 1
    assert (
        "the image base path is probably wrong; the first was looked for at"
        f" {Path('photos/red.png').absolute()}" in result.stdout
    )
    assert result.stdout.count("not found; check its path and the folder") == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "CSV"),
        (["absent.csv"], "absent.csv: No such file"),
        (["."], "a CSV, TSV, JSONL, Parquet, Arrow or webdataset file, or a folder"),
        (["a.csv", "--max-problems", "0"], "max-problems"),
    ],
)
def test_what_can_not_be_opened_or_asked_exits_with_2(
    run: Any, args: list[str], words: str
) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_real_photos_pass(run: Any, fashion: Path) -> None:
    result = run(str(fashion / "val.csv"), "--image-base-path", str(fashion))
    assert result.exit_code == 0, result.output
    assert "fit to train on: 1,406 rows, no problems" in result.stdout


def test_the_report_goes_to_a_file_too(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), ROWS)
    result = run("train.csv", "--report", "report.json")
    assert result.exit_code == 1
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report == json.loads(run("train.csv", "--json").stdout)
    assert report["files"][0]["problem_count"] == 7
    assert result.stdout.splitlines()[-1].startswith("not fit to train on: 7 problems")
    assert run("train.csv", "--report", "no/such/report.json").exit_code == 2


def pictures(folder: Path, count: int) -> None:
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 80), Image.Resampling.BICUBIC).save(
            folder / f"{number}.png"
        )


def table(path: Path, rows: list[tuple[str, str, int]], write_rows: Any) -> None:
    write_rows(
        path,
        [
            ("image_path", "text", "label", "sku"),
            *((image, text, str(label), f"s{at}") for at, (image, text, label) in enumerate(rows)),
        ],
    )


def read(name: str) -> list[dict[str, str]]:
    with Path(name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_rows: Any) -> Any:
    """train.csv with a repeated row, a contradiction, a broken image and two leaks, one of them
    encoded again; test.csv.
    """
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, 20)
    with Image.open("1.png") as image:
        image.save("again.jpg", quality=60)
    Path("broken.png").write_bytes(b"x")
    train = [(f"{number}.png", f"text {number}", number % 2) for number in range(12)]
    train += [
        ("3.png", "text 3", 1),
        ("4.png", "text 4", 1),
        ("broken.png", "text", 1),
        ("again.jpg", "text again", 1),
        ("19.png", "a &amp; b", 0),
    ]
    table(Path("train.csv"), train, write_rows)
    table(
        Path("test.csv"),
        [("1.png", "text", 1), ("19.png", "text", 0), ("18.png", "text", 1)],
        write_rows,
    )
    return lambda *args: commands.run("validate", *args)


def test_leaks_and_left_overs_are_warnings(audited: Any) -> None:
    result = audited("train.csv", "test.csv", "--report", "report.json")
    assert result.exit_code == 1, result.output
    assert "warning: train.csv and test.csv share 2 images" in result.stdout
    assert (
        "warning: 1 image of train.csv (line 17) has a near-duplicate in test.csv" in result.stdout
    )
    assert (
        "warning: train.csv: 1 text holds HTML: tags or entities; take them out (line 18: 'a"
        " &amp; b')" in result.stdout
    )
    report = json.loads(Path("report.json").read_text())
    assert report["leaks"] == [{"files": ["train.csv", "test.csv"], "images": ["again.jpg"]}]
    assert {finding["kind"]: finding["lines"] for finding in report["files"][0]["findings"]} == {
        "markup": [18],
        "near-duplicates": [17],
    }


def test_fix_loses_no_row(audited: Any) -> None:
    result = audited("train.csv", "test.csv", "--fix", "fixed.csv")
    assert result.exit_code == 1
    assert "10 rows written to fixed.csv, 7 to fixed.rejected.csv" in result.stderr
    fixed, rejected = (read(name) for name in ("fixed.csv", "fixed.rejected.csv"))
    assert {row["sku"]: row["reason"] for row in rejected} == {
        "s1": "its image, or a near-duplicate, stands in test.csv",
        "s4": "the same image and text stand once as match and once as mismatch",
        "s12": "repeats line 5: same image, text and label",
        "s13": "the same image and text stand once as match and once as mismatch",
        "s14": rejected[4]["reason"],
        "s15": "its image, or a near-duplicate, stands in test.csv",
        "s16": "its image, or a near-duplicate, stands in test.csv",
    }
    assert "broken.png" in rejected[4]["reason"]
    every = {tuple(row.values()) for row in read("train.csv")}
    assert {tuple(row.values()) for row in fixed} | {
        tuple(row.values())[:4] for row in rejected
    } == every
    assert audited("fixed.csv", "test.csv").exit_code == 0


def test_strict_takes_warnings_seriously(audited: Any) -> None:
    assert audited("test.csv").exit_code == 0
    assert audited("test.csv", "--strict").exit_code == 1


def test_without_the_extra_it_says_what_was_not_looked_for(
    audited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mismatch.jobs.audit.AUDIT", ("no_such_package",))
    result = audited("train.csv", "test.csv")
    assert "near-duplicate" not in result.stdout
    assert result.stderr.startswith(
        "not looked for: near-duplicate images, and labels that texts or images alone tell; that"
        " needs pip install"
    )


def test_each_of_several_images_is_checked(run: Any, write_rows: Any) -> None:
    write_rows(
        Path("train.csv"),
        [
            ("photo", "text", "label"),
            ("red.png; green.png", "red", "yes"),
            ("red.png;gone.png", "red", "no"),
            ("../a.png", "b", "no"),
        ],
    )
    result = run(
        "train.csv",
        "--image-column",
        "photo",
        "--label-map",
        "yes/no",
        "--multi-image",
        "all",
        "--image-base-path",
        ".",
    )
    assert result.exit_code == 1
    found = [line for line in result.stdout.splitlines() if line.startswith("train.csv:")]
    assert [line[:40] for line in found] == [
        "train.csv:3: image 'gone.png' not found;",
        "train.csv:3: label 0 of 2 images does no",
        "train.csv:4: image '../a.png' leaves the",
    ]
    assert "3 distinct" in result.stdout


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_other_formats(run: Any, kind: str) -> None:
    rows = {"image_path": ["red.png", "gone.png"], "text": ["red", "blue"], "label": [1, 0]}
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(
            pytest.importorskip("pyarrow").table(rows), "rows.parquet"
        )
    else:
        Path("rows.jsonl").write_text(
            "".join(
                json.dumps(dict(zip(rows, values, strict=True))) + "\n"
                for values in zip(*rows.values(), strict=True)
            )
        )
    result = run(f"rows.{kind}")
    assert result.exit_code == 1
    assert (
        f"rows.{kind}:{'row ' if kind == 'parquet' else ''}2: image 'gone.png' not found"
        in result.stdout
    )


def test_texts_over_the_context_are_named_with_what_is_lost(run: Any, write_rows: Any) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    write_rows(
        Path("train.csv"),
        [("image_path", "text", "label"), ("red.png", "red", "1"), ("blue.png", words, "0")],
    )
    result = run("train.csv", "--backbone", "hf-clip:tiny", "--strict", "--report", "report.json")
    assert result.exit_code == 1
    [finding] = [
        finding
        for finding in json.loads(Path("report.json").read_text())["files"][0]["findings"]
        if finding["kind"] == "long"
    ]
    assert (finding["count"], finding["lines"]) == (1, [3])
    assert (
        "1 text is longer than the backbone's 77 tokens, up to 172; what is lost (line 3: '… "
        in finding["message"]
    )
    assert "long" not in [
        finding["kind"]
        for finding in json.loads(run("train.csv", "--json").stdout)["files"][0]["findings"]
    ]
    assert "backbone 'no-such' is unknown" in run("train.csv", "--backbone", "no-such").stderr


def test_fix_never_writes_over_the_input(audited: Any) -> None:
    before = Path("train.csv").read_bytes()
    result = audited("test.csv", "train.csv", "--fix", "train.csv")
    assert (result.exit_code, Path("train.csv").read_bytes()) == (2, before)
    assert "train.csv is the input, which would be lost" in result.stderr


def test_from_python_it_finds_what_the_command_finds(
    audited: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    report = mismatch.audit("train.csv", Path("test.csv"), fix="python.csv", report="python.json")
    assert capsys.readouterr() == ("", "")
    assert isinstance(report, mismatch.AuditReport)
    done = audited("train.csv", "test.csv", "--fix", "command.csv", "--json")
    assert json.loads(done.stdout) == report.to_dict()
    assert json.loads(Path("python.json").read_text()) == report.to_dict()
    assert report.fixed is not None
    assert (report.fixed.rows, report.fixed.rejected) == (10, 7)
    for ending in (".csv", ".rejected.csv"):
        written = Path(f"python{ending}").read_bytes()
        assert written == Path(f"command{ending}").read_bytes()
    assert (report.ok, report.doubtful, report.complete) == (False, True, True)
    assert {(one.path, one.kind, *one.lines) for one in report.findings} == {
        ("train.csv", "markup", 18),
        ("train.csv", "near-duplicates", 17),
    }
    assert repr(report) == (
        "<AuditReport: not fit to train on: 1 problem, 1 of 20 rows can't be used>"
    )


def test_from_python_on_tables(audited: Any) -> None:
    pandas = pytest.importorskip("pandas")
    train = pandas.read_csv("train.csv")
    report = mismatch.audit(train, read("test.csv"))
    assert [file.path for file in report.files] == ["DataFrame 1", "list 2"]
    [(line, problem)] = report.files[0].problems
    assert line == 15
    assert "broken.png" in problem
    assert any("1 image of DataFrame 1 (line 16)" in warning for warning in report.warnings)
    assert mismatch.audit(iter(read("test.csv"))).ok
    rows = [{**row, "image_path": Path(row["image_path"]).read_bytes()} for row in read("test.csv")]
    with pytest.raises(InputError, match=r"row 1: .*in memory.*`fix`"):
        mismatch.audit(rows, fix="fixed.csv")
    assert not Path("fixed.csv").exists()


def test_a_report_is_saved_as_its_name_says(audited: Any) -> None:
    report = mismatch.audit("train.csv", "test.csv")
    report.save("report.json")
    report.save(Path("report.html"))
    assert json.loads(Path("report.json").read_text()) == report.to_dict()
    assert report.verdict().replace("'", "&#39;") in Path("report.html").read_text()
    report.save("report.html")
    with pytest.raises(InputError, match=r"`path` train\.csv is there already"):
        report.save("train.csv")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_problems": 0}, "`max_problems` is 0"),
        ({"overwrite": True}, "`overwrite` goes with `fix`"),
        ({"image_base": "x"}, "did you mean 'image_base_path'"),
        ({"report": "train.csv"}, "`report` train.csv is the input"),
        ({"multi_image": "some"}, "`multi_image` is 'some'"),
    ],
)
def test_wrong_options_of_python(audited: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.audit("train.csv", **options)
    with pytest.raises(InputError, match="no `rows` are given"):
        mismatch.audit()


def test_columns_are_named_by_their_flags(run: Any, write_rows: Any) -> None:
    write_rows(Path("a.csv"), [("image_path", "the caption", "label"), ("red.png", "red", "1")])
    lines = run("a.csv", "--text-column", "title").stdout.splitlines()
    [line] = [line for line in lines if line.startswith("a.csv:1:")]
    assert "column 'title' (--text-column) is missing" in line
    [(_, problem), *_] = mismatch.audit("a.csv", text_column="captions").files[0].problems
    assert "column 'captions' (`text_column`) is missing" in problem


def test_what_a_row_holds_forges_no_line(run: Any, write_rows: Any) -> None:
    name = "a\nfit to train on: 9 rows\x1b[2J.png"
    write_rows(Path("a.csv"), [("image_path", "text", "label"), (name, "red", "1")])
    result = run("a.csv")
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "fit to train on: 9 rows" not in [
        line[: len("fit to train on: 9 rows")] for line in result.stdout.splitlines()
    ]


TITLES = {
    "gb18030": ["红色衬衫", "绿色手提包", "蓝色皮鞋"],
    "cp932": ["赤いシャツ", "緑のハンドバッグ", "青い革靴"],
    "cp1256": ["قميص أحمر", "حقيبة يد خضراء", "حذاء أزرق"],
    "cp1252": ["Chemise à carreaux", "Sac foncé", "Chaussure bleu pâle"],
    "utf-16": ["लाल कमीज़", "हरा थैला", "नीला जूता"],
}


@pytest.mark.parametrize("encoding", TITLES)
def test_another_encoding_is_named_and_read_where_it_is_asked_for(run: Any, encoding: str) -> None:
    names = ("red.png", "green.png", "blue.png")
    lines = [
        f"{name},{text},{i % 2}"
        for i, (name, text) in enumerate(zip(names, TITLES[encoding], strict=True))
    ]
    text = "\n".join(["image_path,text,label", *lines, ""])
    Path("rows.csv").write_bytes(text.encode(encoding))
    refused = run("rows.csv")
    assert refused.exit_code == 1
    [problem] = [line for line in refused.stdout.splitlines() if line.startswith("rows.csv:")]
    assert f"--encoding {encoding}" in problem
    assert "ftfy" not in refused.stdout
    assert "Cyrillic" not in refused.stdout
    for args in (("--fix", "out.csv"), ("--json",)):
        assert f"{encoding}" in run("rows.csv", *args).output
    assert not Path("out.csv").exists()
    result = run("rows.csv", "--encoding", encoding, "--fix", "out.csv")
    assert result.exit_code == 0, result.output
    assert Path("out.csv").read_text(encoding="utf-8").splitlines() == text.splitlines()
    with pytest.raises(InputError, match=f"`encoding='{encoding}'`"):
        mismatch.split("rows.csv", output_dir="parts")
    done = mismatch.audit("rows.csv", encoding=encoding)
    assert done.ok


def test_fix_rejects_lines_that_are_damaged(run: Any) -> None:
    good = "".join(f"red.png,rouge foncé {i},1\nblue.png,bleu foncé {i},0\n" for i in range(3))
    Path("rows.csv").write_bytes(
        b"image_path,text,label\n" + good.encode() + b"green.png,vert fonc\xe9,1\n"
    )
    result = run("rows.csv", "--fix", "out.csv")
    assert result.exit_code == 1, result.output
    [problem] = [line for line in result.stdout.splitlines() if line.startswith("rows.csv:")]
    assert problem.startswith("rows.csv:8: byte 0xe9 is not UTF-8")
    assert "--encoding cp1252" in problem
    assert len(read("out.csv")) == 6
    [rejected] = read("out.rejected.csv")
    assert rejected["raw"] == r"green.png,vert fonc\xe9,1"


def test_labels_that_a_program_made_floats_are_labels(run: Any, write_rows: Any) -> None:
    rows = [("image_path", "text", "label"), ("red.png", "red", "1.0"), ("blue.png", "blue", "0,0")]
    write_rows(Path("rows.csv"), rows)
    Path("rows.jsonl").write_text(
        '{"image_path":"red.png","text":"red","label":1.0}\n'
        '{"image_path":"blue.png","text":"blue","label":0.0}\n'
    )
    for name in ("rows.csv", "rows.jsonl"):
        assert run(name).exit_code == 0
