"""`mismatch predict`: the box, the CSV, and what it refuses."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import signal
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from benchmarks.hostile_pictures import jpeg_of_scans
from mismatch.io.locks import locked
from mismatch.jobs.output.tables import COLUMNS, ParquetTable
from mismatch.jobs.row_tables import RowWriter
from mismatch.reports.prediction_lines import prediction_lines
from mismatch.runtime import pipeline
from mismatch.runtime.predictor import Prediction, Predictor
from mismatch.runtime.preprocess import Preprocessor
from mismatch.specs import Calibration, ScoreSpec
from tests.support import commands
from tests.support.processes import command_line, ended, finished, started

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
    result = Prediction(
        "test_image.jpg",
        "Red leather handbag with gold hardware",
        0.87431,
        0.25,
        True,
        "match",
        "ok",
    )
    assert prediction_lines(result) == GOLDEN.splitlines()


@pytest.mark.parametrize(
    ("threshold", "shown"),
    [(0.5, "0.5"), (1.0, "1"), (0.0, "0"), (0.48713, "0.4871"), (0.25, "0.25")],
)
def test_the_box_shows_a_threshold_shortly(threshold: float, shown: str) -> None:
    lines = prediction_lines(Prediction("a.jpg", "b", 0.1, threshold, False, "mismatch", "ok"))
    assert lines[-4:-1] == [f"Threshold: {shown}", "Prediction: MISMATCH", "Is Match: False"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, colour_engine: Any, colour_images: Path) -> Any:
    """Run the command in the folder of the images; the model is the numpy engine, all
    else is real.
    """

    def load(path: str, provider: str, threads: int | None, **options: Any) -> Predictor:
        return Predictor(colour_engine(), **options)

    monkeypatch.setattr("mismatch.jobs.options.load", load)
    monkeypatch.chdir(colour_images)
    monkeypatch.delenv("CLIP_FINE_TUNED_MODEL_PATH", raising=False)
    return lambda *args: commands.run("predict", *args)


def test_one_pair(run: Any) -> None:
    result: Result = run("--model", "m", "--image", "red.png", "--text", "red shirt")
    assert result.exit_code == 0
    assert (
        "Image: red.png\nText: red shirt\nSimilarity Score: 0.7311\nThreshold: 0.5\nPrediction:"
        " MATCH\nIs Match: True\n" in result.output
    )


def test_the_base_path_holds_for_one_pair_too(
    run: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert (
        run(
            "--model",
            "m",
            "--image",
            "red.png",
            "--image-base-path",
            str(colour_images),
            "--text",
            "red",
        ).exit_code
        == 0
    )


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
    assert [row["prediction"] for row in out] == [
        "match",
        "mismatch",
        "error",
        "error",
        "error",
        "error",
        "error",
        "match",
    ]
    assert [row["is_match"] for row in out] == ["True", "False", "", "", "", "", "", "True"]
    assert [row["similarity_score"] for row in out][:3] == ["0.731058579", "0.0474258732", ""]
    assert [row["sku"] for row in out] == ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8"]
    assert [row["label"] for row in out][:2] == ["1", "yes"]
    assert (out[7]["text"], out[7]["status"]) == ("a\nblue bag", "ok")
    for row, word in zip(
        out[2:7], ["absent.png", "cut.jpg", "lie.jpg", "empty", "fields"], strict=True
    ):
        assert word in row["status"]
    assert "3 rows scored → out.csv; 5 could not be" in result.output


def test_images_decoded_in_processes_of_their_own_give_the_same_bytes(
    run: Any, write_rows: Any
) -> None:
    names = ("red.png", "absent.png", "cut.jpg", "lie.jpg", "whole.jpg", "blue.png")
    Path("bomb.jpg").write_bytes(jpeg_of_scans(64, 3_000))
    write_rows(
        Path("rows.csv"),
        [("image_path", "text"), *[(name, "red bag") for name in (*names, "bomb.jpg")]],
    )
    assert run("--model", "m", "--csv", "rows.csv", "--output", "here.csv").exit_code == 0
    assert (
        run(
            "--model", "m", "--csv", "rows.csv", "--output", "there.csv", "--isolate-decoding"
        ).exit_code
        == 0
    )
    assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()
    assert "image 'bomb.jpg' has more than 64 progressive scans" in Path("there.csv").read_text(
        encoding="utf-8"
    )


def test_other_columns_are_left_behind_unless_asked_for(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("sku", "text", "image_path"), ("A1", "red", "red.png")])
    assert (
        run(
            "--model", "m", "--csv", "rows.csv", "--output", "out.csv", "--threshold", "0.25"
        ).exit_code
        == 0
    )
    assert (
        Path("out.csv").read_text(encoding="utf-8")
        == ",".join(COLUMNS) + "\nred.png,red,0.731058579,0.25,True,match,ok\n"
    )


def test_keys_that_come_late_in_json_lines_are_kept_too(run: Any) -> None:
    rows = [{"image_path": "red.png", "text": "red"}] * 150 + [
        {"image_path": "red.png", "text": "red", "sku": "A151"}
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert (
        run(
            "--model", "m", "--csv", "rows.jsonl", "--output", "out.csv", "--keep-columns"
        ).exit_code
        == 0
    )
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        out = list(csv.DictReader(file))
    assert (out[0]["sku"], out[150]["sku"]) == ("", "A151")


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
    Path("rows.csv").write_text(
        'image_path,text\nred.png,red\nred.png,"never closed\n', encoding="utf-8"
    )
    older = ",".join(COLUMNS)
    Path("out.csv").write_text(older, encoding="utf-8")
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv")
    assert result.exit_code == 2
    assert "rows.csv:3" in result.stderr
    assert Path("out.csv").read_text(encoding="utf-8") == older
    assert sorted(path.name for path in Path().iterdir() if "out" in path.name) == ["out.csv"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "m"], "--image and --text"),
        (["--model", "m", "--image", "red.png"], "--text is missing"),
        (["--model", "m", "--text", "red"], "--image is missing"),
        (["--model", "m", "--csv", "rows.csv", "--text", "red"], "either"),
        (["--image", "red.png", "--text", "red"], "--model"),
        (
            ["--model", "m", "--image", "red.png", "--text", "red", "--output", "out.csv"],
            "go with --csv and --images",
        ),
        (["--model", "m", "--csv", "absent.csv"], "absent.csv"),
        (["--model", "m", "--csv", "rows.csv", "--output", "rows.csv"], "is the input"),
        (["--model", "m", "--image", "absent.png", "--text", "red"], "absent.png"),
        (
            ["--model", "m", "--image", "red.png", "--text", "red", "--threshold", "25"],
            "between 0 and 1",
        ),
        (["--model", "m", "--csv", "nocolumn.csv"], "image_path"),
    ],
)
def test_what_it_refuses_in_one_line(run: Any, args: list[str], words: str) -> None:
    Path("rows.csv").write_text("image_path,text\nred.png,red\n", encoding="utf-8")
    Path("nocolumn.csv").write_text("picture,text\nred.png,red\n", encoding="utf-8")
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_environment_names_the_model(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_FINE_TUNED_MODEL_PATH", "from-the-environment")
    assert run("--image", "red.png", "--text", "red").exit_code == 0


@pytest.mark.parametrize(
    "row",
    [["a\rb", "c"], ["a\r", '"q"'], ["a\r\nb", "x,y"], ["a\nb", ""], ["plain", "1"]],
    ids=repr,
)
def test_a_row_reads_back_as_written_carriage_returns_included(row: list[str]) -> None:
    file = io.StringIO(newline="")
    out = RowWriter(file)
    for _ in range(2):
        out.writerow(row)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [row, row]
    assert file.getvalue().endswith("\n")
    assert not file.getvalue().endswith("\r\n")


def test_a_text_with_a_carriage_return_does_not_break_the_output(run: Any, write_rows: Any) -> None:
    write_rows(
        Path("rows.csv"), [("image_path", "text"), ("red.png", "red\rshirt"), ("blue.png", "blue")]
    )
    assert run("--model", "m", "--csv", "rows.csv", "--output", "out.csv").exit_code == 0
    with open("out.csv", encoding="utf-8", newline="") as file:
        assert [row[:2] for row in csv.reader(file)] == [
            ["image_path", "text"],
            ["red.png", "red\rshirt"],
            ["blue.png", "blue"],
        ]


def test_one_text_that_is_cut_is_said_on_stderr(run: Any) -> None:
    result = run("--model", "m", "--image", "red.png", "--text", "red shirt shoe bag green blue")
    assert result.exit_code == 0
    assert (
        result.stderr
        == "1 text was longer than the backbone's 6 tokens and was scored without its end;"
        " --long-text chunk scores it piece by piece\n"
    )
    assert run("--model", "m", "--image", "red.png", "--text", "red shirt").stderr == ""


@pytest.mark.parametrize(
    ("args", "score", "said"),
    [
        ([], "0.7311", "without its end; --long-text chunk scores it piece by piece\n"),
        (["--long-text", "chunk"], "0.0474", "in pieces, the worst of which decides\n"),
        (["--long_text", "chunk-mean"], "0.2689", "in pieces, whose mean decides\n"),
    ],
)
def test_long_texts_are_scored_as_asked_and_counted(
    run: Any, write_rows: Any, args: list[str], score: str, said: str
) -> None:
    text = "red shirt bag shoe. blue shirt"
    one = run("--model", "m", "--image", "red.png", "--text", text, *args)
    assert f"Similarity Score: {score}\n" in one.stdout
    assert one.stderr == f"1 text was longer than the backbone's 6 tokens and was scored {said}"
    write_rows(
        Path("rows.csv"),
        [("image_path", "text"), ("red.png", text), ("red.png", text), ("blue.png", "blue")],
    )
    many = run("--model", "m", "--csv", "rows.csv", *args)
    scores = [
        round(float(row["similarity_score"]), 4) for row in csv.DictReader(io.StringIO(many.stdout))
    ]
    assert scores == [float(score), float(score), 0.7311]
    assert many.stderr == f"3 rows scored\n{one.stderr}"


def test_another_long_text_than_the_models_is_said_where_the_model_is_calibrated(
    run: Any, monkeypatch: pytest.MonkeyPatch, colour_engine: Any
) -> None:
    score = ScoreSpec("probability", 0.5, Calibration(1.0, 0.0, 90), long_text="chunk")
    monkeypatch.setattr(
        "mismatch.jobs.options.load",
        lambda path, provider, threads, **options: Predictor(colour_engine(score=score), **options),
    )
    args = ("--model", "m", "--image", "red.png", "--text", "red shirt bag shoe. blue shirt")
    assert run(*args).stderr.endswith("in pieces, the worst of which decides\n")
    assert run(*args, "--long-text", "truncate").stderr.endswith(
        "piece by piece; the model's calibration and threshold are of --long-text chunk\n"
    )


def test_kept_columns_that_clash_with_a_scores_name_get_another(run: Any, write_rows: Any) -> None:
    write_rows(
        Path("rows.csv"),
        [
            ("sku", "status", "text", "image_path", "input_status"),
            ("A1", "sold", "red", "red.png", "x"),
        ],
    )
    assert (
        run("--model", "m", "--csv", "rows.csv", "--output", "out.csv", "--keep-columns").exit_code
        == 0
    )
    with open("out.csv", encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert list(row) == [*COLUMNS, "sku", "input_input_status", "input_status"]
    assert (row["status"], row["input_input_status"], row["input_status"], row["sku"]) == (
        "ok",
        "sold",
        "x",
        "A1",
    )


COLOURS = ("red", "green", "blue")
MANY = [
    (f"{COLOURS[i % 3]}.png", f"{COLOURS[i % 2]} {'bag ' * (i % 3)}", str(i)) for i in range(20)
]


@pytest.fixture
def many(run: Any, write_rows: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """rows.csv in the working directory: twenty rows, which are five windows."""
    monkeypatch.setattr(pipeline, "WINDOW", 4)
    return write_rows(Path("rows.csv"), [("image_path", "text", "sku"), *MANY])  # type: ignore[no-any-return]


@pytest.fixture
def interrupt_in(monkeypatch: pytest.MonkeyPatch, colour_engine: Any) -> Any:
    """Interrupt the head in its N-th window; returns what puts it right. Its first call is that for
    its digest.
    """
    real = colour_engine.logits

    def interrupt_in(window: int) -> Any:
        calls: list[int] = []

        def logits(self: Any, images: Any, texts: Any) -> Any:
            calls.append(len(images))
            if len(calls) == window + 1:
                raise KeyboardInterrupt
            return real(self, images, texts)

        monkeypatch.setattr(colour_engine, "logits", logits)
        return lambda: monkeypatch.setattr(colour_engine, "logits", real)

    return interrupt_in


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("shard", [[], ["--shard", "2/2"]])
def test_a_run_that_was_interrupted_ends_the_same_to_the_byte(
    run: Any,
    many: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt_in: Any,
    colour_engine: Any,
    name: str,
    window: int,
    shard: list[str],
) -> None:
    # embeddings that depend on all that is encoded together, as torch's last digits do
    for tower in ("encode_images", "encode_texts"):
        alone = getattr(colour_engine, tower)
        monkeypatch.setattr(
            colour_engine,
            tower,
            lambda self, first, *rest, alone=alone: (
                alone(self, first, *rest) + np.float32(len(first) / 100)
            ),
        )
    args = ["--model", "m", "--csv", "rows.csv", "--keep-columns", *shard]
    assert run(*args, "--output", f"whole-{name}").exit_code == 0
    windows = 3 if shard else 5
    repair = interrupt_in(window)
    result = run(*args, "--output", name)
    if window > windows:
        assert result.exit_code == 0
    else:
        assert result.exit_code == 130
        kept = 4 * (window - 1)
        assert (
            f"{kept} rows are kept in {Path(name).resolve()}.part; continue with --resume"
            in result.stderr
        ) == (kept > 0)
        assert Path(f"{name}.part").exists() == Path(f"{name}.part.json").exists() == (kept > 0)
        assert not Path(name).exists()
        repair()
        looked: list[str] = []
        real = Preprocessor.__call__

        def prepare(self: Preprocessor, source: Any) -> Any:
            looked.append(source)
            return real(self, source)

        monkeypatch.setattr(Preprocessor, "__call__", prepare)
        again = run(*args, "--output", name, "--resume")
        assert again.exit_code == 0, again.output
        assert f"{10 if shard else 20} rows scored" in again.stderr
        assert len(looked) <= 3 * (windows - window + 1), "what is done is not decoded again"
    assert Path(name).read_bytes() == Path(f"whole-{name}").read_bytes()
    assert not [path for path in Path().iterdir() if ".part" in path.name]


def test_a_part_of_another_run_is_refused_in_one_line_that_names_it(
    run: Any, many: Path, monkeypatch: pytest.MonkeyPatch, interrupt_in: Any, colour_engine: Any
) -> None:
    base = ["--model", "m", "--csv", "rows.csv", "--output", "out.csv"]
    repair = interrupt_in(3)
    assert run(*base).exit_code == 130
    repair()
    part = Path("out.csv.part").read_bytes()
    for more, words in [
        (["--threshold", "0.25"], "--threshold (0.5 before, 0.25 now)"),
        (["--shard", "1/2"], "--shard (none before, 1/2 now)"),
        (["--keep-columns"], "--keep-columns"),
        (["--long-text", "chunk"], "--long-text (truncate before, chunk now)"),
        (["--image-base-path", str(Path.cwd())], "the images' folder ("),
        (["--batch-size", "3"], "--batch-size (16 before, 3 now)"),
    ]:
        result = run(*base, *more, "--resume")
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
        assert f"out.csv.part is of another run, which differs in {words}" in result.stderr
        assert "leave --resume out" in result.stderr
    with monkeypatch.context() as patch:
        real = colour_engine.logits
        patch.setattr(
            colour_engine, "logits", lambda self, images, texts: real(self, images, texts) + 0.01
        )
        assert "differs in the model;" in run(*base, "--resume").stderr, "a head of other weights"
    original = many.read_bytes()
    many.write_bytes(original.replace(b"green.png", b"blue.png", 1))
    assert "differs in the rows (" not in run(*base, "--resume").stderr
    assert "differs in the rows;" in run(*base, "--resume").stderr
    many.write_bytes(original)
    assert Path("out.csv.part").read_bytes() == part
    assert run(*base, "--resume", "--num-workers", "1").exit_code == 0


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_rows_in_another_encoding_are_resumed_to_the_byte(
    run: Any, many: Path, interrupt_in: Any, encoding: str
) -> None:
    text = many.read_text(encoding="utf-8").replace("shirt", "衬衫").replace("red", "红色")
    many.write_bytes(text.replace("红色.png", "red.png").encode(encoding))
    args = ["--model", "m", "--csv", "rows.csv", "--encoding", encoding, "--output"]
    assert run(*args, "whole.csv").exit_code == 0
    repair = interrupt_in(3)
    assert run(*args, "out.csv").exit_code == 130
    repair()
    other = "gb18030" if encoding == "gbk" else "utf-16-le"
    refused = run(*args, "out.csv", "--resume", "--encoding", other)
    assert refused.exit_code == 2
    again = run(*args, "out.csv", "--resume")
    assert again.exit_code == 0, again.output
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert "红色" in Path("out.csv").read_text(encoding="utf-8")


def test_a_fault_of_the_file_leaves_no_part(run: Any, many: Path) -> None:
    with many.open("a") as file:
        file.write('red.png,"never closed\n')
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv")
    assert result.exit_code == 2
    assert not [path for path in Path().iterdir() if "out" in path.name]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--resume"], "needs an --output that is a file"),
        (["--resume", "--output", "/dev/null"], "needs an --output that is a file"),
        (["--resume", "--output", "out.parquet"], "Parquet is written whole"),
        (["--resume", "--output", "out.csv", "--top", "3"], "nothing to resume"),
        (["--resume", "--output", "out.csv", "--sort", "score"], "nothing to resume"),
        (["--shard", "3/2"], "is not a shard"),
        (["--top", "0"], "--top"),
        (["--sort", "text"], "--sort"),
        (["--output", "."], "is a folder"),
    ],
)
def test_what_it_refuses_of_many_rows(run: Any, many: Path, args: list[str], words: str) -> None:
    result = run("--model", "m", "--csv", "rows.csv", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_shards_joined_are_the_whole(run: Any, many: Path) -> None:
    args = ["--model", "m", "--csv", "rows.csv", "--keep-columns"]
    whole = run(*args).stdout.splitlines()
    parts = [run(*args, "--shard", f"{i}/3").stdout.splitlines() for i in (1, 2, 3)]
    assert [len(part) for part in parts] == [8, 8, 7]
    assert [part[0] for part in parts] == [whole[0]] * 3
    assert [line for i in range(7) for part in parts for line in part[1:][i : i + 1]] == whole[1:]


def test_the_three_formats_say_the_same(run: Any, many: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with many.open("a") as file:
        file.write("absent.png,red,x\n")
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert (
            run("--model", "m", "--csv", "rows.csv", "--keep-columns", "--output", name).exit_code
            == 0
        )
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert parquet.read_table("out.parquet").to_pylist() == lines
    with Path("out.csv").open(newline="") as file:
        for row, typed in zip(csv.DictReader(file), lines, strict=True):
            assert list(row) == list(typed)
            assert row["similarity_score"] == (
                "" if typed["similarity_score"] is None else f"{typed['similarity_score']:.9g}"
            )
            assert row["is_match"] == ("" if typed["is_match"] is None else str(typed["is_match"]))
            assert row["sku"] == typed["sku"]


@pytest.mark.parametrize("top", [None, 1, 3, 20, 99])
def test_the_lowest_scores_come_first(run: Any, many: Path, top: int | None) -> None:
    with many.open("a") as file:
        file.write("absent.png,red,20\nblue.png,blue,21\n")
    args = ["--model", "m", "--csv", "rows.csv", "--keep-columns"]
    plain = list(csv.DictReader(io.StringIO(run(*args).stdout)))
    expected = sorted(
        plain,
        key=lambda row: (
            row["similarity_score"] == "",
            float(row["similarity_score"] or 0),
            int(row["sku"]),
        ),
    )
    result = run(*args, *(["--sort", "score"] if top is None else ["--top", str(top)]))
    assert list(csv.DictReader(io.StringIO(result.stdout))) == expected[:top]
    assert expected[-1]["sku"] == "20", "a row without a score is last"
    shown = "" if top is None else f", the {min(top, 22)} lowest"
    assert result.stderr == f"21 rows scored{shown}; 1 could not be: see their status\n"


def test_the_lowest_rows_are_found_in_bounded_memory(
    run: Any, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions that are alive at once, of 400 rows."""
    import weakref

    from mismatch.runtime import predictor as module

    class Counted(Prediction):
        """A prediction that can be watched."""

    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = [0]

    def counted(*args: Any) -> Any:
        value = Counted(*args)
        alive.add(value)
        most[0] = max(most[0], len(alive))
        return value

    monkeypatch.setattr(Counted, "__hash__", object.__hash__)
    monkeypatch.setattr(module, "Prediction", counted)
    with many.open("a") as file:
        file.writelines(f"red.png,blue,{i}\n" for i in range(400))
    for more in (["--top", "5"], ["--output", "out.csv"], []):
        most[0] = 0
        assert run("--model", "m", "--csv", "rows.csv", *more).exit_code == 0
        assert 4 <= most[0] <= 20


