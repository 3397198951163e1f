"""The whole path on a drawn catalogue, without network or data: draw, train, evaluate, export,
predict.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mismatch.data.catalogue import Catalogue, write_catalogue
from mismatch.data.pairs import load_pairs
from mismatch.data.rows import Row
from mismatch.errors import CheckpointError, MissingExtraError
from mismatch.evaluation.metrics import binary_metrics
from mismatch.io.atomic import atomic_file
from mismatch.jobs.evaluate import evaluate
from mismatch.jobs.explain_rows import explain_pair
from mismatch.jobs.output.tables import COLUMNS, fields
from mismatch.jobs.quickstart_folder import (
    BUNDLE,
    EXPLANATION,
    PREDICTIONS,
    REPORT,
    own_files,
    own_folder,
    write_marker,
)
from mismatch.jobs.quickstart_model import (
    KNOWN_PROBE,
    KNOWN_SECONDS,
    RECIPE,
    export_model,
    open_bundle,
    open_model,
    probe_seconds,
    train_model,
)
from mismatch.jobs.results import Result, as_json
from mismatch.jobs.row_tables import RowWriter
from mismatch.jobs.value_checks import checked
from mismatch.progress import progress
from mismatch.reports.quickstart_lines import duration_line, quickstart_lines
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.predictor import Prediction, Predictor
from mismatch.training.surroundings import left_as_found

if TYPE_CHECKING:
    from mismatch.export.parity import ParityReport

__all__ = [
    "HeldOut",
    "KindAccuracy",
    "QuickstartPlan",
    "QuickstartResult",
    "quickstart",
    "run_plan",
]

STEPS = 5
# kind of row → how its title differs from its photo
KINDS = {
    "match": "title fits",
    "random": "another product's title",
    "article": "wrong article",
    "colour": "wrong colour",
    "pattern": "wrong pattern",
    "count": "wrong count",
}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KindAccuracy:
    """How many rows of one kind were judged right."""

    rows: int
    accuracy: float  # 0..1


@dataclass(frozen=True)
class HeldOut(Result):
    """How good the model is on combinations that training never saw."""

    metrics: Mapping[str, Any]  # accuracy, auroc, f1, …, at the stored threshold
    threshold: float  # a similarity_score
    by_kind: Mapping[str, KindAccuracy]  # match, random, article, colour, pattern, count

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics, the threshold and the accuracies of kinds, in plain JSON types."""
        metrics: dict[str, Any] = as_json(self.metrics)
        return {**metrics, "threshold": self.threshold, "by_kind": as_json(self.by_kind)}


