"""`mismatch tune-threshold`: see `mismatch.tune_threshold`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from mismatch.cli import options as shared
from mismatch.cli.value_types import FINITE, FiniteRange, Parsed, numbers
from mismatch.cli.verb import choice, echo_result, option, verb

__all__ = ["command"]


def _scores(word: str) -> tuple[float, ...]:
    """Return them ascending."""
    return tuple(sorted(numbers(word, "0.1,0.15,0.2")))


@verb(
    "Choose and store the threshold.",
    *shared.MODEL_OPTIONS,
    option("--csv rows", shared.ROWS, required=True),
    *shared.ROW_OPTIONS,
    choice("--objective", ("accuracy", "f1", "balanced-accuracy", "mcc", "cost")),
    option("--cost-miss", FINITE, 1.0),
    option("--cost-false-alarm", FINITE, 1.0),
    option("--target-precision", FINITE, metavar="P"),
    option("--target-recall", FINITE, metavar="R"),
    choice("--target-of", ("mismatch", "match"), "mismatch"),
    option("--max-missed", FINITE, metavar="A"),
    option("--confidence", FINITE, 0.95),
    option("--thresholds", Parsed("A,B,…", _scores)),
    option("--slice slice_column", metavar="NAME"),
    option("--shrinkage", FiniteRange(0), 200.0),
    shared.REVIEW_BAND,
    option("--max-risk", FINITE, metavar="R"),
    shared.PREVALENCE,
    *shared.fitting_options(2, "Of the resamples that intervals are made of."),
)
def command(model: str, rows: Path, as_json: bool, **options: Any) -> None:
    """Choose the score from which a pair is a match, and store it in the model, checkpoint or
    bundle.

    Everything uses it from then on: predict, evaluate, export-onnx. A LOWER threshold lets more
    pairs pass as matches, so it catches FEWER mismatches. The intervals hold for as many new rows
    of the same kind: both the choice of the threshold and the chance of the new rows are in them.

    Options:
    --csv: Labelled rows that the model was not trained on.
    --objective: What is best; f1 is that of the matches.  [default: accuracy]
    --cost-miss: For --objective cost: cost of a mismatch that passes as a match.
    --cost-false-alarm: For --objective cost: cost of a match that is called a mismatch.
    --target-precision: Instead: reach precision P for mismatches (--target-of).
    --target-recall: Instead: reach recall R for mismatches (--target-of).
    --target-of: Whose precision or recall is meant.
    --max-missed: Instead: at most a share A of all mismatches passes, with --confidence.
    --confidence: Confidence of --max-missed.
    --thresholds: Scores to show a line for.  [default: about twenty, of a round step]
    --slice: Thresholds of their own for values of this column that have thirty rows and more.
    --shrinkage: Rows at which a slice's own and the common threshold weigh the same.
    --max-risk: Choose the review band: outside of it at most a share R of each kind of decision is
        wrong.
    """
    from mismatch.jobs.tune_threshold import tune_threshold
    from mismatch.runtime.score_file import score_file

    show = partial(echo_result, as_json=as_json)
    result = tune_threshold(model, rows, before_storing=show, **options)
    if result.stored:
        click.echo(f"stored in {score_file(model)}", err=True)
    else:
        click.echo("nothing stored: --dry-run", err=True)
