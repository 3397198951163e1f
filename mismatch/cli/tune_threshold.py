"""`mismatch tune-threshold`: see `mismatch.tune_threshold`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import FINITE, SEED, FiniteRange
from mismatch.cli.options import job_row_options, model_options, review_band_option
from mismatch.io.atomic import finite

if TYPE_CHECKING:
    from mismatch.jobs.tune_threshold import ThresholdResult

__all__ = ["command"]


class Numbers(click.ParamType[tuple[float, ...]]):
    """Parse scores with commas between them."""

    name = "A,B,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return at least one, ascending."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(sorted(map(float, str(value).split(","))))
        except ValueError:
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} are no numbers; write them as in 0.1,0.15,0.2", param, ctx)
        return numbers


@click.command(short_help="Choose and store the threshold.")
@model_options
@click.option(
    "--csv",
    "rows",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled rows that the model was not trained on.",
)
@job_row_options
@click.option(
    "--objective",
    type=click.Choice(["accuracy", "f1", "balanced-accuracy", "mcc", "cost"]),
    help="What is best; f1: of the matches.  [default: accuracy]",
)
@click.option(
    "--cost-miss",
    type=FINITE,
    default=1.0,
    show_default=True,
    help="Of --objective cost: a mismatch that passes as a match.",
)
@click.option(
    "--cost-false-alarm",
    type=FINITE,
    default=1.0,
    show_default=True,
    help="Of --objective cost: a match that is called a mismatch.",
)
@click.option(
    "--target-precision",
    type=FINITE,
    metavar="P",
    help="Instead: of what is called a mismatch (--target-of), a share of P is one.",
)
@click.option(
    "--target-recall",
    type=FINITE,
    metavar="R",
    help="Instead: of all mismatches (--target-of), a share of R is called so.",
)
@click.option(
    "--target-of",
    type=click.Choice(["mismatch", "match"]),
    default="mismatch",
    show_default=True,
    help="Whose precision or recall is meant.",
)
@click.option(
    "--max-missed",
    type=FINITE,
    metavar="A",
    help="Instead: at most a share A of all mismatches passes, with --confidence.",
)
@click.option("--confidence", type=FINITE, default=0.95, show_default=True, help="Of --max-missed.")
@click.option(
    "--thresholds",
    type=Numbers(),
    help="Scores to show a line for.  [default: about twenty, of a round step]",
)
@click.option(
    "--slice",
    "slice_column",
    metavar="NAME",
    help="Thresholds of their own for values of this column that have thirty rows and more.",
)
@click.option(
    "--shrinkage",
    type=FiniteRange(0),
    default=200.0,
    show_default=True,
    help="Rows at which a slice's own and the common threshold weigh the same.",
)
@review_band_option
@click.option(
    "--max-risk",
    type=FINITE,
    metavar="R",
    help=(
        "Choose the review band: outside of it at most a share R of each kind of decision is wrong."
    ),
)
@click.option(
    "--min-rows",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="Fewer labelled rows are refused.",
)
@click.option(
    "--level",
    type=FiniteRange(0.5, 0.999),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the resamples that intervals are made of.",
)
@click.option("--dry-run", is_flag=True, help="Show all, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(model: str, rows: Path, as_json: bool, **options: Any) -> None:
    """Choose the score from which a pair is a match, and store it in the model, checkpoint or
    bundle.

    Everything uses it from then on: predict, evaluate, export-onnx. A LOWER threshold lets more
    pairs pass as matches, so it catches FEWER mismatches. The intervals hold for as many new rows
    of the same kind: both the choice of the threshold and the chance of the new rows are in them.
    """
    from mismatch.cli.threshold_lines import threshold_lines
    from mismatch.jobs.tune_threshold import tune_threshold
    from mismatch.runtime.score_file import score_file

    def show(result: ThresholdResult) -> None:
        if as_json:
            click.echo(json.dumps(finite(result.to_dict()), indent=2, ensure_ascii=False))
        else:
            click.echo("\n".join(threshold_lines(result, options["level"])))

    result = tune_threshold(model, rows, before_storing=show, **options)
    if result.stored:
        click.echo(f"stored in {score_file(model)}", err=True)
    else:
        click.echo("nothing stored: --dry-run", err=True)
