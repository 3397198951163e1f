"""`mismatch calibrate`: a raw backbone's cosines become probabilities, a trained model gets another
calibration, and nothing else changes.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import InputError
from mismatch.io.atomic import sha256_file
from mismatch.reports.model_card import write_bundle_card
from mismatch.runtime.score_file import read_score, write_score
from mismatch.specs import ReviewBand, SliceThresholds
from tests.support import commands
from tests.support.rows import write_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 80 rows over 40 images, labelled by what a raw tiny backbone says of them, and
    noise.
    """
    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    for number in range(40):
        picture = Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        picture.save(folder / f"{number}.png")
    rows = [
        {"image_path": f"{n % 40}.png", "text": f"{('red', 'blue', 'green')[n % 3]} shirt {n}"}
        for n in range(80)
    ]
    predictor = mismatch.load("openclip:tiny", "cpu")
    predictions = predictor.predict_pairs(rows, image_base_path=folder)
    scores = np.array([one.similarity_score for one in predictions])
    noisy = scores.argsort().argsort() + random.normal(0, 15, 80)
    table = [(row["image_path"], row["text"], int(noisy[n] > 40)) for n, row in enumerate(rows)]
    write_rows(folder / "rows.csv", [("image_path", "text", "label"), *table])
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, in a copy of that folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda *args: commands.run("calibrate", "--csv", "rows.csv", *args)


def test_a_raw_backbone_gives_probabilities(run: Any) -> None:
    result = run("--model", "openclip:tiny", "--output", "calibrated", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    card = Path("calibrated/README.md").read_text()
    assert "- Calibration: platt, fitted to 80 labelled rows" in card
    low, high = said["figures"]["accuracy"]["interval"]
    accuracy = said["figures"]["accuracy"]["value"]
    assert f"| accuracy | {accuracy:.4f} | {low:.4f}..{high:.4f} |" in card
    assert said["calibration"]["kind"] == "platt"
    assert said["before"]["log_loss"] is None, "a cosine is no probability"
    assert said["after"]["log_loss"] < np.log(2) - 0.05
    raw, model = mismatch.load("openclip:tiny", "cpu"), mismatch.load("calibrated", "cpu")
    assert model.score.kind == "probability"
    assert model.threshold == said["threshold"]["value"]
    rows = [{"image_path": f"{n}.png", "text": "red shirt"} for n in range(40)]
    before, after = (
        [one.similarity_score or 0.0 for one in predictor.predict_pairs(rows)]
        for predictor in (raw, model)
    )
    assert np.argsort(before).tolist() == np.argsort(after).tolist()
    assert min(after) >= 0
    points = said["points"]
    assert [
        point["interval"][0] <= point["probability"] <= point["interval"][1] for point in points
    ] == [True] * 5
    assert [point["probability"] for point in points] == sorted(
        point["probability"] for point in points
    )


def test_it_is_exported_as_any_checkpoint(run: Any) -> None:
    assert run("--model", "openclip:tiny", "--output", "calibrated").exit_code == 0
    result = commands.run("export-onnx", "--model", "calibrated", "--output", "bundle")
    assert result.exit_code == 0, result.output
    one, other = (mismatch.load(folder, "cpu") for folder in ("calibrated", "bundle"))
    assert one.score == other.score
    assert one.predict("1.png", "red").similarity_score == pytest.approx(
        other.predict("1.png", "red").similarity_score, abs=1e-4
    )


def test_a_bundle_is_calibrated_in_place_or_elsewhere(
    run: Any, tiny_bundles: dict[str, Path]
) -> None:
    shutil.copytree(tiny_bundles["hf-clip"], "bundle")
    write_bundle_card(Path("bundle"), None)
    before = {path.name: sha256_file(path) for path in Path("bundle").iterdir()}
    result = run(
        "--model", "bundle", "--output", "other", "--objective", "f1", "--kind", "temperature"
    )
    assert result.exit_code == 0, result.output
    assert {path.name: sha256_file(path) for path in Path("bundle").iterdir()} == before
    changed = {name for name in before if sha256_file(Path("other") / name) != before[name]}
    assert changed == {"manifest.json", "README.md"}
    assert "fitted to 80 labelled rows" in Path("other/README.md").read_text()
    score = mismatch.load("other", "cpu").engine.score
    assert score.calibration is not None
    assert score.threshold is not None
    assert (score.calibration.kind, score.calibration.rows, score.threshold.objective) == (
        "temperature",
        80,
        "f1",
    )
    assert run("--model", "bundle").exit_code == 0
    changed = {name for name in before if sha256_file(Path("bundle") / name) != before[name]}
    assert changed == {"manifest.json", "README.md"}


def test_the_report_for_people(run: Any) -> None:
    result = run("--model", "openclip:tiny", "--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("80 rows, ")
    assert lines[1] == "calibration: platt"
    assert any(line.startswith("log-loss    –") for line in lines)
    assert (
        lines[-1]
        == "80 rows are few: believe the intervals; with 500 labels they are 2.5 times as narrow"
    )
    assert result.stderr == "nothing stored: --dry-run\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model", "openclip:tiny"], "with --output"),
        (["--model", "openclip:tiny", "--output", "there"], "--output there is there already"),
        (
            ["--model", "openclip:tiny", "--output", "new", "--min-rows", "81"],
            "80 labelled rows, 81 are needed",
        ),
        (
            ["--model", "openclip:tiny", "--output", "new", "--csv", "one.csv"],
            "needs both matches and mismatches",
        ),
    ],
)
def test_what_it_refuses(run: Any, write_rows: Any, args: list[str], words: str) -> None:
    Path("there").mkdir()
    (Path("there") / "file").write_text("x")
    write_rows(
        Path("one.csv"),
        [("image_path", "text", "label"), *((f"{n % 40}.png", f"text {n}", 1) for n in range(60))],
    )
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert not Path("new").exists()