@dataclass(frozen=True)
class QuickstartResult(Result):
    """Where everything lies, and what was measured.

    `folder`: the folder that everything was written to.
    `model`: the trained model; needs torch.
    `bundle`: the same model as ONNX; needs no torch.
    `image`: a photo.
    `text`: a title that does not fit the photo.
    `report`: how good the bundle is, as a page.
    `explanation`: which words of the title don't fit the photo, as a picture.
    `held_out`: how good the model is on images that it was not trained on.
    `parity`: the bundle compared with torch.
    `torch_rate`: pairs a second in torch, from reading to score.
    `onnxruntime_rate`: pairs a second in onnxruntime, from reading to score.
    `probe_seconds`: a pass of the image tower before the first step, from which it estimated how
        long it takes.
    `seconds`: wall clock of each step, in seconds.
    `cpus`: CPUs that it could use.
    `files`: all files that it wrote, relative to `folder`.
    """

    folder: Path
    model: Path
    bundle: Path
    image: Path
    text: str
    report: Path
    explanation: Path
    held_out: HeldOut
    parity: ParityReport
    torch_rate: float
    onnxruntime_rate: float
    probe_seconds: float
    seconds: Mapping[str, float]
    cpus: int
    files: Sequence[str]

    def summary(self) -> list[str]:
        """Return it for people, a line each, with the commands to go on with."""
        return quickstart_lines(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what quickstart.json holds."""
        return {
            "finished": True,
            "held_out": self.held_out.to_dict(),
            "parity": self.parity.to_dict(),
            "speed": {
                "torch_pairs_per_second": self.torch_rate,
                "onnxruntime_pairs_per_second": self.onnxruntime_rate,
            },
            "probe_seconds": self.probe_seconds,
            "seconds": dict(self.seconds),
            "cpus": self.cpus,
            "files": list(self.files),
        }


@dataclass(frozen=True)
class QuickstartPlan:
    """How much is drawn and how it is trained on. It reaches 90 % on held-out combinations within
    minutes on 2 CPU cores.
    """

    # two rows each
    photos: dict[str, int] = field(
        default_factory=lambda: {"train": 6000, "val": 600, "test": 1000}
    )
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=lambda: RECIPE)  # fields of TrainConfig


@dataclass(frozen=True)
class _Scored:
    """The test rows with their predictions."""

    rows: Sequence[Row]
    predictions: Sequence[Prediction]  # each row's
    rate: float  # pairs a second, from reading to score


@checked
def quickstart(
    dir: str | Path,  # noqa: A002 (the option's name)
    *,
    seed: int = 0,
) -> QuickstartResult:
    """Draw a product catalogue, train on it, evaluate, export and predict: no network, no data, a
    few minutes.

    `dir`: folder to write everything to; an earlier quickstart there is replaced. `seed`: seed of
    the drawings, the split and the training. The model is measured on combinations of article,
    colour, pattern and count that training never saw. Each step is logged to
    `mismatch.jobs.quickstart`.

    A failed or interrupted run leaves nothing behind. InputError for a folder that holds anything
    else, MissingExtraError where `mismatch-clip[train]` is not installed.
    """
    return run_plan(Path(dir), QuickstartPlan(seed=seed))


def run_plan(folder: Path, plan: QuickstartPlan) -> QuickstartResult:
    """Run every step in `folder`; see `quickstart`."""
    _check_extra()
    with own_folder(folder), left_as_found():
        result = _run(folder, plan)
        write_marker(folder, result.to_dict())
    return result


def _check_extra() -> None:
    if not all(importlib.util.find_spec(name) for name in ("torch", "open_clip", "onnx")):
        raise MissingExtraError("mismatch quickstart", "train")


def _run(folder: Path, plan: QuickstartPlan) -> QuickstartResult:
    seconds: dict[str, float] = {}
    bundle = folder / BUNDLE
    probe = probe_seconds()
    logger.info("%d steps, %s", STEPS, duration_line(KNOWN_SECONDS * probe / KNOWN_PROBE))
    with _step("draw", "Drawing a catalogue", seconds):
        catalogue = _draw(folder, plan)
    with _step("train", "Training a small backbone from scratch", seconds):
        model = train_model(catalogue, plan.seed, plan.training)
    with _step("evaluate", "Evaluating on combinations that training never saw", seconds):
        predictor = open_model(model)
        with_torch = _predict(predictor, catalogue, "torch")
        held_out = _evaluate(with_torch)
        _log_evaluation(held_out, catalogue)
    with _step("export", "Exporting to ONNX, compared with torch on the same rows", seconds):
        exported = export_model(predictor, bundle, with_torch.rows, catalogue)
        logger.info("%s; bundle of %.1f MB", exported.parity.summary(), exported.bytes / 1e6)
    with _step("predict", "Predicting from the bundle with onnxruntime", seconds):
        runtime = open_bundle(bundle)
        scored = _predict(runtime, catalogue, "onnxruntime")
        _write_predictions(folder / PREDICTIONS, scored.predictions)
        _log_rates(with_torch, scored)
        _log_examples(scored)
        example = _example(scored)
        image = folder / example.image_path
        evaluate(runtime, catalogue.test_csv, image_base_path=folder, report=folder / REPORT)
        explain_pair(runtime, image, example.text, output=folder / EXPLANATION)
    return QuickstartResult(
        folder=folder,
        model=model,
        bundle=bundle,
        image=image,
        text=example.text,
        report=folder / REPORT / "report.html",
        explanation=folder / EXPLANATION,
        held_out=held_out,
        parity=exported.parity,
        torch_rate=with_torch.rate,
        onnxruntime_rate=scored.rate,
        probe_seconds=probe,
        seconds=seconds,
        cpus=available_cpus(),
        files=own_files(folder),
    )


@contextmanager
def _step(name: str, heading: str, seconds: dict[str, float]) -> Iterator[None]:
    """Announce a step, and add the seconds that it takes."""
    logger.info("\n[%d/%d] %s", len(seconds) + 1, STEPS, heading)
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began


def _draw(folder: Path, plan: QuickstartPlan) -> Catalogue:
    photos = sum(plan.photos.values())
    with progress("draw", photos, "photo") as advance:
        catalogue = write_catalogue(
            folder,
            photos=plan.photos,
            seed=plan.seed,
            workers=min(8, available_cpus()),
            progress=advance,
        )
    numbers = catalogue.combinations
    logger.info(
        f"{photos:,} photos of {sum(numbers.values())} combinations of article, colour, pattern and"
        f" count; look at {catalogue.sheet}"
    )
    logger.info(
        f"{numbers['val'] + numbers['test']} combinations are held out: {numbers['val']} for"
        f" validation, {numbers['test']} for the test"
    )
    return catalogue


def _predict(predictor: Predictor, catalogue: Catalogue, label: str) -> _Scored:
    rows = load_pairs(catalogue.test_csv, catalogue.folder)
    predictions = []
    # the first call of an engine is slow
    predictor.predict(catalogue.folder / rows[0].image_path, rows[0].text)
    began = time.perf_counter()
    with progress(label, len(rows), "pair") as advance:
        for _, prediction in predictor.predict_rows(rows, image_base_path=catalogue.folder):
            predictions.append(prediction)
            advance(1)
    return _Scored(rows, predictions, len(rows) / (time.perf_counter() - began))


def _evaluate(scored: _Scored) -> HeldOut:
    """Return the metrics at the stored threshold, and the accuracy by kind of row."""
    labels: list[int] = []
    scores: list[float] = []
    is_right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for row, prediction in zip(scored.rows, scored.predictions, strict=True):
        label, score = _label_and_score(row, prediction)
        labels.append(label)
        scores.append(score)
        is_right[row.columns["kind"]].append(_is_right(row, prediction))
    threshold = scored.predictions[0].threshold
    by_kind = {
        kind: KindAccuracy(len(right), sum(right) / len(right))
        for kind, right in is_right.items()
        if right
    }
    return HeldOut(binary_metrics(labels, scores, threshold), threshold, by_kind)


def _label_and_score(row: Row, prediction: Prediction) -> tuple[int, float]:
    if row.label is None or prediction.similarity_score is None:
        raise CheckpointError(
            f"line {row.line} of the drawn rows could not be scored: {prediction.status}"
        )
    return row.label, prediction.similarity_score


def _is_right(row: Row, prediction: Prediction) -> bool:
    return prediction.is_match == (row.label == 1)


def _example(scored: _Scored) -> Row:
    """Return a row whose title does not fit its photo; one that the model tells, if it tells any:
    words are named only there.
    """
    pairs = zip(scored.rows, scored.predictions, strict=True)
    mismatches = [(row, _is_right(row, prediction)) for row, prediction in pairs if row.label == 0]
    told = [row for row, right in mismatches if right and row.columns["kind"] != "random"]
    return told[0] if told else mismatches[0][0]


def _write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write the CSV that `mismatch predict` writes."""
    with atomic_file(path) as file:
        writer = RowWriter(file)
        writer.writerow(COLUMNS)
        for prediction in predictions:
            writer.writerow(fields(prediction))


# --- what it logs


def _log_evaluation(held_out: HeldOut, catalogue: Catalogue) -> None:
    metrics = held_out.metrics
    logger.info(
        f"held-out accuracy {metrics['accuracy']:.4f}, AUROC {metrics['auroc']:.4f}, F1"
        f" {metrics['f1']:.4f} on {catalogue.rows['test']:,} rows"
    )
    for kind, right in held_out.by_kind.items():
        logger.info(f"  {KINDS[kind]:<24} {right.accuracy:7.1%} of {right.rows:,} told right")


def _log_rates(with_torch: _Scored, with_onnxruntime: _Scored) -> None:
    logger.info(
        f"{len(with_torch.rows):,} pairs: {with_torch.rate:,.0f} pairs/s with torch,"
        f" {with_onnxruntime.rate:,.0f} with onnxruntime"
    )


def _log_examples(scored: _Scored) -> None:
    """Log the first row of each kind, right or wrong."""
    first: dict[str, tuple[Row, Prediction]] = {}
    for row, prediction in zip(scored.rows, scored.predictions, strict=True):
        first.setdefault(row.columns["kind"], (row, prediction))
    for kind, words in KINDS.items():
        if kind not in first:
            continue
        row, prediction = first[kind]
        verdict = "right" if _is_right(row, prediction) else "WRONG"
        logger.info(
            f"  {row.image_path}  {prediction.similarity_score:.3f} {prediction.prediction:<8}"
            f" {verdict}  {row.text!r} ({words})"
        )
