"""`mismatch tune-threshold`: on a real bundle, what it shows, stores and refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import InputError
from mismatch.reports.model_card import write_bundle_card
from tests.support import commands
from tests.support.rows import write_rows


@pytest.fixture(scope="module")
def made(tiny_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, and 120 rows over 60 images that it scores; labels follow its scores
    but for noise, so that there is something to choose.
    """
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(tiny_bundles["hf-clip"], folder / "bundle")
    random = np.random.default_rng(0)
    for number in range(60):
        picture = Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        picture.save(folder / f"{number}.png")
    rows = [
        {"image_path": f"{n % 60}.png", "text": f"{('red', 'blue', 'green')[n % 3]} shirt {n}"}
        for n in range(120)
    ]
    predictor = mismatch.load(folder / "bundle", "cpu")
    predictions = predictor.predict_pairs(rows, image_base_path=folder)
    scores = np.array([one.similarity_score for one in predictions])
    noisy = scores.argsort().argsort() + random.normal(0, 20, 120)
    table = [
        (row["image_path"], row["text"], int(noisy[n] > 60), "ab"[n % 2])
        for n, row in enumerate(rows)
    ]
    write_rows(folder / "rows.csv", [("image_path", "text", "label", "kind"), *table])
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, in a copy of that folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda *args: commands.run(
        "tune-threshold", "--model", "bundle", "--csv", "rows.csv", *args
    )


def test_a_page_that_somebody_has_changed_stays_and_a_dry_run_changes_no_card(run: Any) -> None:
    bundle = Path("bundle")
    assert run().exit_code == 0
    assert not (bundle / "README.md").exists(), "none is begun in an older model"
    write_bundle_card(bundle, None)
    before = (bundle / "README.md").read_text()
    assert run("--dry-run", "--objective", "f1").exit_code == 0
    assert (bundle / "README.md").read_text() == before
    (bundle / "README.md").write_text(before + "Mine.\n")
    result = run("--objective", "f1")
    assert result.exit_code == 0, result.output
    assert "README.md is not as mismatch wrote it, so it stays as it is" in result.stderr
    assert (bundle / "README.md").read_text() == before + "Mine.\n"
    assert mismatch.load(bundle, "cpu").threshold


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("bundle/manifest.json").read_text())["score"]
    return found


def test_a_target_is_stored_and_used(run: Any) -> None:
    before = stored()
    write_bundle_card(Path("bundle"), None)
    result = run("--target-precision", "0.9", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["figures"]["mismatch_precision"]["value"] >= 0.9
    low, high = said["figures"]["mismatch_precision"]["interval"]
    assert low < 0.9 <= high
    assert stored()["threshold"] == said["threshold"]
    card = Path("bundle/README.md").read_text()
    assert f"- Threshold: {said['threshold']['value']:.4f}, chosen for precision of" in card
    assert (
        f"| mismatches: precision | {said['figures']['mismatch_precision']['value']:.4f} |" in card
    )
    assert said["threshold"]["objective"] == "mismatch precision>=0.9"
    assert stored()["earlier"] == [before["threshold"]]
    assert mismatch.load("bundle", "cpu").threshold == said["threshold"]["value"]
    figures = json.loads(
        commands.run("evaluate", "--model", "bundle", "--csv", "rows.csv", "--json").stdout
    )
    assert figures["metrics"]["mismatch_precision"] == pytest.approx(
        said["figures"]["mismatch_precision"]["value"]
    )
    again = run("--objective", "f1")
    assert again.exit_code == 0
    assert len(stored()["earlier"]) == 2


def test_a_band_and_slices(run: Any) -> None:
    result = run("--max-risk", "0.1")
    assert result.exit_code == 0, result.output
    assert "of the rows alone" in result.stdout
    band = stored()["review"]
    assert band["low"] < band["high"]
    said = commands.run("predict", "--model", "bundle", "--csv", "rows.csv").stdout.splitlines()[1:]
    assert {line.split(",")[5] for line in said} == {"match", "mismatch", "review"}
    plain = commands.run(
        "predict", "--model", "bundle", "--csv", "rows.csv", "--threshold", "0.5"
    ).stdout
    assert "review" not in plain
    result = run("--slice", "kind")
    assert result.exit_code == 0, result.output
    assert (stored()["review"], set(stored()["slices"]["values"])) == (None, {"a", "b"})
    assert f"loses the review band {band['low']:.4f}" in result.stdout
    said = commands.run("predict", "--model", "bundle", "--csv", "rows.csv").stdout.splitlines()[1:]
    assert {line.split(",")[3] for line in said} == {
        f"{value:.9g}" for value in stored()["slices"]["values"].values()
    }
    assert "loses the thresholds by 'kind'" in run("--dry-run").stdout
    assert "loses" not in run("--slice", "kind").stdout


def test_a_dry_run_stores_nothing(run: Any) -> None:
    before = Path("bundle/manifest.json").read_bytes()
    result = run("--objective", "cost", "--cost-miss", "5", "--thresholds", "0.2,0.5", "--dry-run")
    assert result.exit_code == 0, result.output
    assert Path("bundle/manifest.json").read_bytes() == before
    lines = result.stdout.splitlines()
    assert lines[0].endswith(
        "least cost, a missed mismatch at 5 and a false alarm at 1, on 120 rows"
    )
    assert [line.split()[0] for line in lines if line[:3] in ("0.2", "0.5")] == ["0.2", "0.5"]
    assert any(line.startswith("120 rows are few") for line in lines)
    assert result.stderr == "nothing stored: --dry-run\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--target-precision", "0.9", "--target-recall", "0.9"], "don't go together"),
        (["--review-band", "0.1,0.2", "--max-risk", "0.1"], "pass one of the two"),
        (["--cost-miss", "5"], "--cost-miss has no effect without --objective"),
        (["--objective", "f1", "--cost-false-alarm", "2"], "--cost-false-alarm has no effect"),
        (["--objective", "f1", "--target-of", "match"], "has no effect without --target-precision"),
        (["--confidence", "0.9"], "has no effect without --max-missed"),
        (["--shrinkage", "5"], "has no effect without --slice"),
        (["--review-band", "0.3"], "write LOW,HIGH"),
        (["--review-band", "0.9,0.2"], "give the lower score first"),
        (["--slice", "kind", "--max-risk", "0.1"], "don't go together"),
        (
            ["--slice", "colour"],
            "rows.csv: there is no column 'colour'; found 'image_path', 'text', 'label', 'kind'",
        ),
        (["--min-rows", "500"], "rows.csv: 120 labelled rows, 500 are needed"),
        (["--max-missed", "0.01"], "299 are needed"),
        (["--objective", "cost"], "equal costs is accuracy"),
        (["--thresholds", "a"], "is not a list of numbers"),
        (["--csv", "absent.csv"], "absent.csv"),
    ],
)
def test_what_it_refuses_leaves_the_model_as_it_was(run: Any, args: list[str], words: str) -> None:
    before = Path("bundle/manifest.json").read_bytes()
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert Path("bundle/manifest.json").read_bytes() == before