@pytest.mark.parametrize(
    "failing", ["jobs.calibrate._result", "jobs.calibration_result.calibration_lines"]
)
@pytest.mark.parametrize("output", [(), ("--output", "new")])
def test_a_command_that_ends_in_an_error_has_stored_nothing(
    run: Any,
    tiny_bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    output: tuple[str, ...],
) -> None:
    """Such as one match among sixty rows, of which no fold can be tested."""
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    before = sha256_file("bundle/manifest.json")

    def fail(*_: object) -> None:
        raise InputError("it can't be tested")

    monkeypatch.setattr(f"mismatch.{failing}", fail)
    assert run("--model", "bundle", *output).exit_code == 2
    assert sha256_file("bundle/manifest.json") == before
    assert not Path("new").exists()


def test_what_can_not_be_printed_is_not_stored(
    run: Any, tiny_bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    before = sha256_file("bundle/manifest.json")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mismatch.jobs.calibration_result.calibration_lines", full)
    result = run("--model", "bundle")
    assert (result.exit_code, sha256_file("bundle/manifest.json")) == (2, before), result.output


def test_from_python_on_rows_in_memory(run: Any) -> None:
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    result = mismatch.calibrate("openclip:tiny", rows, dry_run=True)
    assert isinstance(result, mismatch.CalibrationResult)
    assert (result.rows, result.calibration.kind, result.calibration.rows) == (80, "platt", 80)
    printed = json.loads(run("--model", "openclip:tiny", "--dry-run", "--json").stdout)
    printed["before"] = result.before  # nan, which JSON has no word for
    printed["threshold"]["date"] = result.threshold.date
    assert result.to_dict() == printed
    for row in rows:
        row["image_path"] = Path(row["image_path"]).read_bytes()
    again = mismatch.calibrate("openclip:tiny", iter(rows), dry_run=True)
    assert (again.rows, again.auroc) == (80, result.auroc)
    assert again.threshold.value == pytest.approx(result.threshold.value)
    with pytest.raises(InputError, match="no option 'image_base'; did you mean 'image_base_path'"):
        mismatch.calibrate("openclip:tiny", rows, image_base="x")  # type: ignore[call-arg]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_copy_has_the_modes_of_the_umask(run: Any, tiny_bundles: dict[str, Path]) -> None:
    """Whatever the model's own were, as a checkpoint's weights were 0600 once."""
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    for path in Path("bundle").iterdir():
        path.chmod(0o600)
    before = os.umask(0o027)
    try:
        assert run("--model", "bundle", "--output", "new").exit_code == 0
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in Path("new").iterdir()} == {0o640}
    assert Path("new").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"slices": SliceThresholds("shop", {"a": 0.9}, {"a": 40})}, "the thresholds by 'shop'"),
        ({"review": ReviewBand(0.4, 0.6)}, "the review band 0.4000 to 0.6000"),
    ],
)
def test_what_lies_on_the_earlier_scores_goes_with_a_line(
    run: Any, tiny_bundles: dict[str, Path], part: dict[str, Any], said: str
) -> None:
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    write_score("bundle", replace(read_score("bundle"), **part))
    result = mismatch.calibrate("bundle", "rows.csv", dry_run=True)
    assert result.dropped == (said,)
    assert said in result.summary()[-1]
    assert said in run("--model", "bundle").stdout
    assert mismatch.calibrate("bundle", "rows.csv", dry_run=True).dropped == ()


