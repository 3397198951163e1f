"""`mismatch quickstart`: the whole path on a drawn catalogue, without network or data: draw, train,
evaluate, export, predict.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.logs import lines_on_stdout
from mismatch.cli.number_types import SEED
from mismatch.cli.progress import progress_bar
from mismatch.errors import CheckpointError, InputError, MissingExtraError
from mismatch.io.atomic import is_leftover
from mismatch.io.locks import locked
from mismatch.io.outputs import refuse_model_folder
from mismatch.runtime.hardware import available_cpus

if TYPE_CHECKING:
    from mismatch.data.catalogue import Catalogue
    from mismatch.data.pairs import Row
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = ["Plan", "command", "quickstart"]

MARKER = "quickstart.json"  # what was measured; a folder with it may be written again
BACKBONE = "backbone"
MODEL = "model"
BUNDLE = "bundle"
PREDICTIONS = "predictions.csv"
OWN_NAMES = (
    MARKER,
    "images",
    "train.csv",
    "val.csv",
    "test.csv",
    "catalogue.png",
    BACKBONE,
    MODEL,
    BUNDLE,
    PREDICTIONS,
)
KINDS = ("match", "random", "article", "colour", "pattern", "count")
BATCH = 64  # images a tower call, for both engines alike

# A small ResNet and a two-layer text tower in open_clip's own format. Convolutions learn articles
# and patterns in a fifth of the time that a ViT needs.
BACKBONE_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}

# A start from random weights wants rates far above those that fine-tune a trained backbone; a
# cosine head learns faster here than an adapter.
RECIPE: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "head": "cosine",
    "head_learning_rate": 1e-2,
    "best_metric": "auroc",
}
RECIPE |= {"precision": "fp32"}  # in which its promise was measured

Report = Callable[[str], object]  # is given one line


@dataclass(frozen=True)
class Plan:
    """How much is drawn and how it is trained on; for 90 % on held-out combinations within minutes
    on 2 CPU cores.
    """

    # two rows each
    photos: dict[str, int] = field(
        default_factory=lambda: {"train": 6000, "val": 500, "test": 1000}
    )
    seed: int = 0
    training: dict[str, Any] = field(default_factory=lambda: dict(RECIPE))  # fields of TrainConfig


@click.command(short_help="Draw, train, evaluate, export, predict in a few minutes.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("mismatch_quickstart"),
    show_default=True,
    help="Folder to write everything to.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the drawings, the split and the training.",
)
def command(folder: Path, seed: int) -> None:
    """Draw a product catalogue, train on it, evaluate, export, predict: no network, no data, a few
    minutes.

    Combinations of article, colour, pattern and count that training never saw are what it is
    measured on. Ends with the commands for your own data.
    """
    with lines_on_stdout("mismatch.training"):
        quickstart(folder, Plan(seed=seed), report=click.echo)


def quickstart(folder: Path, plan: Plan, *, report: Report) -> dict[str, Any]:
    """Run every step in `folder`; returns what was measured, which quickstart.json holds too. A
    failed or interrupted run leaves nothing behind.
    """
    _check_extra()
    refuse_model_folder(folder, "`folder`")
    with locked(folder, parents=True, inside=re.compile("|".join(map(re.escape, OWN_NAMES)))):
        created = _claim(folder)
        try:
            measured = _run(folder, plan, report)
            _write_json(folder / MARKER, {**measured, "files": _own_files(folder)})
        except BaseException:
            _remove_own(folder)
            if created:
                folder.rmdir()
            raise
        return measured


def _check_extra() -> None:
    from importlib.util import find_spec

    if not all(find_spec(name) for name in ("torch", "open_clip", "onnx")):
        raise MissingExtraError("mismatch quickstart", "train")


def _claim(folder: Path) -> bool:
    """Make the folder ours, emptied of an earlier quickstart; returns whether it is new."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`folder` {folder} is a file; choose another folder")
    new = not folder.exists()
    if not new and any(folder.iterdir()):
        _check_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_own(folder)
    _write_json(folder / MARKER, {"finished": False})
    return new