def test_rows_that_can_not_be_scored_are_named(run: Any) -> None:
    with Path("rows.csv").open("a") as file:
        file.write("absent.png,red,1,a\n")
    result = run("--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(
        "1 row could not be scored and is left out:\nrows.csv:122: image 'absent.png' not found"
    )


@pytest.mark.parametrize(
    "failing", ["jobs.tune_threshold._result", "jobs.tune_threshold.threshold_lines"]
)
def test_a_command_that_ends_in_an_error_has_stored_nothing(
    run: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = Path("bundle/manifest.json").read_bytes()

    def fail(*_: object) -> None:
        raise InputError("it can't be shown")

    monkeypatch.setattr(f"mismatch.{failing}", fail)
    assert run("--objective", "f1").exit_code == 2
    assert Path("bundle/manifest.json").read_bytes() == before


def decisions(*args: str) -> list[dict[str, str]]:
    """What `predict` says of each row."""
    result = commands.run("predict", "--model", "bundle", "--csv", "rows.csv", *args)
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(result.stdout.splitlines()))


@pytest.mark.parametrize(
    "aim", [("--target-recall", "0.95"), ("--objective", "cost", "--cost-miss", "10"), ()]
)
def test_the_reported_risk_is_that_of_the_decisions(run: Any, aim: tuple[str, ...]) -> None:
    result = run(*aim, "--max-risk", "0.35", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    band = said["review"]
    assert band["low"] <= said["threshold"]["value"] <= band["high"]
    with Path("rows.csv").open(newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    decided = [
        (row["is_match"] == "True") == (label == "1")
        for row, label in zip(decisions(), labels, strict=True)
        if row["prediction"] != "review"
    ]
    assert said["coverage"]["automatic"] == pytest.approx(len(decided) / 120)
    assert said["coverage"]["risk"] == pytest.approx(decided.count(False) / len(decided))
    figures = commands.run("evaluate", "--model", "bundle", "--csv", "rows.csv", "--json")
    assert json.loads(figures.stdout)["review"]["risk"] == pytest.approx(said["coverage"]["risk"])


def test_a_band_next_to_the_threshold_is_refused_and_a_stored_one_goes(run: Any) -> None:
    before = Path("bundle/manifest.json").read_bytes()
    result = run("--review-band", "0.001,0.002")
    assert result.exit_code == 2
    assert "--review-band from 0.001 to 0.002 does not hold the threshold" in result.stderr
    assert Path("bundle/manifest.json").read_bytes() == before
    assert run("--max-risk", "0.2").exit_code == 0
    assert stored()["review"] is not None
    result = run("--target-recall", "1")
    assert result.exit_code == 0, result.output
    [warning] = [line for line in result.stderr.splitlines() if "warning" in line]
    assert warning.startswith("mismatch: warning: the stored review band ")
    assert "--max-risk" in warning
    assert stored()["review"] is None


def test_from_python_on_rows_in_memory(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pandas = pytest.importorskip("pandas")
    before = Path("bundle/manifest.json").read_bytes()
    options: dict[str, Any] = {"target_precision": 0.9, "dry_run": True}
    printed = json.loads(run("--target-precision", "0.9", "--dry-run", "--json").stdout)
    result = mismatch.tune_threshold("bundle", "rows.csv", **options)
    assert isinstance(result, mismatch.ThresholdResult)
    printed["threshold"]["date"] = result.threshold.date
    assert result.to_dict() == printed
    assert not result.stored
    frame = pandas.read_csv("rows.csv")
    predictor = mismatch.load(Path("bundle"), "cpu")
    again = mismatch.tune_threshold(predictor, frame, **options)
    assert (again.threshold.value, again.rows, again.csv) == (
        result.threshold.value,
        120,
        "DataFrame",
    )
    assert Path("bundle/manifest.json").read_bytes() == before
    kept = mismatch.tune_threshold("bundle", frame, slice_column="kind")
    assert kept.slices is not None
    assert stored()["slices"] == kept.slices.to_dict()
    with pytest.raises(InputError, match="`max_missed` promises for all rows"):
        mismatch.tune_threshold("bundle", frame, max_missed=0.1, slice_column="kind")
    with pytest.raises(InputError, match="`review_band` is a tuple"):
        mismatch.tune_threshold("bundle", frame, review_band=(0.3, 0.7))  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")


def relabelled(
    write_rows: Any, share: float, *, reverse: bool = False, best_is_wrong: bool = False
) -> None:
    """The rows of rows.csv, of which this share are matches by the bundle's own score, with some
    noise; or labels the other way round, or a mismatch with the highest score.
    """
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    predicted = mismatch.load("bundle", "cpu").predict_pairs(rows)
    ranks = np.array([one.similarity_score for one in predicted]).argsort().argsort()
    noisy = ranks + np.random.default_rng(1).normal(0, 15, len(rows))
    matches = noisy.argsort().argsort() >= (1 - share) * len(rows)
    if best_is_wrong:
        matches[ranks.argmax()] = False
    labelled = zip(rows, matches, strict=True)
    table = [(row["image_path"], row["text"], int(match != reverse)) for row, match in labelled]
    write_rows(Path("rows.csv"), [("image_path", "text", "label"), *table])


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_where_a_label_is_rare_the_default_still_finds_it(
    run: Any, write_rows: Any, share: float
) -> None:
    relabelled(write_rows, share)
    result = run("--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert 0 < said["figures"]["alarm_rate"]["value"] < 1
    for figure in said["figures"].values():
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    assert "nan" not in run("--dry-run").stdout


def test_labels_the_other_way_round_are_refused(run: Any, write_rows: Any) -> None:
    relabelled(write_rows, 0.5, reverse=True)
    before = Path("bundle/manifest.json").read_bytes()
    result = run()
    assert (result.exit_code, "other way round" in result.stderr) == (2, True), result.output
    assert Path("bundle/manifest.json").read_bytes() == before
    dry = run("--dry-run", "--objective", "balanced-accuracy")
    assert "other way round" in dry.stderr


def test_costs_at_which_all_is_one_thing_are_refused(run: Any, write_rows: Any) -> None:
    relabelled(write_rows, 0.5, best_is_wrong=True)
    before = Path("bundle/manifest.json").read_bytes()
    result = run("--objective", "cost", "--cost-miss", "100000")
    assert result.exit_code == 2, result.output
    assert "calls every row a mismatch" in result.stderr
    assert Path("bundle/manifest.json").read_bytes() == before


def test_a_prevalence_weighs_the_choice_and_all_figures(run: Any) -> None:
    result = run("--prevalence", "0.1", "--objective", "mcc", "--max-risk", "0.3", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["prevalence"] == 0.1
    assert said["threshold"]["objective"] == "mcc at prevalence 0.1"
    figures = commands.run(
        "evaluate", "--model", "bundle", "--csv", "rows.csv", "--prevalence", "0.1", "--json"
    )
    weighed = json.loads(figures.stdout)["at_prevalence"]
    assert weighed["prevalence"] == 0.1
    for name, figure in said["figures"].items():
        assert weighed["figures"][name] == pytest.approx(figure["value"]), name
    lines = run("--prevalence", "0.1", "--objective", "mcc", "--dry-run").stdout
    assert "10 % of the pairs are mismatches" in lines
    assert "10 % are mismatches; the rows are weighed so" in lines
    card = commands.run("evaluate", "--model", "bundle", "--csv", "rows.csv").stdout
    assert "best mcc at prevalence 0.1" in card


@pytest.mark.parametrize("value", ["0", "1", "3", "-0.1"])
def test_what_is_no_prevalence_is_refused(run: Any, value: str) -> None:
    result = run("--prevalence", value)
    assert result.exit_code == 2
    assert "--prevalence is" in result.stderr
    assert "0.03 for three in a hundred" in result.stderr