@pytest.mark.parametrize("folder", ["runs/12:30/bundle", "runs/a:b"])
def test_a_bundle_below_a_folder_with_a_colon_is_copied(
    run: Any, tiny_bundles: dict[str, Path], folder: str
) -> None:
    shutil.copytree(tiny_bundles["openclip"], folder)
    result = run("--model", folder, "--output", "calibrated")
    assert result.exit_code == 0, result.output
    assert mismatch.load("calibrated").score.calibration is not None
    assert (Path("calibrated") / "image_encoder.onnx").exists()


def test_a_model_that_tells_nothing_of_these_rows_is_said(run: Any, write_rows: Any) -> None:
    """Labels that go against the scores: the fit is as good as flat."""
    header, *rows = csv.reader(Path("rows.csv").read_text().splitlines())
    against = [(image, text, 1 - int(label)) for image, text, label in rows]
    write_rows(Path("rows.csv"), [header, *against])
    result = run("--model", "openclip:tiny", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "the probabilities hardly differ (by 0.0" in result.stdout


def relabelled(write_rows: Any, model: str, share: float, *, reverse: bool = False) -> None:
    """The rows of rows.csv, of which this share are matches by the model's own score, with some
    noise; or labels the other way round.
    """
    header, *rows = csv.reader(Path("rows.csv").read_text().splitlines())
    pairs = [{"image_path": image, "text": text} for image, text, _ in rows]
    predicted = mismatch.load(model, "cpu").predict_pairs(pairs)
    ranks = np.array([one.similarity_score for one in predicted]).argsort().argsort()
    noisy = ranks + np.random.default_rng(1).normal(0, 12, len(rows))
    matches = noisy.argsort().argsort() >= (1 - share) * len(rows)
    table = [
        (row[0], row[1], int(is_match != reverse))
        for row, is_match in zip(rows, matches, strict=True)
    ]
    write_rows(Path("rows.csv"), [header, *table])


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_where_a_label_is_rare_the_threshold_still_finds_it(
    run: Any, write_rows: Any, tiny_bundles: dict[str, Path], share: float
) -> None:
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    relabelled(write_rows, "bundle", share)
    result = run("--model", "bundle")
    assert result.exit_code == 0, result.output
    assert "nan" not in result.output
    rows = list(csv.DictReader(Path("rows.csv").read_text().splitlines()))
    called = [bool(one.is_match) for one in mismatch.load("bundle", "cpu").predict_pairs(rows)]
    assert 0 < sum(called) < len(called)
    if "best Matthews correlation" in result.stderr:
        labels = [int(row["label"]) for row in rows]
        assert f"{sum(labels)} of 80 rows" in result.stderr


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_an_objective_that_decides_nothing_is_refused_in_words(
    run: Any, write_rows: Any, tiny_bundles: dict[str, Path], share: float
) -> None:
    header, *rows = csv.reader(Path("rows.csv").read_text().splitlines())
    chance = np.random.default_rng(0).permutation(80) < share * 80
    table = [
        (image, text, int(label)) for (image, text, _), label in zip(rows, chance, strict=True)
    ]
    write_rows(Path("rows.csv"), [header, *table])
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    before = sha256_file("bundle/manifest.json")
    result = run("--model", "bundle", "--objective", "accuracy")
    if result.exit_code == 0:  # a row at the end of the scores happens to be of the rare label
        called = json.loads(run("--model", "bundle", "--json").stdout)["figures"]["alarm_rate"]
        assert 0 < called["value"] < 1
        return
    assert (result.exit_code, sha256_file("bundle/manifest.json")) == (2, before)
    assert "every row a" in result.stderr
    assert "--objective" in result.stderr
    dry = run("--model", "bundle", "--objective", "accuracy", "--dry-run")
    assert (dry.exit_code, "every row a" in dry.stderr, "nan" in dry.stdout) == (0, True, False)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_labels_the_other_way_round_are_refused(
    run: Any, write_rows: Any, tiny_bundles: dict[str, Path], share: float
) -> None:
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    relabelled(write_rows, "bundle", share, reverse=True)
    before = sha256_file("bundle/manifest.json")
    result = run("--model", "bundle")
    assert (result.exit_code, sha256_file("bundle/manifest.json")) == (2, before), result.output
    assert "other way round" in result.stderr
    assert "--label-map" in result.stderr
    dry = run("--model", "bundle", "--dry-run")
    assert (dry.exit_code, "other way round" in dry.stderr) == (0, True), dry.output


def test_a_threshold_for_rare_mismatches(run: Any, tiny_bundles: dict[str, Path]) -> None:
    shutil.copytree(tiny_bundles["openclip"], "bundle")
    plain = mismatch.calibrate("bundle", "rows.csv", objective="mcc", dry_run=True)
    rare = mismatch.calibrate("bundle", "rows.csv", objective="mcc", prevalence=0.05)
    assert rare.prevalence == 0.05
    assert rare.threshold.objective == "mcc at prevalence 0.05"
    assert rare.threshold.value <= plain.threshold.value
    assert rare.figures["alarm_rate"].value < plain.figures["alarm_rate"].value
    assert rare.calibration == plain.calibration
    again = mismatch.calibrate("bundle", "rows.csv", dry_run=True)
    assert again.threshold.objective == "mcc at prevalence 0.05", "as the stored one"
    said = run("--model", "bundle", "--prevalence", "0.05", "--dry-run")
    assert said.exit_code == 0, said.output
    assert "5 % are mismatches" in said.stdout
    refused = run("--model", "bundle", "--prevalence", "3")
    assert refused.exit_code == 2
    assert "--prevalence is 3.0; the share of mismatches in use" in refused.stderr


def test_every_interval_holds_its_own_figure(run: Any, write_rows: Any) -> None:
    for share in (0.05, 0.5):
        relabelled(write_rows, "openclip:tiny", share)
        result = mismatch.calibrate("openclip:tiny", "rows.csv", dry_run=True)
        for figure in result.figures.values():
            low, high = figure.interval
            assert low <= figure.value <= high
        for point in result.points:
            assert point.interval[0] <= point.probability <= point.interval[1]
