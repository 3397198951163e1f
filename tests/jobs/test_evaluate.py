"""`mismatch evaluate`: figures worked out by hand, rows that can't be scored, and the report's
files.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.data.pairs import source_digest
from mismatch.errors import InputError
from mismatch.io.atomic import finite
from mismatch.runtime.predictor import Predictor
from mismatch.specs import ReviewBand, ScoreSpec, SliceThresholds, Threshold
from tests.support import commands

# scores of the colour engine: the right colour, and another one
HIGH, LOW = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(3))
ROWS = [  # with its score at the right
    ("image_path", "text", "label"),
    ("red.png", "red shirt", "1"),  # HIGH
    ("green.png", "green shirt", "1"),  # HIGH
    ("blue.png", "blue bag", "0"),  # HIGH, a false match
    ("red.png", "blue bag", "0"),  # LOW
    ("blue.png", "green shoe", "0"),  # LOW
    ("blue.png", "red shoe", "1"),  # LOW, a false mismatch
    ("cut.jpg", "red", "0"),
    ("absent.png", "a\nred", "1"),
    ("red.png", "", "1"),
]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, colour_engine: Any, colour_images: Path, write_rows: Any
) -> Any:
    """Run the command in the folder of the images; the model is the numpy engine, all
    else is real.
    """

    def invoke(*args: str, score: ScoreSpec | None = None) -> Any:
        def load(path: str, provider: str, threads: int | None, **options: Any) -> Predictor:
            return Predictor(colour_engine(score=score), **options)

        monkeypatch.setattr("mismatch.jobs.options.load", load)
        return commands.run("evaluate", "--model", "m", "--csv", "rows.csv", *args)

    monkeypatch.chdir(colour_images)
    write_rows(Path("rows.csv"), ROWS)
    return invoke


def test_the_figures_are_those_worked_out_by_hand(run: Any) -> None:
    result = run("--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    metrics = report["metrics"]
    assert metrics["confusion_matrix"] == [[2, 1], [1, 2]]
    for name in (
        "accuracy",
        "precision",
        "recall",
        "f1",
        "mismatch_precision",
        "mismatch_recall",
        "mismatch_f1",
    ):
        assert metrics[name] == pytest.approx(2 / 3), name
    assert metrics["auroc"] == pytest.approx((4 + 4 / 2) / 9)  # of 9 pairs 4 won, 4 tied, 1 lost
    assert metrics["average_precision"] == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 6)
    assert metrics["log_loss"] == pytest.approx(
        -(2 * math.log(HIGH) + math.log(1 - HIGH) + 2 * math.log(1 - LOW) + math.log(LOW)) / 6,
        abs=1e-6,
    )
    assert (report["rows"], report["scored"], report["unscorable"]) == (9, 6, 3)
    assert [row["line"] for row in report["first_unscorable"]] == [8, 9, 11]
    assert report["threshold"] == {"value": 0.5, "source": "default"}


def test_the_report_for_people(run: Any) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "rows.csv: 6 rows scored by m",
        "threshold          0.5000  the default; none is stored with the model",
    ]
    assert (
        lines[3]
        == "                    value   95% interval (3 images drawn again, with all their rows)"
    )
    for name in (
        "accuracy",
        "match: precision",
        "match: recall",
        "match: F1",
        "mismatch: precision",
        "mismatch: recall",
        "mismatch: F1",
    ):
        assert any(
            re.fullmatch(rf"{name} +0\.6667  [01]\.\d{{4}}\.\.[01]\.\d{{4}}", line)
            for line in lines
        ), name
    assert "no blind baselines: blind baselines need 100 rows with both labels" in lines
    assert "is mismatch                    2           1" in lines
    assert lines[-4] == "3 of 9 rows could not be scored and are not in these figures:"
    for line, (place, words) in zip(
        lines[-3:],
        [
            ("rows.csv:8: ", "cut.jpg"),
            ("rows.csv:9: ", "absent.png"),
            ("rows.csv:11: ", "the text is empty"),
        ],
        strict=True,
    ):
        assert line.startswith(place)
        assert words in line


@pytest.mark.parametrize(
    ("args", "stored", "value", "words"),
    [
        (
            [],
            Threshold(0.04, "f1", 1234, "2026-03-04T05:06:07+00:00"),
            0.04,
            "stored with the model: best f1 on 1,234 rows, 2026-03-04",
        ),
        (
            ["--threshold", "0.9"],
            Threshold(0.04, "f1", 1234, "2026-03-04T05:06:07+00:00"),
            0.9,
            "given by --threshold",
        ),
        ([], None, 0.5, "the default; none is stored"),
    ],
)
def test_it_says_where_the_threshold_came_from(
    run: Any, args: list[str], stored: Threshold | None, value: float, words: str
) -> None:
    score = ScoreSpec("probability", 0.5, threshold=stored)
    assert words in run(*args, score=score).stdout
    report = json.loads(run(*args, "--json", score=score).stdout)
    assert report["threshold"]["value"] == value
    all_match = value < LOW
    assert report["metrics"]["confusion_matrix"] == (
        [[0, 3], [0, 3]] if all_match else [[3, 0], [3, 0]] if value > HIGH else [[2, 1], [1, 2]]
    )


def test_the_report_folder(run: Any) -> None:
    result = run("--report", "out/eval")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("out/eval").iterdir()) == [
        "predictions.csv",
        "report.html",
        "report.json",
    ]
    report = json.loads(Path("out/eval/report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert report["engine"] == {"engine": "numpy cpu"}
    with Path("out/eval/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows] == ["2", "3", "4", "5", "6", "7", "8", "9", "11"]
    assert [row["label"] for row in rows] == ["1", "1", "0", "0", "0", "1", "0", "1", "1"]
    assert [row["prediction"] for row in rows] == ["match"] * 3 + ["mismatch"] * 3 + ["error"] * 3
    assert float(rows[0]["similarity_score"]) == pytest.approx(HIGH, abs=1e-6)


@pytest.mark.parametrize(
    ("args", "matrix", "truncated", "said"),
    [
        (
            [],
            [[0, 1], [0, 1]],
            2,
            "without their end; --long-text chunk scores them piece by piece",
        ),
        (["--long-text", "chunk"], [[1, 0], [0, 1]], 0, "in pieces, the worst of which decides"),
    ],
)
def test_long_texts_are_counted_in_words_and_in_the_report(
    run: Any, write_rows: Any, args: list[str], matrix: Any, truncated: int, said: str
) -> None:
    rows = [
        ("red.png", "red shirt bag shoe. blue shirt", 0),
        ("red.png", "red shirt bag shoe. red bag", 1),
    ]
    write_rows(Path("rows.csv"), [("image_path", "text", "label"), *rows])
    result = run("--report", "out", *args)
    assert (
        f"2 texts were longer than the backbone's 6 tokens and were scored {said}"
        in result.stdout.splitlines()
    )
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert (report["long_texts"], report["truncated_texts"], report["long_text"]) == (
        2,
        truncated,
        args[-1] if args else "truncate",
    )
    assert report["metrics"]["confusion_matrix"] == matrix


def test_what_does_not_exist_is_null_in_json_and_a_dash_for_people(
    run: Any, write_rows: Any
) -> None:
    write_rows(
        Path("rows.csv"),
        [("image_path", "text", "label"), ("red.png", "red", 1), ("blue.png", "blue", 1)],
    )
    metrics = json.loads(run("--json", "--report", "out").stdout)["metrics"]
    assert metrics["auroc"] is None
    assert metrics["accuracy"] == 1.0
    assert (
        json.loads(Path("out/report.json").read_text(encoding="utf-8"))["metrics"]["auroc"] is None
    )
    assert "auroc               –" in run().stdout


def test_rows_without_a_usable_label_are_refused_before_a_model_is_loaded(
    run: Any, write_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(
        Path("rows.csv"),
        [
            ("image_path", "text", "label"),
            ("red.png", "red", "yes"),
            ("red.png", "red", 1),
            ("red.png", "red", "1.5"),
            ("red.png", "a", "b", 1),
        ],
    )
    result = run("--report", "out")
    assert result.exit_code == 2
    for words in ("rows.csv:2: label 'yes'", "rows.csv:4: label '1.5'", "rows.csv:5: 4 fields"):
        assert words in result.stderr
    assert "rows.csv:3" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("out").exists()


def test_only_the_first_ten_rows_that_can_not_be_scored_are_listed(
    run: Any, write_rows: Any
) -> None:
    write_rows(
        Path("rows.csv"),
        [("image_path", "text", "label"), ("red.png", "red", 1), *[("absent.png", "red", 0)] * 14],
    )
    lines = run().stdout.splitlines()
    assert [line.split(": ")[0] for line in lines[-11:-1]] == [
        f"rows.csv:{line}" for line in range(3, 13)
    ]
    assert lines[-1] == "… and 4 more"


def test_when_no_row_can_be_scored_it_says_so(run: Any, write_rows: Any) -> None:
    write_rows(Path("rows.csv"), [("image_path", "text", "label"), ("absent.png", "red", 1)])
    result = run("--json")
    assert result.exit_code == 2
    assert "not one of its 1 rows could be scored" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("content", "args", "words"),
    [
        ("image_path,text\nred.png,red\n", [], "column 'label' is missing"),
        ("image_path,text,label\n", [], "no rows under the header"),
        ("image_path,text,label\nred.png,red,1\n", ["--threshold", "7"], "between 0 and 1"),
        (
            "image_path,text,label\nred.png,red,1\n",
            ["--slice", "shop"],
            "rows.csv: there is no column 'shop'; found 'image_path', 'text', 'label'",
        ),
        (
            "image_path,text,label\nred.png,red,1\n",
            ["--kind-column", "kin"],
            "there is no column 'kin'",
        ),
        (
            "image_path,text,label\nred.png,red,0\n",
            ["--stress"],
            "--stress needs matched rows of one image",
        ),
        (
            "image_path,text,label\nred.png,red,1\n",
            ["--report", "red.png/out"],
            "--report red.png/out can't be created",
        ),
        ("image_path,text,label\nred.png,red,1\n", ["--report", "red.png"], "red.png"),
    ],
)
def test_what_it_refuses_in_one_line(run: Any, content: str, args: list[str], words: str) -> None:
    Path("rows.csv").write_text(content, encoding="utf-8")
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_real_bundle_gives_the_same_figures_as_its_predictions(
    tiny_bundles: dict[str, Path],
    colour_images: Path,
    write_rows: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through `mismatch.load`, with nothing replaced."""
    monkeypatch.chdir(colour_images)
    write_rows(Path("rows.csv"), ROWS)
    result = commands.run(
        "evaluate", "--model", tiny_bundles["openclip"], "--csv", "rows.csv", "--json"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    predictor = mismatch.load(tiny_bundles["openclip"])
    good = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:7]]
    hits = [
        prediction.is_match == (row["label"] == "1")
        for row, prediction in zip(good, predictor.predict_pairs(good), strict=True)
    ]
    assert report["metrics"]["accuracy"] == sum(hits) / 6
    assert report["threshold"]["value"] == 0.4321
    assert report["threshold"]["objective"] == "accuracy"