def counted_images(colour_engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the image tower will see."""
    counts: list[int] = []
    real = colour_engine.encode_images

    def encode_images(self: Any, pixels: Any) -> Any:
        counts.append(len(pixels))
        return real(self, pixels)

    monkeypatch.setattr(colour_engine, "encode_images", encode_images)
    return counts


def test_a_cache_is_asked_before_anything_is_encoded(
    run: Any, many: Path, monkeypatch: pytest.MonkeyPatch, colour_engine: Any
) -> None:
    args = ["--model", "m", "--csv", "rows.csv", "--cache", "cache"]
    first = run(*args)
    assert first.exit_code == 0
    images = counted_images(colour_engine, monkeypatch)
    assert run(*args).stdout == first.stdout
    assert images == []
    many.write_text(many.read_text() + "red.png,a new title,x\n")
    assert run(*args).stdout.startswith(first.stdout)
    assert images == []


def test_a_folder_of_images_with_titles(
    run: Any, interrupt_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("titles.tsv").write_text(
        "red.png\tred shirt\ngone.png\tred\nblue.png\tblue\n", encoding="utf-8"
    )
    result = run("--model", "m", "--images", ".", "--titles", "titles.tsv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["image_path"], row["similarity_score"]) for row in rows] == [
        ("red.png", "0.731058579"),
        ("gone.png", ""),
        ("blue.png", "0.731058579"),
    ]
    assert "gone.png" in rows[1]["status"]
    assert result.stderr.splitlines() == [
        "2 rows scored; 1 could not be: see their status",
        "4 images have no title and were not scored: cut.jpg, green.png, lie.jpg, whole.jpg",
        "1 title has no image: gone.png",
    ]
    for name in COLOURS:
        Path(f"{name}.txt").write_text(name)
    assert run("--model", "m", "--images", ".", "--output", "whole.csv").exit_code == 0
    assert [line.split(",")[:2] for line in Path("whole.csv").read_text().splitlines()[1:]] == [
        [f"{name}.png", name] for name in sorted(COLOURS)
    ]
    monkeypatch.setattr(pipeline, "WINDOW", 1)
    repair = interrupt_in(2)
    assert run("--model", "m", "--images", ".", "--output", "out.csv").exit_code == 130
    repair()
    assert run("--model", "m", "--images", ".", "--output", "out.csv", "--resume").exit_code == 0
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--titles", "t.csv"], "give either"),
        (["--csv", "rows.csv", "--titles", "t.csv"], "--titles goes with --images"),
        (["--csv", "rows.csv", "--images", "."], "give either"),
        (["--images", ".", "--image-base-path", "x"], "--image-base-path goes with --csv"),
        (["--images", "gone"], "gone is not a folder"),
        (["--images", ".", "--titles", "rows.csv", "--output", "rows.csv"], "is the input"),
    ],
)
def test_what_it_refuses_of_folders(run: Any, many: Path, args: list[str], words: str) -> None:
    result = run("--model", "m", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def wait_for_rows(folder: Path, rows: int, process: subprocess.Popen[str]) -> None:
    record = folder / "out.csv.part.json"
    while not record.exists() or json.loads(record.read_text())["counts"]["rows"] < rows:
        assert process.poll() is None, f"it ended before it was killed: {ended(process)}"
        time.sleep(0.002)


@pytest.mark.parametrize("cached", [False, True])
def test_a_process_that_is_killed_again_and_again_ends_the_same_to_the_byte(
    tiny_bundles: dict[str, Path], colour_images: Path, write_rows: Any, cached: bool
) -> None:
    """SIGKILL behind the first window, behind the third and as it starts, SIGTERM behind the
    fourth; then to the end.
    """
    texts = ["red shirt", "a blue bag with much more to say", "Größe 42, grün"]
    rows = [
        (f"{(*COLOURS, 'absent')[i % 4]}.png", f"{texts[i % 3]} {i % 50}")
        for i in range(7 * pipeline.WINDOW + 99)
    ]
    write_rows(colour_images / "rows.csv", [("image_path", "text"), *rows])
    args = ["--model", str(tiny_bundles["openclip"]), "--csv", "rows.csv", "--threads", "1"]
    predict = command_line("predict", *args)
    whole = finished([*predict, "--output", "whole.csv"], cwd=colour_images)
    assert whole.returncode == 0, whole.stderr
    predict += ["--output", "out.csv", "--resume", *(["--cache", "cache"] if cached else [])]
    for windows, number in [
        (1, signal.SIGKILL),
        (3, signal.SIGKILL),
        (0, signal.SIGKILL),
        (4, signal.SIGTERM),
    ]:
        with started(predict, cwd=colour_images) as process:
            wait_for_rows(colour_images, windows * pipeline.WINDOW, process)
            process.send_signal(number)
            code, said = ended(process)
        assert code == (-number if number == signal.SIGKILL else 143)
        assert not (colour_images / "out.csv").exists()
    assert "continue with --resume" in said
    with (colour_images / "out.csv.part").open("ab") as file:
        file.write(b"half a row,")
    done = finished(predict, cwd=colour_images)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        (
            f"{len(rows) - len(rows) // 4:,} rows scored → out.csv; {len(rows) // 4:,} could not"
            " be: see their status"
        ),
    )
    assert (colour_images / "out.csv").read_bytes() == (colour_images / "whole.csv").read_bytes()
    assert not list(colour_images.glob("*.part*"))


@pytest.mark.parametrize(("independent", "encoded"), [(True, 3), (False, 15)])
def test_windows_share_what_does_not_depend_on_its_batch(
    run: Any,
    many: Path,
    monkeypatch: pytest.MonkeyPatch,
    colour_engine: Any,
    independent: bool,
    encoded: int,
) -> None:
    """Twenty rows of three images in five windows, each of which has all three."""
    monkeypatch.setattr(colour_engine, "independent", independent)
    counts = counted_images(colour_engine, monkeypatch)
    assert run("--model", "m", "--csv", many, "--output", "out.csv").exit_code == 0
    assert sum(counts) == encoded


@pytest.mark.parametrize(
    ("mode", "said"),
    [("best", ["match", "error", "error"]), ("all", ["mismatch", "error", "error"])],
)
def test_a_row_of_several_images(run: Any, colour_images: Path, mode: str, said: list[str]) -> None:
    rows = [
        {"pics": ["red.png", "blue.png"], "title": "red", "id": 7},
        {"pics": ["red.png", "gone.png"], "title": "red"},
        {"pics": ["../x.png"], "title": "red"},
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = [
        "--image-column",
        "pics",
        "--text-column",
        "title",
        "--image-base-path",
        str(colour_images),
        "--multi-image",
        mode,
        "--keep-columns",
    ]
    result = run("--model", "m", "--csv", "rows.jsonl", *options, "--output", "out.jsonl")
    assert result.exit_code == 0, result.output
    out = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prediction"] for row in out] == said
    assert [(row["image_path"], row["id"]) for row in out] == [
        ("red.png;blue.png", "7"),
        ("red.png;gone.png", ""),
        ("../x.png", ""),
    ]
    assert "/gone.png' not found" in out[1]["status"]
    assert (
        out[2]["status"]
        == f"image '../x.png' leaves the image base path {colour_images}; allow outside images"
        " if it may lie elsewhere"
    )


def test_absolute_paths_hold_without_a_base_and_below_it(
    run: Any, colour_images: Path, write_rows: Any
) -> None:
    write_rows(Path("rows.csv"), [("image_path", "text"), (f"{colour_images}/red.png", "red")])
    (colour_images / "deep").mkdir()
    for options in (
        [],
        ["--image-base-path", "."],
        ["--image-base-path", "deep", "--allow-outside-images"],
    ):
        assert ",match,ok" in run("--model", "m", "--csv", "rows.csv", *options).stdout
    result = run("--model", "m", "--csv", "rows.csv", "--image-base-path", "deep")
    assert result.exit_code == 2
    assert "leaves the image base path deep; allow outside images" in result.stdout


@pytest.mark.parametrize("source", [["--images", "."], ["--image", "red.png", "--text", "red"]])
def test_options_about_columns_go_with_a_csv(run: Any, source: list[str]) -> None:
    result = run("--model", "m", *source, "--multi-image", "best")
    assert result.exit_code == 2
    assert "--multi-image" in result.stderr
    assert "go with --csv" in result.stderr


def test_a_part_of_other_columns_is_not_gone_on_with(run: Any, write_rows: Any) -> None:
    write_rows(
        Path("rows.csv"), [("image_path", "text", "title"), *[("red.png", "red", "blue")] * 3]
    )
    first = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv", "--resume")
    assert first.exit_code == 0
    second = run(
        "--model",
        "m",
        "--csv",
        "rows.csv",
        "--output",
        "out.csv",
        "--resume",
        "--text-column",
        "title",
    )
    assert second.exit_code == 0
    assert Path("out.csv").read_text(encoding="utf-8").count("red.png,blue,") == 3


def test_a_second_run_into_the_same_file_is_refused_before_a_model_is_loaded(
    run: Any, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked("out.csv"):
        monkeypatch.delattr("mismatch.jobs.options.load")
        result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        f"mismatch: error: can't write {Path('out.csv').resolve()}: process {os.getpid()} on "
    )
    assert not [path for path in Path().iterdir() if "out" in path.name]


def test_formulas_are_put_behind_an_apostrophe_where_that_is_asked_for(
    run: Any, write_rows: Any
) -> None:
    rows = write_rows(
        Path("rows.csv"),
        [("image_path", "text", "sku"), ("red.png", "=1+red", "-5"), ("red.png", "red", "@x")],
    )
    assert (
        run("--model", "m", "--csv", rows, "--output", "plain.csv", "--keep-columns").exit_code == 0
    )
    assert (
        run(
            "--model", "m", "--csv", rows, "--output", "safe.csv", "--keep-columns", "--safe-csv"
        ).exit_code
        == 0
    )
    plain, safe = (
        list(csv.DictReader(Path(name).read_text().splitlines()))
        for name in ("plain.csv", "safe.csv")
    )
    assert [row["text"] for row in plain] == ["=1+red", "red"]
    assert [(row["text"], row["sku"]) for row in safe] == [("'=1+red", "-5"), ("red", "'@x")]
    assert [row["similarity_score"] for row in plain] == [row["similarity_score"] for row in safe]
    refused = run("--model", "m", "--csv", rows, "--output", "out.jsonl", "--safe-csv")
    assert refused.exit_code == 2
    assert "--safe-csv goes with CSV" in refused.stderr


@pytest.mark.parametrize("failing", ["rows", "disk"])
def test_a_parquet_output_that_ends_in_an_error_says_one_line(
    tmp_path: Path, run: Any, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And pyarrow's writer says nothing when it is collected: here a warning of unraisable errors
    would fail the test.
    """
    pytest.importorskip("pyarrow.parquet")
    unclosed = "" if failing == "disk" else 'red.png,"never closed\n'
    Path("rows.csv").write_text(f"image_path,text\nred.png,red\n{unclosed}", encoding="utf-8")

    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "disk":
        monkeypatch.setattr(ParquetTable, "_flush", full)
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.parquet")
    gc.collect()
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert not [path for path in Path().iterdir() if "out" in path.name]


def test_what_pillow_warns_of_is_no_noise(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        said = (
            "Image size (94000000 pixels) exceeds limit of 89478485 pixels, could be decompression"
            " bomb DOS attack."
        )
        warnings.warn_explicit(
            said, Image.DecompressionBombWarning, "Image.py", 1, module="PIL.Image"
        )
        warnings.warn_explicit(
            "Corrupt EXIF data.", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin"
        )

    monkeypatch.setattr("mismatch.jobs.predict_file.long_texts_note", warn)
    Path("rows.csv").write_text("image_path,text\nred.png,red\n", encoding="utf-8")
    result = run("--model", "m", "--csv", "rows.csv", "--output", "out.csv")
    assert (result.exit_code, result.stderr.splitlines()) == (0, ["1 rows scored → out.csv"])


def test_a_name_that_is_no_text_is_written_by_its_codes(run: Any) -> None:
    folder = Path("odd")
    folder.mkdir()
    try:
        Path(os.fsdecode(b"odd/n\xff.png")).write_bytes(Path("red.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes text only")
    Path(os.fsdecode(b"odd/n\xff.txt")).write_text("red")
    Path("odd/a.png").write_bytes(Path("red.png").read_bytes())
    Path("odd/a.txt").write_text("red")
    for name in ("out.csv", "out.jsonl", "-"):
        result = run("--model", "m", "--images", "odd", "--output", name)
        assert result.exit_code == 0, result.output
        assert "udcff.png" in (
            result.stdout if name == "-" else Path(name).read_text(encoding="utf-8")
        )


@pytest.mark.parametrize(
    "rows", [("--image", "red.png", "--text", "red"), ("--csv", "rows.csv", "--output", "out.csv")]
)
def test_a_review_band_next_to_the_threshold_is_refused(run: Any, rows: tuple[str, ...]) -> None:
    Path("rows.csv").write_text("image_path,text\nred.png,red\n", encoding="utf-8")
    result = run("--model", "m", *rows, "--review-band", "0.1,0.3")
    assert result.exit_code == 2
    assert "--review-band from 0.1 to 0.3 does not hold the threshold 0.5000" in result.stderr
    assert not Path("out.csv").exists()
    result = run("--model", "m", *rows, "--review-band", "0.1,0.3", "--threshold", "0.2")
    assert result.exit_code == 0
