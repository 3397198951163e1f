"""`mismatch predict`: one pair as a box, or a CSV of pairs as a CSV of scores."""

from __future__ import annotations

import csv
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mismatch.cli.options import long_text_option, model_options
from mismatch.cli.progress import progress_bar
from mismatch.data.pairs import Row, read_header, read_rows
from mismatch.errors import CheckpointError, InputError
from mismatch.files import atomic_file

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = ["COLUMNS", "RowWriter", "box", "command", "fields", "load_predictor", "long_texts", "predict_rows"]

COLUMNS = ("image_path", "text", "similarity_score", "threshold", "is_match", "prediction", "status")
RULE = "=" * 50


class RowWriter:
    """Rows as CSV with plain line ends. A row with a carriage return is quoted whole: until Python 3.13, csv leaves a lone one bare."""

    def __init__(self, file: TextIO) -> None:
        self._plain = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def writerow(self, row: Iterable[object]) -> None:
        """Write one row."""
        values = list(row)
        writer = self._quoted if any("\r" in str(value) for value in values) else self._plain
        writer.writerow(values)


@click.command(short_help="Score one pair, or a CSV of pairs.")
@model_options
@click.option("--image", type=click.Path(path_type=Path), help="One image; goes with --text.")
@click.option("--text", help="One text; goes with --image.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Rows image_path,text; a label is not needed.")
@click.option("--image-base-path", default="", help="Folder that the CSV's image paths are relative to.  [default: the working directory]")
@click.option("--output", default="-", help="CSV to write; - is standard output.", show_default=True)
@click.option("--threshold", type=float, help="Score from which a pair is a match.  [default: the model's own]")
@long_text_option
@click.option("--keep-columns", is_flag=True, help="Copy the CSV's other columns behind the scores, a `status` as `input_status`.")
def command(image: Path | None, text: str | None, csv_file: Path | None, image_base_path: str, output: str, keep_columns: bool, **options: Any) -> None:
    """Score one pair (--image, --text) or a CSV of pairs (--csv)."""
    single = image is not None or text is not None
    if single == (csv_file is not None):
        raise click.UsageError("give either --image and --text for one pair, or --csv for many")
    if single and (image is None or text is None):
        raise click.UsageError(f"--image and --text go together; {'--text' if text is None else '--image'} is missing")
    if csv_file is None and image is not None and text is not None:
        if keep_columns or output != "-":
            raise click.UsageError("--output and --keep-columns go with --csv; one pair is printed")
        _predict_one(Path(image_base_path) / image, text, options)
    elif csv_file is not None:
        _predict_csv(csv_file, image_base_path, output, keep_columns, options)


def _predict_one(image: Path, text: str, options: dict[str, Any]) -> None:
    predictor = load_predictor(options)
    result = predictor.predict(image, text)
    if result.similarity_score is None:
        raise CheckpointError(f"{options['model']}: {result.status}")
    click.echo(box(result))
    if line := long_texts(predictor):
        click.echo(line, err=True)


def box(result: Prediction) -> str:
    """A prediction for people; programs read the CSV."""
    lines = [
        RULE,
        "CLIP Mismatch Detection Result",
        RULE,
        f"Image: {result.image_path}",
        f"Text: {result.text}",
        f"Similarity Score: {result.similarity_score:.4f}",
        f"Threshold: {_short(result.threshold)}",
        f"Prediction: {result.prediction.upper()}",
        f"Is Match: {result.is_match}",
        RULE,
    ]
    return "\n".join(lines)


def load_predictor(options: dict[str, Any]) -> Predictor:
    """What `model_options`, --threshold and --long-text ask for."""
    import mismatch

    return mismatch.load(
        options["model"],
        options["provider"],
        options["threads"],
        threshold=options["threshold"],
        batch_size=options["batch_size"],
        workers=options["num_workers"],
        long_text=options["long_text"],
    )


