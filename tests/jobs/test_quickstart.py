"""`mismatch.quickstart` and `mismatch quickstart`: every step works and says so, an interrupted run
leaves nothing; and the promise of 90 %.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner
from PIL import Image

import mismatch
from mismatch import cli
from mismatch.data.pairs import Row
from mismatch.errors import CheckpointError, MissingExtraError
from mismatch.jobs import quickstart as module
from mismatch.jobs.output.tables import COLUMNS
from mismatch.jobs.quickstart import QuickstartPlan, QuickstartResult, run_plan
from mismatch.jobs.quickstart_folder import MARKER, OWN_NAMES
from mismatch.jobs.quickstart_model import KNOWN_PROBE, KNOWN_SECONDS
from mismatch.reports.quickstart_lines import duration_line
from mismatch.runtime.predictor import Prediction
from tests.support.paths import WHOLE

SMALL = QuickstartPlan(
    photos={"train": 48, "val": 24, "test": 40},
    training={"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Run:
    """A small quickstart's folder, its result, what it logged and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = Lines()
        logger = logging.getLogger("mismatch.jobs.quickstart")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        printed = io.StringIO()
        try:
            with redirect_stdout(printed), redirect_stderr(printed):
                self.result = run_plan(folder, SMALL)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
        self.printed = printed.getvalue()
        self.measured = self.result.to_dict()
        self.text = "\n".join([*handler.lines, *self.result.summary()])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("quickstart") / "q"
    folder.mkdir()
    (folder / MARKER).write_text('{"finished": false}')  # as a killed run leaves it
    (folder / "images" / "train").mkdir(parents=True)
    (folder / "images" / "train" / "99999.jpg").write_text("old")
    (folder / "mine.txt").write_text("keep me")
    return Run(folder)


