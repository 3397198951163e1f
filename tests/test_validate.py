"""`mismatch validate`: everything that is wrong, in one run, each with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mismatch.cli import main

ROWS = [
    ("image_path", "text", "label"),
    ("red.png", "red shirt", "1"),
    ("green.png", "green shirt", "yes"),
    ("green.png", "green bag", "1.0"),
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
    return lambda *args: CliRunner().invoke(main, ["validate", *args], prog_name="mismatch")


def test_everything_wrong_is_named_with_its_line_in_one_run(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), ROWS)
    write_rows(Path("val.csv"), [("image_path", "caption"), ("red.png", "red"), ("absent.png", "green")])
    result = run("train.csv", "val.csv")
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    expected = {
        "train.csv:3: ": "label 'yes' is neither 0 nor 1",
        "train.csv:4: ": "label '1.0' is neither 0 nor 1",
        "train.csv:5: ": "the text is empty",
        "train.csv:6: ": "gone.png",
        "train.csv:8: ": "cut.jpg",
        "train.csv:9: ": "lie.jpg",
        "train.csv:10: ": "4 fields where the header has 3",
        "val.csv:1: ": "columns 'text', 'label' are missing; found 'image_path', 'caption'; rename 'caption' to 'text'",
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
    write_rows(Path("train.csv"), [("image_path", "text", "label"), *[("red.png", f"red {i}", int(i < 150)) for i in range(600)]])
    result = run("train.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "train.csv",
        "  rows      600",
        "  labels    0 (mismatch): 450 (75.0%), 1 (match): 150 (25.0%)",
        "  images    1 distinct",
        "  texts     600 distinct",
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
    assert (report["ok"], file["rows"], file["unusable_rows"], file["problem_count"]) == (False, 9, 7, 7)
    assert file["labels"] == {"0": 4, "1": 2}
    assert (file["images"], file["bad_images"]) == (6, 3)
    assert [problem["line"] for problem in file["problems"]] == [3, 4, 5, 6, 8, 9, 10]


def test_the_rest_is_counted_beyond_max_problems(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), ROWS)
    result = run("train.csv", "--max_problems", "2")
    assert [line for line in result.stdout.splitlines() if line.startswith("train.csv:")] == [
        "train.csv:3: label 'yes' is neither 0 nor 1 (1 = the text describes the image); pass --label-map yes/no",
        "train.csv:4: label '1.0' is neither 0 nor 1 (1 = the text describes the image)",
        "train.csv: … and 5 more",
    ]


def test_a_wrong_base_path_is_guessed(run: Any, write_rows: Any) -> None:
    write_rows(Path("train.csv"), [("image_path", "text", "label"), ("red.png", "red", 1), ("blue.png", "red", 0)])
    result = run("train.csv", "--image-base-path", "photos")
    assert result.exit_code == 1
    assert f"--image-base-path is probably wrong; the first was looked for at {Path('photos/red.png').absolute()}" in result.stdout
    assert result.stdout.count("not found; check its path and --image-base-path") == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "CSV"),
        (["absent.csv"], "absent.csv: No such file"),
        (["."], "a CSV, TSV, JSONL or Parquet file, or a folder"),
        (["a.csv", "--max-problems", "0"], "max-problems"),
    ],
)
def test_what_can_not_be_opened_or_asked_exits_with_2(run: Any, args: list[str], words: str) -> None:
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


def test_each_of_several_images_is_checked(run: Any, write_rows: Any) -> None:
    write_rows(
        Path("train.csv"), [("photo", "text", "label"), ("red.png; green.png", "red", "yes"), ("red.png;gone.png", "red", "no"), ("../a.png", "b", "no")]
    )
    result = run("train.csv", "--image-column", "photo", "--label-map", "yes/no", "--multi-image", "all", "--image-base-path", ".")
    assert result.exit_code == 1
    found = [line for line in result.stdout.splitlines() if line.startswith("train.csv:")]
    assert [line[:40] for line in found] == ["train.csv:3: image 'gone.png' not found;", "train.csv:4: image '../a.png' leaves --i"]
    assert "3 distinct" in result.stdout


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_other_formats(run: Any, kind: str) -> None:
    rows = {"image_path": ["red.png", "gone.png"], "text": ["red", "blue"], "label": [1, 0]}
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(pytest.importorskip("pyarrow").table(rows), "rows.parquet")
    else:
        Path("rows.jsonl").write_text("".join(json.dumps(dict(zip(rows, values, strict=True))) + "\n" for values in zip(*rows.values(), strict=True)))
    result = run(f"rows.{kind}")
    assert result.exit_code == 1
    assert f"rows.{kind}:{'row ' if kind == 'parquet' else ''}2: image 'gone.png' not found" in result.stdout