def long_texts(predictor: Predictor) -> str | None:
    """What to say of the texts over the context that have been scored so far, if there were any."""
    from mismatch.runtime.chunks import long_texts_line

    pipeline, stored = predictor.pipeline, predictor.engine.score
    if not pipeline.long_texts:
        return None
    line = long_texts_line(pipeline.long_texts, predictor.engine.text_spec.context_length, pipeline.long_text, advise=True)
    other = stored.long_text != pipeline.long_text and (stored.threshold or stored.calibration)
    return f"{line}; the model's calibration and threshold are of --long-text {stored.long_text}" if other else line


def _predict_csv(csv_file: Path, base: str, output: str, keep_columns: bool, options: dict[str, Any]) -> None:
    if output != "-" and Path(output).exists() and csv_file.exists() and os.path.samefile(output, csv_file):
        raise InputError(f"--output {output} is the input; choose another name")
    header = read_header(csv_file, require_label=False)  # a wrong file is refused before a model is loaded
    kept = _kept_columns(header) if keep_columns else {}
    predictor = load_predictor(options)
    with _writer(output) as file:
        done, failed = write_predictions(file, read_rows(csv_file, require_label=False), predictor, base, kept)
    where = "" if output == "-" else f" → {output}"
    click.echo(f"{done:,} rows scored{where}{f'; {failed:,} could not be: see their status' if failed else ''}", err=True)
    if line := long_texts(predictor):
        click.echo(line, err=True)
    if failed and not done:
        raise InputError(f"{csv_file}: not one of its {failed:,} rows could be scored; mismatch validate says why row by row")


def _kept_columns(header: Iterable[str]) -> dict[str, str]:
    """The input's columns → what they are called behind the scores; one that would clash with a score's name is `input_…`."""
    taken, kept = {*COLUMNS, *header}, {}
    for name in header:
        if name in ("image_path", "text"):
            continue
        new = name
        while new in COLUMNS or (new != name and new in taken):
            new = f"input_{new}"
        taken.add(new)
        kept[name] = new
    return kept


def predict_rows(predictor: Predictor, rows: Iterable[Row], base: str) -> Iterator[tuple[Row, Prediction]]:
    """Each row with its prediction, in order, streamed."""
    pending: deque[Row] = deque()

    def mappings() -> Iterator[dict[str, Any]]:
        for row in rows:
            pending.append(row)
            yield {"image_path": row.image_path, "text": row.text, "problem": row.problem}

    for prediction in predictor.predict_pairs(mappings(), image_base_path=base):
        yield pending.popleft(), prediction


def write_predictions(file: TextIO, rows: Iterable[Row], predictor: Predictor, base: str, kept: dict[str, str]) -> tuple[int, int]:
    """Stream rows through the predictor into CSV; returns how many were scored and how many not."""
    out = RowWriter(file)
    out.writerow((*COLUMNS, *kept.values()))
    counts = [0, 0]
    with progress_bar("predict", unit="row") as advance:
        for row, prediction in predict_rows(predictor, rows, base):
            out.writerow((*fields(prediction), *(row.columns.get(name, "") for name in kept)))
            counts[prediction.status != "ok"] += 1
            advance(1)
    return counts[0], counts[1]


def fields(result: Prediction) -> tuple[str, ...]:
    """A prediction as `COLUMNS`; decided before anything is rounded."""
    scored = result.similarity_score is not None
    return (
        result.image_path,
        result.text,
        f"{result.similarity_score:.9g}" if scored else "",
        f"{result.threshold:.9g}",
        str(result.is_match) if scored else "",
        result.prediction,
        result.status,
    )


def _short(value: float) -> str:
    """At most four decimals, no trailing zeros: 0.25."""
    return f"{value:.4f}".rstrip("0").removesuffix(".")


@contextmanager
def _writer(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield sys.stdout
        sys.stdout.flush()
    else:
        with atomic_file(Path(output)) as file:
            yield file