def _check_own(folder: Path) -> None:
    """InputError for a folder that quickstart did not write, or in whose own folders somebody keeps
    files that would be removed with them.
    """
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        marker = None
    if not isinstance(marker, dict) or "finished" not in marker:
        raise InputError(
            f"`folder` {folder} is not empty and was not written by quickstart; choose another"
            " folder"
        )
    listed = marker.get("files")  # none of older versions, nor of a run that was killed
    others = sorted(set(_own_files(folder)) - set(listed)) if isinstance(listed, list) else []
    if others:
        raise InputError(
            f"`folder` {folder} holds files of yours ({', '.join(others[:3])}), which would be"
            " lost; move them, or choose another folder"
        )


def _own_files(folder: Path) -> list[str]:
    """Return all files under the names that are quickstart's own, relative to its folder."""
    places = [folder / name for name in OWN_NAMES]
    files = [
        path for place in places for path in ([place] if place.is_file() else place.rglob("*"))
    ]
    return sorted(
        path.relative_to(folder).as_posix()
        for path in files
        if not path.is_dir() and not is_leftover(path.name)
    )


def _remove_own(folder: Path) -> None:
    """Remove what quickstart writes, the marker last; files that the user put there stay."""
    for name in reversed(OWN_NAMES):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_json(path: Path, data: Any) -> None:
    from mismatch.io.atomic import write_json

    write_json(path, data)


# --- the steps


def _run(folder: Path, plan: Plan, report: Report) -> dict[str, Any]:
    clock = Clock(report)
    with clock.step("draw", "Drawing a catalogue"):
        catalogue = _draw(folder, plan, report)
    with clock.step("train", "Training a small backbone from scratch"):
        best = _train(catalogue, plan)
    with clock.step("evaluate", "Evaluating on combinations that training never saw"):
        torch_predictor = _open_torch(best)
        rows, predictions, torch_rate = _predict(torch_predictor, catalogue, "torch")
        evaluation = _evaluate(rows, predictions)
        _report_evaluation(evaluation, catalogue, report)
    with clock.step("export", "Exporting to ONNX, compared with torch on the same rows"):
        parity = _export(torch_predictor, folder / BUNDLE, rows, catalogue, report)
    with clock.step("predict", "Predicting from the bundle with onnxruntime"):
        rows, predictions, onnx_rate = _predict(
            _open_bundle(folder / BUNDLE), catalogue, "onnxruntime"
        )
        _write_predictions(folder / PREDICTIONS, predictions)
        report(
            f"{len(rows):,} pairs: {torch_rate:,.0f} pairs/s with torch, {onnx_rate:,.0f} with"
            " onnxruntime"
        )
        _report_examples(rows, predictions, report)
    speed = {"torch_pairs_per_second": torch_rate, "onnxruntime_pairs_per_second": onnx_rate}
    measured = {
        "finished": True,
        "held_out": evaluation,
        "parity": parity,
        "speed": speed,
        "seconds": clock.seconds,
        "cpus": available_cpus(),
    }
    report(_closing(folder, evaluation, parity, clock, rows, predictions))
    return measured


