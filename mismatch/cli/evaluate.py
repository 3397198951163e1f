"""`mismatch evaluate`: how good a model is on labelled rows, in figures, and optionally row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import long_text_option, model_options, row_options
from mismatch.cli.predict import COLUMNS, RowWriter, fields, load_predictor, long_texts
from mismatch.cli.progress import progress_bar
from mismatch.cli.scored import predict_rows
from mismatch.data.pairs import Columns, Row, place, read_rows, refusal
from mismatch.errors import CheckpointError, InputError
from mismatch.files import atomic_file, finite, write_json

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = ["command"]

SHOWN = 10  # rows that could not be scored
FIGURES = ("accuracy", "auroc", "average_precision", "log_loss")
CLASSES = {"match": "", "mismatch": "mismatch_"}  # as shown → how their keys begin in binary_metrics


@click.command(short_help="Measure a model on labelled rows.")
@model_options
@click.option(
    "--csv", "csv_file", required=True, type=click.Path(path_type=Path), help="Rows image_path,text,label; also TSV, JSONL, Parquet, a datasets folder."
)
@row_options
@click.option("--threshold", type=float, help="Score from which a pair is a match.  [default: the model's own]")
@long_text_option
@click.option("--report", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Folder for report.json and predictions.csv.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(csv_file: Path, image_base_path: str, columns: Columns, report: Path | None, as_json: bool, **options: Any) -> None:
    """Measure a model on labelled rows: accuracy, precision, recall, F1, AUROC and more.

    A row without a usable label is refused. A row whose image or text can't be used is counted and left out of the figures.
    """
    _check_labels(csv_file, columns)  # before a model is loaded
    predictor = load_predictor(options)
    if report is not None:
        _make_folder(report)
    tally = Tally()
    with _row_writer(report) as write, progress_bar("evaluate", unit="row") as advance:
        for row, prediction in predict_rows(predictor, read_rows(csv_file, require_label=True, columns=columns), image_base_path, columns):
            tally.add(row, prediction)
            write(row, prediction)
            advance(1)
    result = _result(tally, predictor, csv_file, image_base_path, options)
    if report is not None:
        write_json(report / "report.json", result)
    click.echo(json.dumps(finite(result), indent=2, ensure_ascii=False) if as_json else "\n".join(_lines(result, long_texts(predictor))))
    if report is not None:
        click.echo(f"report.json and predictions.csv written to {report}", err=True)


def _check_labels(csv_file: Path, columns: Columns) -> None:
    rows, bad = 0, []
    for row in read_rows(csv_file, require_label=True, columns=columns):
        rows += 1
        if row.label is None:
            bad.append(row)
    if bad:
        raise refusal(csv_file, bad)
    if not rows:
        raise InputError(f"{csv_file}: there are no rows under the header; nothing to evaluate")


@dataclass
class Tally:
    """Labels and scores of the rows that could be scored, and the first ones that could not."""

    labels: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    unscorable: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Row, prediction: Prediction) -> None:
        """Count one row."""
        if prediction.similarity_score is not None and row.label is not None:
            self.labels.append(row.label)
            self.scores.append(prediction.similarity_score)
            return
        self.unscorable += 1
        if len(self.first) < SHOWN:
            self.first.append({"line": row.line, "status": prediction.status})


def _result(tally: Tally, predictor: Predictor, csv_file: Path, base: str, options: dict[str, Any]) -> dict[str, Any]:
    """What report.json holds."""
    from mismatch.evaluation.metrics import binary_metrics

    if not tally.labels:
        raise InputError(f"{csv_file}: not one of its {tally.unscorable:,} rows could be scored; mismatch validate says why row by row")
    metrics = binary_metrics(tally.labels, tally.scores, predictor.threshold)
    return {
        "model": options["model"],
        "engine": predictor.engine.describe(),
        "csv": str(csv_file),
        "image_base_path": base,
        "rows": len(tally.labels) + tally.unscorable,
        "scored": len(tally.labels),
        "unscorable": tally.unscorable,
        "first_unscorable": tally.first,
        "long_text": predictor.pipeline.long_text,
        "long_texts": predictor.pipeline.long_texts,
        "truncated_texts": predictor.pipeline.truncated,
        "threshold": _threshold(predictor, given=options["threshold"] is not None),
        "metrics": {key: value for key, value in metrics.items() if key not in ("rows", "threshold")},
    }


def _threshold(predictor: Predictor, *, given: bool) -> dict[str, Any]:
    stored = predictor.score.threshold
    if given:
        return {"value": predictor.threshold, "source": "flag"}
    return {"value": predictor.threshold, "source": "default"} if stored is None else {**asdict(stored), "source": "stored"}


def _lines(result: dict[str, Any], long: str | None) -> Iterator[str]:
    """The result for people, with what is to say of long texts."""
    metrics = result["metrics"]
    yield f"{result['csv']}: {result['scored']:,} rows scored by {result['model']}"
    yield f"threshold          {result['threshold']['value']:.4f}  {_origin(result['threshold'])}"
    yield ""
    yield from (f"{name.replace('_', ' '):<18} {_number(metrics[name])}" for name in FIGURES)
    yield ""
    yield f"{'':<18} precision  recall     F1"
    for name, prefix in CLASSES.items():
        yield f"{name:<18} " + "     ".join(_number(metrics[prefix + figure]) for figure in ("precision", "recall", "f1"))
    yield ""
    yield from _confusion(metrics["confusion_matrix"])
    if long:
        yield f"\n{long}"
    yield from _unscorable(result)


def _origin(threshold: dict[str, Any]) -> str:
    if threshold["source"] == "stored":
        return f"stored with the model: best {threshold['objective']} on {threshold['rows']:,} rows, {threshold['date'][:10]}"
    return "given by --threshold" if threshold["source"] == "flag" else "the default; none is stored with the model"


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else "–     "


def _confusion(matrix: list[list[int]]) -> Iterator[str]:
    yield f"{'':<18} {'said mismatch':>13} {'said match':>11}"
    yield from (f"{name:<18} {row[0]:>13,} {row[1]:>11,}" for name, row in zip(("is mismatch", "is match"), matrix, strict=True))


def _unscorable(result: dict[str, Any]) -> Iterator[str]:
    if not result["unscorable"]:
        return
    yield f"\n{result['unscorable']:,} of {result['rows']:,} rows could not be scored and are not in these figures:"
    yield from (f"{place(result['csv'], row['line'])}: {row['status']}" for row in result["first_unscorable"])
    if more := result["unscorable"] - len(result["first_unscorable"]):
        yield f"… and {more:,} more"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"--report {folder} can't be created: {error.strerror}; choose another") from error


@contextmanager
def _row_writer(folder: Path | None) -> Iterator[Any]:
    """What is given each row and its prediction; writes predictions.csv, or nothing without a folder."""
    if folder is None:
        yield lambda row, prediction: None
        return
    with atomic_file(folder / "predictions.csv") as file:
        out = RowWriter(file)
        out.writerow((*COLUMNS, "label", "line"))
        yield lambda row, prediction: out.writerow((*fields(prediction), row.label, row.line))