def broken(*args: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def test_everything_lies_where_it_says(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == {*OWN_NAMES, "mine.txt"}
    assert not (run.folder / "images" / "train" / "99999.jpg").exists()
    assert (run.folder / "mine.txt").read_text() == "keep me"
    assert json.loads((run.folder / MARKER).read_text())["finished"] is True
    assert run.result.folder == run.folder
    assert run.result.model == run.folder / "model" / "best_model"
    assert run.result.bundle == run.folder / "bundle"
    assert run.result.report == run.folder / "report" / "report.html"
    assert run.result.explanation == run.folder / "explanation.png"


def test_it_prints_nothing(run: Run) -> None:
    assert run.printed == ""


def test_the_result_is_what_its_file_holds(run: Run) -> None:
    written = json.loads((run.folder / MARKER).read_text())
    sizes = written.pop("bytes")
    assert sizes["train.csv"] == (run.folder / "train.csv").stat().st_size
    assert {*sizes, MARKER} == {*written["files"], MARKER}
    assert written == run.result.to_dict()
    assert list(written) == [
        "finished",
        "held_out",
        "parity",
        "speed",
        "probe_seconds",
        "seconds",
        "cpus",
        "files",
    ]
    assert list(written["held_out"])[-1] == "by_kind"
    assert written["held_out"]["threshold"] == run.result.held_out.threshold
    with pytest.raises(FrozenInstanceError):
        run.result.cpus = 1  # type: ignore[misc]


def test_the_function_takes_a_name_and_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    monkeypatch.setattr(module, "run_plan", lambda folder, plan: plans.append((folder, plan)))
    mismatch.quickstart(str(tmp_path), seed=7)
    assert plans == [(tmp_path, QuickstartPlan(seed=7))]


def test_the_command_prints_what_is_logged_and_then_the_closing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logs(folder: Path, *, seed: int) -> QuickstartResult:
        assert (folder, seed) == (Path("q"), 3)
        logging.getLogger("mismatch.training").info("an epoch")
        module.logger.info("\n[2/5] a step")
        return run.result

    monkeypatch.setattr(module, "quickstart", logs)
    result = CliRunner().invoke(cli.main, ["quickstart", "--dir", "q", "--seed", "3"])
    assert (result.exit_code, result.stderr) == (0, "")
    closing = "\n".join(run.result.summary())
    assert result.stdout == f"an epoch\n\n[2/5] a step\n{closing}\n"


def test_the_measurements_are_whole(run: Run) -> None:
    held_out = run.measured["held_out"]
    assert {kind: found["rows"] for kind, found in held_out["by_kind"].items()}["match"] == 40
    assert sum(found["rows"] for found in held_out["by_kind"].values()) == 80
    assert sum(
        found["rows"] * found["accuracy"] for found in held_out["by_kind"].values()
    ) == pytest.approx(80 * held_out["accuracy"])
    assert run.measured["parity"]["pairs"] == 80
    assert run.measured["parity"]["max_score_difference"] <= 1e-4
    assert run.measured["parity"]["flipped_decisions"] == 0
    assert list(run.measured["seconds"]) == ["draw", "train", "evaluate", "export", "predict"]
    assert min(run.measured["seconds"].values()) > 0
    assert min(run.measured["speed"].values()) > 0


def test_the_report_names_steps_figures_and_next_commands(run: Run) -> None:
    for number in range(1, 6):
        assert f"\n[{number}/5] " in run.text
    assert f"held-out accuracy {run.measured['held_out']['accuracy']:.4f}" in run.text
    for verb in ("validate", "train", "export-onnx", "predict"):
        assert f"  mismatch {verb} --" in run.text or f"  mismatch {verb} photos.csv" in run.text
    assert "wrong colour" in run.text


def test_the_printed_command_predicts(run: Run) -> None:
    [line] = [
        line
        for line in run.text.splitlines()
        if line.startswith("  mismatch predict") and "--image " in line
    ]
    result = CliRunner().invoke(cli.main, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert "Is Match: " in result.stdout


def test_the_predictions_are_the_bundles(run: Run) -> None:
    with open(run.folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    assert tuple(rows[0]) == COLUMNS
    predictor = mismatch.load(run.folder / "bundle", provider="cpu")
    for row in rows[:5]:
        prediction = predictor.predict(run.folder / row["image_path"], row["text"])
        assert prediction.similarity_score == pytest.approx(
            float(row["similarity_score"]), abs=1e-6
        )


def test_the_report_is_of_the_bundle_on_the_test_rows(run: Run) -> None:
    assert "<html" in run.result.report.read_text()
    report = json.loads((run.folder / "report" / "report.json").read_text())
    assert report["scored"] == 80
    assert report["metrics"]["accuracy"] == pytest.approx(run.measured["held_out"]["accuracy"])
    assert set(report["kinds"]) >= {"article", "colour", "pattern", "count"}


def test_the_explanation_is_of_a_title_that_does_not_fit(run: Run) -> None:
    with Image.open(run.result.explanation) as picture:
        assert min(picture.size) > 100
    with open(run.folder / "test.csv", newline="") as file:
        [row] = [
            row
            for row in csv.DictReader(file)
            if run.folder / row["image_path"] == run.result.image and row["text"] == run.result.text
        ]
    assert row["label"] == "0"


def test_a_mismatch_that_the_model_tells_is_the_example() -> None:
    def row(line: int, label: int, kind: str) -> Row:
        return Row(line, f"{line}.png", "red", label, {"kind": kind}, None)

    def prediction(is_match: bool) -> Prediction:
        word: Literal["match", "mismatch"] = "match" if is_match else "mismatch"
        return Prediction("a.png", "red", 0.5, 0.5, is_match, word, "ok")

    rows = [row(2, 1, "match"), row(3, 0, "random"), row(4, 0, "colour"), row(5, 0, "count")]
    told = [prediction(is_match) for is_match in (True, False, True, False)]
    assert module._example(module._Scored(rows, told, 1.0)).line == 5
    none_told = [prediction(True)] * 4
    assert module._example(module._Scored(rows, none_told, 1.0)).line == 3


def test_a_slow_machine_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow = 4 * KNOWN_PROBE
    monkeypatch.setattr(module, "probe_seconds", lambda: slow)
    monkeypatch.setattr(module, "_draw", broken)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        run_plan(tmp_path / "q", SMALL)
    minutes = round(4 * KNOWN_SECONDS / 60)
    assert f"about {minutes} minutes here" in caplog.messages[0]


@pytest.mark.parametrize(
    ("seconds", "line"),
    [(20, "about 1 minute here"), (80, "about 1 minute here"), (290, "about 5 minutes here")],
)
def test_a_duration_is_said_in_minutes(seconds: float, line: str) -> None:
    assert duration_line(seconds) == line


@pytest.mark.parametrize("step", ["_draw", "train_model", "export_model"])
def test_an_interrupted_run_leaves_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step == "export_model":
        _skip_to_export(monkeypatch)
    monkeypatch.setattr(module, step, broken)
    with pytest.raises(KeyboardInterrupt):
        run_plan(tmp_path / "q", SMALL)
    assert list(tmp_path.iterdir()) == []


def _skip_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train_model", lambda catalogue, *_: catalogue.folder)
    monkeypatch.setattr(module, "open_model", lambda folder: None)
    monkeypatch.setattr(module, "_predict", lambda *args: module._Scored([], [], 1.0))
    monkeypatch.setattr(module, "_evaluate", lambda *args: {})
    monkeypatch.setattr(module, "_log_evaluation", lambda *args: None)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(cli.main, ["quickstart", "--dir", str(tmp_path / "file")])
    assert (result.exit_code, result.stderr) == (
        2,
        f"mismatch: error: --dir {tmp_path / 'file'} is a file; choose another folder\n",
    )


def test_without_the_extra_it_names_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "mismatch-clip\[train\]"'):
        run_plan(tmp_path / "q", SMALL)
    assert list(tmp_path.iterdir()) == []


HALF = """
from mismatch.cli import main
from mismatch.jobs import quickstart

class Half(quickstart.QuickstartPlan):
    def __init__(self, seed):
        photos = {"train": 3000, "val": 250, "test": 500}
        super().__init__(photos, seed, {**quickstart.RECIPE, "epochs": 5})

if __name__ == "__main__":
    quickstart.QuickstartPlan = Half
    main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """quickstart as users run it, or on half of the photos; its folder."""
    folder = tmp_path_factory.mktemp("whole")
    program = folder / "half.py"
    program.write_text(HALF)
    done = subprocess.run(
        [
            sys.executable,
            *(("-m", "mismatch") if WHOLE else (program,)),
            "quickstart",
            "--dir",
            "q",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # a slow machine sees how far training is
    assert [line for line in done.stderr.splitlines() if not line.startswith("epoch ")] == []
    return folder / "q"


@pytest.mark.slow
def test_the_promise(whole: Path) -> None:
    """Held-out accuracy ≥ 0.90, 0.85 from half of the photos, hard mismatches included, and a
    bundle that agrees with torch to 1e-4; no time limit here, machines differ.
    """
    measured = json.loads((whole / MARKER).read_text())
    assert measured["held_out"]["accuracy"] >= (0.90 if WHOLE else 0.85)
    assert measured["parity"]["pairs"] == (2000 if WHOLE else 1000)
    assert measured["parity"]["max_score_difference"] <= 1e-4


@pytest.mark.slow
def test_its_model_names_what_is_wrong(whole: Path, tmp_path: Path) -> None:
    """Photos of held-out combinations with two wrong attributes: one of the two words is named
    first.
    """
    bench = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_explain.py"
    command = [
        sys.executable,
        bench,
        "--model",
        whole / "bundle",
        "--quickstart",
        whole,
        "--edits",
        "150",
        "--json",
        tmp_path / "out.json",
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    found = json.loads((tmp_path / "out.json").read_text())["catalogue"]
    assert found["judged"] > 120
    assert found["top_1"] >= 0.8 > found["top_1_by_chance"]


@pytest.mark.parametrize(("label", "score"), [(None, 0.5), (1, None)])
def test_what_could_not_be_scored_gets_no_made_up_figure(
    label: int | None, score: float | None
) -> None:
    row = Row(2, "a.png", "red", label, {"kind": "match"}, None)
    prediction = Prediction("a.png", "red", score, 0.5, None, "error", "the model gave no number")
    with pytest.raises(CheckpointError, match=r"line 2 .*the model gave no number"):
        module._evaluate(module._Scored([row], [prediction], 1.0))


def test_what_it_wrote_is_listed(run: Run) -> None:
    listed = json.loads((run.folder / MARKER).read_text())["files"]
    there = {
        path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()
    }
    assert set(listed) == there - {"mine.txt"}
    assert (run.folder / "backbone" / "open_clip_model.safetensors").stat().st_mode & 0o777 == (
        run.folder / "train.csv"
    ).stat().st_mode & 0o777