class Clock:
    """Headings of the steps, and how long each took."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.seconds: dict[str, float] = {}  # by step, wall clock

    @contextmanager
    def step(self, name: str, heading: str) -> Iterator[None]:
        """Announce a step and time it."""
        self.report(f"\n[{len(self.seconds) + 1}/5] {heading}")
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began

    def summary(self) -> str:
        """draw 8 s, train 90 s, …, together 120 s."""
        parts = [f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items()]
        return f"{', '.join(parts)}; together {sum(self.seconds.values()):.0f} s"


def _draw(folder: Path, plan: Plan, report: Report) -> Catalogue:
    from mismatch.data.catalogue import write_catalogue

    with progress_bar("draw", sum(plan.photos.values()), "photo") as advance:
        catalogue = write_catalogue(
            folder,
            photos=plan.photos,
            seed=plan.seed,
            workers=min(8, available_cpus()),
            progress=advance,
        )
    numbers = catalogue.combinations
    report(
        f"{sum(plan.photos.values()):,} photos of {sum(numbers.values())} combinations of article,"
        f" colour, pattern and count; look at {catalogue.sheet}"
    )
    report(
        f"{numbers['val'] + numbers['test']} combinations are held out: {numbers['val']} for"
        f" validation, {numbers['test']} for the test"
    )
    return catalogue


def _train(catalogue: Catalogue, plan: Plan) -> Path:
    from mismatch.training.config import TrainConfig
    from mismatch.training.trainer import train

    _write_backbone(catalogue.folder / BACKBONE, plan.seed)
    config = TrainConfig(
        train_csv=str(catalogue.train_csv),
        val_csv=str(catalogue.val_csv),
        image_base_path=str(catalogue.folder),
        backbone="openclip",
        model_name=str(catalogue.folder / BACKBONE),
        output_dir=str(catalogue.folder / MODEL),
        seed=plan.seed,
        **plan.training,
    )
    # such a rate would break a pretrained backbone; this one starts from random weights
    return train(config, ignore_warnings=["learning_rate"]).best_model


def _write_backbone(folder: Path, seed: int) -> None:
    """A CLIP of open_clip with random weights, as `--backbone openclip --model-name
    DIR` reads it.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    from mismatch.io.atomic import atomic_directory

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = open_clip.CLIP(**BACKBONE_CONFIG)  # type: ignore[attr-defined, unused-ignore]
    config = {
        "model_cfg": BACKBONE_CONFIG,
        "preprocess_cfg": {"size": BACKBONE_CONFIG["vision_cfg"]["image_size"]},
    }
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic_directory(folder) as part:
        (part / "open_clip_config.json").write_text(
            json.dumps(config, indent=2) + "\n", encoding="utf-8"
        )
        save_file(weights, part / "open_clip_model.safetensors", metadata={"format": "pt"})


def _open_torch(checkpoint: Path) -> Predictor:
    from mismatch.runtime.predictor import Predictor
    from mismatch.training.engine import open_checkpoint

    return Predictor(open_checkpoint(checkpoint, provider="cpu"), batch_size=BATCH)


def _open_bundle(folder: Path) -> Predictor:
    from mismatch.runtime.predictor import load

    return load(folder, provider="cpu", batch_size=BATCH)


def _predict(
    predictor: Predictor, catalogue: Catalogue, label: str
) -> tuple[list[Row], list[Prediction], float]:
    """The test rows, their predictions, and pairs a second from reading to score."""
    from mismatch.data.pairs import load_pairs

    rows = load_pairs(catalogue.test_csv, catalogue.folder)
    predictions = []
    # the first call of an engine is slow
    predictor.predict(catalogue.folder / rows[0].image_path, rows[0].text)
    began = time.perf_counter()
    with progress_bar(label, len(rows), "pair") as advance:
        for _, prediction in predictor.predict_rows(rows, image_base_path=catalogue.folder):
            predictions.append(prediction)
            advance(1)
    return rows, predictions, len(rows) / (time.perf_counter() - began)


