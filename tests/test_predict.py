"""`mismatch predict`: the box, the CSV, and what it refuses."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mismatch
from mismatch.cli import main
from mismatch.cli.predict import COLUMNS, RowWriter, box
from mismatch.runtime.predictor import Prediction, Predictor
from mismatch.specs import Calibration, ScoreSpec

GOLDEN = """\
==================================================
CLIP Mismatch Detection Result
==================================================
Image: test_image.jpg
Text: Red leather handbag with gold hardware
Similarity Score: 0.8743
Threshold: 0.25
Prediction: MATCH
Is Match: True
=================================================="""


def test_the_box_is_laid_out_as_ever() -> None:
    result = Prediction("test_image.jpg", "Red leather handbag with gold hardware", 0.87431, 0.25, True, "match", "ok")
    assert box(result) == GOLDEN


@pytest.mark.parametrize(("threshold", "shown"), [(0.5, "0.5"), (1.0, "1"), (0.0, "0"), (0.48713, "0.4871"), (0.25, "0.25")])
def test_the_box_shows_a_threshold_shortly(threshold: float, shown: str) -> None:
    assert f"\nThreshold: {shown}\nPrediction: MISMATCH\nIs Match: False\n" in box(Prediction("a.jpg", "b", 0.1, threshold, False, "mismatch", "ok"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, colour_engine: Any, colour_images: Path) -> Any:
    """Run the command in the folder of the images; the model is the numpy engine, all else is real."""

    def load(path: str, provider: str, threads: int | None, **options: Any) -> Predictor:
        return Predictor(colour_engine(), **options)

    monkeypatch.setattr(mismatch, "load", load, raising=False)
    monkeypatch.chdir(colour_images)
    monkeypatch.delenv("CLIP_FINE_TUNED_MODEL_PATH", raising=False)
    return lambda *args: CliRunner().invoke(main, ["predict", *args], prog_name="mismatch")


def test_one_pair(run: Any) -> None:
    result: Result = run("--model", "m", "--image", "red.png", "--text", "red shirt")
    assert result.exit_code == 0
    assert "Image: red.png\nText: red shirt\nSimilarity Score: 0.7311\nThreshold: 0.5\nPrediction: MATCH\nIs Match: True\n" in result.output


def test_the_base_path_holds_for_one_pair_too(run: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert run("--model", "m", "--image", "red.png", "--image-base-path", str(colour_images), "--text", "red").exit_code == 0


def test_good_rows_are_scored_and_bad_ones_marked(run: Any, write_rows: Any) -> None:
    rows = [
        ("image_path", "text", "label", "sku"),
        ("red.png", "red shirt", "1", "A1"),
        ("red.png", "blue shirt, 2 pieces", "yes", "A2"),
        ("absent.png", "red", "0", "A3"),
        ("cut.jpg", "red", "0", "A4"),
        ("lie.jpg", "red", "0", "A5"),
        ("red.png", "", "1", "A6"),
        ("red.png", "red", "1", "A7", "one too many"),
        ("blue.png", "a\nblue bag", "1.0", "A8"),
    ]
    write_rows(Path("rows.csv"), rows)
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv", "--keep-columns")
    assert result.exit_code == 0, result.output
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        out = list(csv.DictReader(file))
    assert tuple(out[0]) == (*COLUMNS, "label", "sku")
    assert [row["prediction"] for row in out] == ["match", "mismatch", "error", "error", "error", "error", "error", "match"]
    assert [row["is_match"] for row in out] == ["True", "False", "", "", "", "", "", "True"]
    assert [row["similarity_score"] for row in out][:3] == ["0.731058579", "0.0474258732", ""]
    assert [row["sku"] for row in out] == ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8"]
    assert [row["label"] for row in out][:2] == ["1", "yes"]
    assert (out[7]["text"], out[7]["status"]) == ("a\nblue bag", "ok")
    for row, word in zip(out[2:7], ["absent.png", "cut.jpg", "lie.jpg", "empty", "fields"], strict=True):
        assert word in row["status"]
    assert "3 rows scored → out.csv; 5 could not be" in result.output


def test_other_columns_are_left_behind_unless_asked_for(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("sku", "text", "image_path"), ("A1", "red", "red.png")])
    assert run("--model", "m", "--csv", "rows.csv", "--output", "out.csv", "--threshold", "0.25").exit_code == 0
    assert Path("out.csv").read_text(encoding="utf-8") == ",".join(COLUMNS) + "\nred.png,red,0.731058579,0.25,True,match,ok\n"


def test_without_output_the_csv_goes_to_standard_output(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("image_path", "text"), ("green.png", "green")])
    result = run("--model", "m", "--csv", "rows.csv")
    assert result.stdout == ",".join(COLUMNS) + "\ngreen.png,green,0.731058579,0.5,True,match,ok\n"
    assert result.stderr == "1 rows scored\n"


def test_when_no_row_can_be_scored_the_exit_code_says_so(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("image_path", "text"), ("absent.png", "green")])
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv")
    assert result.exit_code == 2
    assert "not one of its 1 rows could be scored" in result.stderr
    assert "absent.png" in Path("out.csv").read_text(encoding="utf-8")


def test_an_error_half_way_leaves_an_older_output_alone(run: Any) -> None:
    Path("rows.csv").write_text('image_path,text\nred.png,red\nred.png,"never closed\n', encoding="utf-8")
    Path("out.csv").write_text("older", encoding="utf-8")
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv")
    assert result.exit_code == 2
    assert "rows.csv:3" in result.stderr
    assert Path("out.csv").read_text(encoding="utf-8") == "older"
    assert sorted(path.name for path in Path().iterdir() if "out" in path.name) == ["out.csv"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "m"], "--image and --text"),
        (["--model", "m", "--image", "red.png"], "--text is missing"),
        (["--model", "m", "--text", "red"], "--image is missing"),
        (["--model", "m", "--csv", "rows.csv", "--text", "red"], "either"),
        (["--image", "red.png", "--text", "red"], "--model"),
        (["--model", "m", "--image", "red.png", "--text", "red", "--output", "out.csv"], "go with --csv"),
        (["--model", "m", "--csv", "absent.csv"], "absent.csv"),
        (["--model", "m", "--csv", "rows.csv", "--output", "rows.csv"], "is the input"),
        (["--model", "m", "--image", "absent.png", "--text", "red"], "absent.png"),
        (["--model", "m", "--image", "red.png", "--text", "red", "--threshold", "25"], "between 0 and 1"),
        (["--model", "m", "--csv", "nocolumn.csv"], "image_path"),
    ],
)
def test_what_it_refuses_in_one_line(run: Any, args: list[str], words: str) -> None:
    Path("rows.csv").write_text("image_path,text\nred.png,red\n", encoding="utf-8")
    Path("nocolumn.csv").write_text("image,text\nred.png,red\n", encoding="utf-8")
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_environment_names_the_model(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_FINE_TUNED_MODEL_PATH", "from-the-environment")
    assert run("--image", "red.png", "--text", "red").exit_code == 0


@pytest.mark.parametrize("row", [["a\rb", "c"], ["a\r", '"q"'], ["a\r\nb", "x,y"], ["a\nb", ""], ["plain", "1"]], ids=repr)
def test_a_row_reads_back_as_written_carriage_returns_included(row: list[str]) -> None:
    file = io.StringIO(newline="")
    out = RowWriter(file)
    for _ in range(2):
        out.writerow(row)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [row, row]
    assert file.getvalue().endswith("\n")
    assert not file.getvalue().endswith("\r\n")


def test_a_text_with_a_carriage_return_does_not_break_the_output(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("image_path", "text"), ("red.png", "red\rshirt"), ("blue.png", "blue")])
    assert run("--model", "m", "--csv", "rows.csv", "--output", "out.csv").exit_code == 0
    with open("out.csv", encoding="utf-8", newline="") as file:
        assert [row[:2] for row in csv.reader(file)] == [["image_path", "text"], ["red.png", "red\rshirt"], ["blue.png", "blue"]]


def test_one_text_that_is_cut_is_said_on_stderr(run: Any) -> None:
    result = run("--model", "m", "--image", "red.png", "--text", "red shirt shoe bag green blue")
    assert result.exit_code == 0
    assert result.stderr == "1 text was longer than the backbone's 6 tokens and was scored without its end; --long-text chunk scores it piece by piece\n"
    assert run("--model", "m", "--image", "red.png", "--text", "red shirt").stderr == ""


@pytest.mark.parametrize(
    ("args", "score", "said"),
    [
        ([], "0.7311", "without its end; --long-text chunk scores it piece by piece\n"),
        (["--long-text", "chunk"], "0.0474", "in pieces, the worst of which decides\n"),
        (["--long_text", "chunk-mean"], "0.2689", "in pieces, whose mean decides\n"),
    ],
)
def test_long_texts_are_scored_as_asked_and_counted(run: Any, write_rows: Any, args: list[str], score: str, said: str) -> None:
    text = "red shirt bag shoe. blue shirt"
    one = run("--model", "m", "--image", "red.png", "--text", text, *args)
    assert f"Similarity Score: {score}\n" in one.stdout
    assert one.stderr == f"1 text was longer than the backbone's 6 tokens and was scored {said}"
    write_rows(Path("rows.csv"), [("image_path", "text"), ("red.png", text), ("red.png", text), ("blue.png", "blue")])
    many = run("--model", "m", "--csv", "rows.csv", *args)
    scores = [round(float(row["similarity_score"]), 4) for row in csv.DictReader(io.StringIO(many.stdout))]
    assert scores == [float(score), float(score), 0.7311]
    assert many.stderr == f"3 rows scored\n{one.stderr}"


def test_another_long_text_than_the_models_is_said_where_the_model_is_calibrated(run: Any, monkeypatch: pytest.MonkeyPatch, colour_engine: Any) -> None:
    score = ScoreSpec("probability", 0.5, Calibration(1.0, 0.0, 90), long_text="chunk")
    monkeypatch.setattr(mismatch, "load", lambda path, provider, threads, **options: Predictor(colour_engine(score=score), **options))
    args = ("--model", "m", "--image", "red.png", "--text", "red shirt bag shoe. blue shirt")
    assert run(*args).stderr.endswith("in pieces, the worst of which decides\n")
    assert run(*args, "--long-text", "truncate").stderr.endswith("piece by piece; the model's calibration and threshold are of --long-text chunk\n")


def test_kept_columns_that_clash_with_a_scores_name_get_another(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("sku", "status", "text", "image_path", "input_status"), ("A1", "sold", "red", "red.png", "x")])
    assert run("--model", "m", "--csv", "rows.csv", "--output", "out.csv", "--keep-columns").exit_code == 0
    with open("out.csv", encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert list(row) == [*COLUMNS, "sku", "input_input_status", "input_status"]
    assert (row["status"], row["input_input_status"], row["input_status"], row["sku"]) == ("ok", "sold", "x", "A1")