def test_rows_of_another_format_with_names_for_labels(run: Any) -> None:
    rows = [
        {"photo": image, "title": text, "verdict": {"1": "match", "0": "mismatch"}[label]}
        for image, text, label in ROWS[1:7]
    ]
    Path("rows.jsonl").write_text(
        "\n".join(
            map(json.dumps, [*rows, {"photo": "cut.jpg", "title": "red", "verdict": "match"}])
        )
    )
    options = [
        "--image-column",
        "photo",
        "--text-column",
        "title",
        "--label-column",
        "verdict",
        "--csv",
        "rows.jsonl",
    ]
    result = run(*options, "--label-map", "match/mismatch", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"]["confusion_matrix"] == [[2, 1], [1, 2]]
    assert "rows.jsonl:7: image 'cut.jpg'" in run(*options, "--label-map", "match/mismatch").stdout
    refused = run(*options)
    assert refused.exit_code == 2
    assert "rows.jsonl:1: label 'match' is neither 0 nor 1" in refused.stderr


@pytest.mark.parametrize(
    ("mode", "matrix"), [("best", [[0, 1], [0, 1]]), ("all", [[1, 0], [1, 0]])]
)
def test_rows_of_several_images(
    run: Any, write_rows: Any, mode: str, matrix: list[list[int]]
) -> None:
    write_rows(
        Path("rows.csv"), [ROWS[0], ("red.png;blue.png", "red", 1), ("red.png;blue.png", "blue", 0)]
    )
    result = run("--multi-image", mode, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"]["confusion_matrix"] == matrix


def test_slices_and_kinds(run: Any, write_rows: Any) -> None:
    kinds = ["match", "match", "hard", "random", "random", "match"]
    shops = ["a", "a", "a", "b", "b", "b"]
    write_rows(
        Path("rows.csv"),
        [
            (*ROWS[0], "kind", "shop"),
            *((*row, kind, shop) for row, kind, shop in zip(ROWS[1:7], kinds, shops, strict=True)),
        ],
    )
    report = json.loads(run("--json", "--slice", "shop").stdout)
    assert report["slices"]["shop"]["a"]["metrics"]["confusion_matrix"] == [[0, 1], [0, 2]]
    assert report["slices"]["shop"]["b"]["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert {
        kind: (part["mismatches"], part["metrics"]["mismatch_recall"])
        for kind, part in report["kinds"].items()
    } == {"hard": (1, 0), "random": (2, 1)}
    lines = run("--slice", "shop").stdout.splitlines()
    assert "by shop" in lines
    assert any(re.fullmatch(r"random +2  1\.0000  .*", line) for line in lines)


def test_thresholds_by_slice_decide(run: Any, write_rows: Any) -> None:
    score = ScoreSpec(
        "probability",
        0.5,
        threshold=Threshold(0.5, "f1", 9, "2026-03-04"),
        slices=SliceThresholds("shop", {"b": 0.9}, {"b": 40}),
    )
    write_rows(
        Path("rows.csv"),
        [
            (*ROWS[0], "shop"),
            *((*row, shop) for row, shop in zip(ROWS[1:7], "abbaaa", strict=True)),
        ],
    )
    report = json.loads(run("--json", score=score).stdout)
    assert report["metrics"]["confusion_matrix"] == [[3, 0], [2, 1]]
    assert report["threshold"]["slices"] == "shop"
    assert "thresholds by shop of their own" in run(score=score).stdout


def test_a_review_band_has_its_coverage(run: Any) -> None:
    report = json.loads(
        run("--json", score=ScoreSpec("probability", 0.5, review=ReviewBand(0.3, 0.8))).stdout
    )
    assert report["review"]["automatic"] == pytest.approx(3 / 6)
    assert report["review"]["risk"] == pytest.approx(1 / 3)
    assert (
        "review band 0.3000 to 0.8000: 50.0 % of the rows" in run("--review-band", "0.3,0.8").stdout
    )


def test_two_models_on_the_same_rows(run: Any) -> None:
    result = run("--against", "n", "--json", "--threshold", "0.001")
    found = json.loads(result.stdout)["against"]
    assert (found["model"], found["rows"], found["threshold"]) == ("n", 6, 0.5)
    assert found["mcnemar"] == {"only_first": 1, "only_second": 2, "p_value": 1.0}
    assert found["accuracy_difference"] == pytest.approx(-1 / 6)
    assert (found["auroc_difference"], found["delong_p_value"]) == (0, 1.0)
    lines = run("--against", "n").stdout.splitlines()
    assert "against n (its threshold 0.5000), on 6 rows that both scored" in lines


def test_stress_of_the_matched_rows(run: Any) -> None:
    result = run("--stress", "--json")
    found = json.loads(result.stdout)["stress"]
    assert (found["rows"], found["seed"]) == (3, 0)
    changes = {one["change"]: one for one in found["changes"]}
    assert (changes["colour"]["decided"], changes["colour"]["right"]) == (2, 1.0)
    assert changes["material"]["right"] is None
    assert changes["mirror"]["right"] == 1.0
    assert json.loads(run("--stress", "--json", "--stress-rows", "2").stdout)["stress"]["rows"] == 2
    assert json.loads(run("--stress", "--json").stdout)["stress"] == found
    shown = run("--stress").stdout
    assert re.search(r"^colour +mismatch +3  100\.0 % +34.2..100.0 ", shown, re.MULTILINE)
    assert "- Negation: " in shown


def test_a_brand_column_goes_with_stress(run: Any) -> None:
    result = run("--brand-column", "brand")
    assert result.exit_code == 2
    assert "--brand-column goes with --stress" in result.stderr


def test_without_matplotlib_a_report_is_refused_before_the_model_is_loaded(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mismatch.jobs.evaluation_result.find_spec", lambda name: None)
    monkeypatch.setattr(
        "mismatch.jobs.evaluate.open_predictor", lambda *_, **__: pytest.fail("a model was loaded")
    )
    result = run("--report", "out")
    assert result.exit_code == 2
    assert 'pip install "mismatch-clip[report]"' in result.stderr
    assert not Path("out").exists()


def test_where_the_figures_come_from_is_told(run: Any) -> None:
    made = json.loads(run("--json").stdout)["provenance"]
    assert made["weights"] == "c0ffee" * 8
    assert made["versions"]["mismatch"] == mismatch.__version__
    assert made["rows_sha256"] == source_digest("rows.csv")
    assert made["command"].split()[0] == "mismatch"


def test_the_second_model_is_opened_before_any_row_is_scored(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "mismatch.jobs.evaluate.open_predictor", lambda model, *_, **__: opened.append(model)
    )
    monkeypatch.setattr(
        "mismatch.jobs.evaluate.score_all",
        lambda *_, **__: pytest.fail(f"scored with {opened} open") if len(opened) < 2 else None,
    )
    run("--against", "n")
    assert opened == ["m", "n"]


def test_an_older_report_stays_whole_where_a_later_step_fails(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    assert run("--report", "out").exit_code == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}

    def fail(*_: object) -> None:
        raise InputError("they can't be compared")

    monkeypatch.setattr("mismatch.jobs.evaluate.compare_models", fail)
    assert run("--report", "out", "--against", "n", "--threshold", "0.9").exit_code == 2
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_a_report_replaces_no_predictions_but_its_own(run: Any, colour_engine: Any) -> None:
    pytest.importorskip("matplotlib")
    predictions = Path("out/predictions.csv")
    predictions.parent.mkdir()
    mismatch.predict_file(Predictor(colour_engine()), "rows.csv", predictions)
    before = predictions.read_bytes()
    result = run("--report", "out")
    assert (result.exit_code, predictions.read_bytes()) == (2, before)
    assert "predictions.csv is there already" in result.stderr
    predictions.unlink()
    for _ in range(2):
        assert run("--report", "out").exit_code == 0
    own = predictions.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        mismatch.predict_file(Predictor(colour_engine()), "rows.csv", predictions)
    assert predictions.read_bytes() == own


def test_a_review_band_next_to_the_threshold_is_refused(run: Any) -> None:
    result = run("--review-band", "0.1,0.3")
    assert result.exit_code == 2
    assert "--review-band from 0.1 to 0.3 does not hold the threshold 0.5000" in result.stderr


def rows_of(matches: int, mismatches: int, *, reverse: bool = False) -> list[tuple[Any, ...]]:
    """Rows that the engine decides rightly, but for one of each label."""
    good = [("red.png", "red bag", 1)] * (matches - 1) + [("blue.png", "red shoe", 1)]
    bad = [("red.png", "blue bag", 0)] * (mismatches - 1) + [("blue.png", "blue bag", 0)]
    rows = [(image, text, int(label != reverse)) for image, text, label in good + bad]
    return [("image_path", "text", "label"), *rows]


@pytest.mark.parametrize(("matches", "mismatches"), [(20, 20), (40, 10), (10, 40)])
def test_figures_for_another_share_of_mismatches(
    run: Any, write_rows: Any, matches: int, mismatches: int
) -> None:
    write_rows(Path("rows.csv"), rows_of(matches, mismatches))
    result = run("--prevalence", "0.03", "--json", "--report", "out")
    assert result.exit_code == 0, result.output
    weighed = json.loads(result.stdout)["at_prevalence"]
    recall = 1 - 1 / mismatches
    alarms = 1 / matches
    precision = 0.03 * recall / (0.03 * recall + 0.97 * alarms)
    assert weighed["figures"]["mismatch_precision"] == pytest.approx(precision)
    assert weighed["figures"]["alarm_rate"] == pytest.approx(0.03 * recall + 0.97 * alarms)
    for name, (low, high) in weighed["intervals"].items():
        assert low <= weighed["figures"][name] <= high
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert f"the precision of mismatches is {precision:.4f}" in page
    assert "at_prevalence" in json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    lines = run("--prevalence", "0.03").stdout.splitlines()
    assert "where 3 % of the pairs are mismatches" in lines
    assert any(line.startswith(f"mismatches: precision  {precision:.4f}  ") for line in lines)
    assert "at_prevalence" not in json.loads(run("--json").stdout)
    refused = run("--prevalence", "30")
    assert (refused.exit_code, "--prevalence is 30" in refused.stderr) == (2, True)


@pytest.mark.parametrize(("matches", "mismatches"), [(20, 20), (36, 8)])
def test_labels_the_other_way_round_are_said(
    run: Any, write_rows: Any, matches: int, mismatches: int
) -> None:
    write_rows(Path("rows.csv"), rows_of(matches, mismatches, reverse=True))
    result = run("--json")
    assert result.exit_code == 0, result.output
    assert "are the labels the other way round?" in result.stderr
    assert "--label-map" in result.stderr
    write_rows(Path("rows.csv"), rows_of(matches, mismatches))
    assert "other way round" not in run().stderr


def test_from_python_on_rows_in_memory(
    colour_engine: Any,
    colour_images: Path,
    write_rows: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(colour_images)
    write_rows(Path("rows.csv"), ROWS)
    predictor = Predictor(colour_engine())
    result = mismatch.evaluate(predictor, Path("rows.csv"), stress=True)
    assert isinstance(result, mismatch.Evaluation)
    assert (
        repr(result)
        == "Evaluation(model='(a model without a folder)', scored=6, accuracy=0.6667, auroc=0.6667)"
    )
    report = result.to_dict()
    assert json.loads(json.dumps(finite(report)))["metrics"]["confusion_matrix"] == [[2, 1], [1, 2]]
    assert list(report)[-2:] == ["stress", "provenance"]
    assert report["provenance"]["command"] == "mismatch.evaluate"
    assert [row.line for row in result.errors["missed"]] == [4]
    assert "<table" in result._repr_html_()
    frame = pandas.DataFrame(ROWS[1:7], columns=ROWS[0])
    frame["image"] = [Path(name).read_bytes() for name in frame.pop("image_path")]
    again = mismatch.evaluate(predictor, frame, report="out")
    assert (again.csv, again.metrics) == ("DataFrame", result.metrics)
    assert again.errors["alarms"][0].picture is not None
    assert again.long_texts == 0
    assert json.loads(Path("out/report.json").read_text())["csv"] == "DataFrame"
    again.save("page.html")
    assert Path("page.html").read_text().count('class="thumb" src="data:image/jpeg') == 2
    again.save(Path("page.html"))  # an older one is replaced
    Path("notes.html").write_text("mine")
    with pytest.raises(InputError, match=r"`path` notes\.html is there already"):
        again.save("notes.html")
    assert capsys.readouterr() == ("", "")