def _evaluate(rows: Sequence[Row], predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Metrics at the stored threshold, and accuracy by kind of row."""
    from mismatch.evaluation.metrics import binary_metrics

    labels, scores = zip(*map(_label_and_score, rows, predictions), strict=True)
    metrics = binary_metrics(labels, scores, predictions[0].threshold)
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for row, prediction in zip(rows, predictions, strict=True):
        right[row.columns["kind"]].append(prediction.is_match == (row.label == 1))
    by_kind = {
        kind: {"rows": len(found), "accuracy": sum(found) / len(found)}
        for kind, found in right.items()
        if found
    }
    return {**metrics, "threshold": predictions[0].threshold, "by_kind": by_kind}


def _label_and_score(row: Row, prediction: Prediction) -> tuple[int, float]:
    if row.label is None or prediction.similarity_score is None:
        raise CheckpointError(
            f"line {row.line} of the drawn rows could not be scored: {prediction.status}"
        )
    return row.label, prediction.similarity_score


def _export(
    predictor: Predictor, bundle: Path, rows: Sequence[Row], catalogue: Catalogue, report: Report
) -> dict[str, Any]:
    from mismatch.data.pairs import resolve_image
    from mismatch.export.onnx import Rows, export_bundle
    from mismatch.runtime.pipeline import Pair
    from mismatch.training.engine import TorchEngine

    if not isinstance(predictor.engine, TorchEngine):
        raise TypeError(f"{predictor.engine.name} can't be exported")
    pairs = [Pair(resolve_image(catalogue.folder, row.image_path), row.text) for row in rows]
    with progress_bar("verify", unit="item") as advance:
        result = export_bundle(
            predictor.engine, bundle, rows=Rows(pairs, str(catalogue.test_csv)), progress=advance
        )
    report(f"{result.parity.summary()}; bundle of {result.bytes / 1e6:.1f} MB")
    return result.parity.to_dict()


def _write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """The CSV that `mismatch predict --csv` writes."""
    from mismatch.io.atomic import atomic_file
    from mismatch.jobs.output.tables import COLUMNS, fields
    from mismatch.jobs.row_tables import RowWriter

    with atomic_file(path) as file:
        out = RowWriter(file)
        for row in (COLUMNS, *map(fields, predictions)):
            out.writerow(row)


# --- for people

WHAT_FITS = {"match": "title fits", "random": "another product's title", "count": "wrong count"} | {
    k: f"wrong {k}" for k in ("article", "colour", "pattern")
}


def _report_evaluation(evaluation: dict[str, Any], catalogue: Catalogue, report: Report) -> None:
    report(
        f"held-out accuracy {evaluation['accuracy']:.4f}, AUROC {evaluation['auroc']:.4f}, F1"
        f" {evaluation['f1']:.4f} on {catalogue.rows['test']:,} rows"
    )
    for kind, found in evaluation["by_kind"].items():
        report(f"  {WHAT_FITS[kind]:<24} {found['accuracy']:7.1%} of {found['rows']:,} told right")


def _report_examples(
    rows: Sequence[Row], predictions: Sequence[Prediction], report: Report
) -> None:
    """The first row of each kind, right or wrong."""
    first = {
        row.columns["kind"]: (row, prediction)
        for row, prediction in zip(reversed(rows), reversed(predictions), strict=True)
    }
    for row, prediction in (first[kind] for kind in KINDS if kind in first):
        verdict = "right" if prediction.is_match == (row.label == 1) else "WRONG"
        report(
            f"  {row.image_path}  {prediction.similarity_score:.3f} {prediction.prediction:<8}"
            f" {verdict}  {row.text!r} ({WHAT_FITS[row.columns['kind']]})"
        )


def _closing(
    folder: Path,
    evaluation: dict[str, Any],
    parity: dict[str, Any],
    clock: Clock,
    rows: Sequence[Row],
    predictions: Sequence[Prediction],
) -> str:
    shown = next((row for row in rows if row.label == 0), rows[0])
    image = folder / shown.image_path
    parted = (
        f"within {parity['max_score_difference']:.0e} of torch's, {parity['flipped_decisions']}"
        " decisions flipped"
    )
    return f"""
Held-out accuracy {evaluation["accuracy"]:.4f}; onnxruntime's scores are {parted}.
Time: {clock.summary()}.

{folder}/
  catalogue.png         some of what was drawn
  train.csv val.csv test.csv images/
  {MODEL}/best_model      the trained model (needs torch)
  {BUNDLE}/               the same as ONNX (needs no torch)
  {PREDICTIONS}       the bundle's scores of test.csv
  {MARKER}       everything measured here

Try it:
  mismatch predict --model {folder / BUNDLE} --image {image} --text "{shown.text}"

With your own photos.csv (columns image_path,text,label; 1 = the text describes the image):
  mismatch validate photos.csv --image-base-path photos/
  mismatch train --train-csv photos.csv --image-base-path photos/ --output-dir my_model
  mismatch export-onnx --model my_model/best_model --output my_bundle
  mismatch predict --model my_bundle --csv new.csv --image-base-path photos/ --output scores.csv"""
