"""`mismatch tune-threshold`: choose the score from which a pair is a match, for one's own costs,
and store it with the model.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.figures import figure_lines
from mismatch.cli.number_types import FINITE, SEED, FiniteRange
from mismatch.cli.options import model_options, review_band_option, row_options
from mismatch.cli.parts import hold_score
from mismatch.data.columns import Columns
from mismatch.errors import InputError
from mismatch.files import finite
from mismatch.jobs.labelled_rows import Labelled, check_labels, score_labelled
from mismatch.jobs.options import RowSource
from mismatch.specs import ReviewBand, ScoreSpec, SliceThresholds, Threshold

if TYPE_CHECKING:
    from mismatch.evaluation.objectives import Objective
    from mismatch.evaluation.review import Coverage

__all__ = ["command"]

FEW = 200  # rows, below which intervals are so wide that it says so
COLUMNS = (
    "mismatch_precision",
    "mismatch_recall",
    "mismatch_f1",
    "match_precision",
    "match_recall",
    "match_f1",
)
HEADS = f"{'precision':<11}{'recall':<8}F1"
AIMS = ("objective", "target_precision", "target_recall", "max_missed")


class Numbers(click.ParamType[tuple[float, ...]]):
    """Scores with commas between them."""

    name = "A,B,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """At least one."""
        try:
            numbers = (
                value
                if isinstance(value, tuple)
                else tuple(sorted(map(float, str(value).split(","))))
            )
        except ValueError:
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} are no numbers; write them as in 0.1,0.15,0.2", param, ctx)
        return numbers


@click.command(short_help="Choose and store the threshold.")
@model_options
@click.option(
    "--csv",
    "csv_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled rows that the model was not trained on.",
)
@row_options
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
    "column",
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
def command(
    csv_file: Path,
    image_base_path: str,
    columns: Columns,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Choose the score from which a pair is a match, and store it in the model, checkpoint or
    bundle.

    Everything uses it from then on: predict, evaluate, export-onnx. A LOWER threshold lets more
    pairs pass as matches, so it catches FEWER mismatches. The intervals hold for as many new rows
    of the same kind: both the choice of the threshold and the chance of the new rows are in them.
    """
    from mismatch.cli.predict import load_predictor
    from mismatch.runtime.stored_score import score_file, write_score

    _check(options)
    source = RowSource(str(csv_file), csv_file, image_base_path, columns)
    check_labels(source, [options["column"]] if options["column"] else [])
    if not dry_run:
        hold_score(options["model"])  # refuses what nothing can be stored in
    predictor = load_predictor(options | {"review_band": None})
    wanted = [options["column"]] if options["column"] else []
    rows = score_labelled(predictor, source, wanted=wanted, min_rows=options["min_rows"])
    choice = _choose(rows, predictor.engine.score, options)
    result = choice.to_dict() | {
        "model": options["model"],
        "csv": str(csv_file),
        "rows": len(rows.labels),
        "stored": not dry_run,
    }
    click.echo(
        json.dumps(finite(result), indent=2, ensure_ascii=False)
        if as_json
        else "\n".join(choice.lines(len(rows.labels), options["level"]))
    )
    if not dry_run:  # behind all that can fail: a command that ends in an error has changed nothing
        write_score(options["model"], choice.score)
    click.echo(
        "nothing stored: --dry-run" if dry_run else f"stored in {score_file(options['model'])}",
        err=True,
    )


def _check(options: dict[str, Any]) -> None:
    if len(given := [name for name in AIMS if options[name] is not None]) > 1:
        raise click.UsageError(
            f"--{given[0].replace('_', '-')} and --{given[1].replace('_', '-')} don't go together;"
            " one of them says what is chosen"
        )
    if options["review_band"] is not None and options["max_risk"] is not None:
        raise click.UsageError(
            "--review-band gives a band and --max-risk chooses one; pass one of the two"
        )
    if options["column"] and (
        options["review_band"] is not None or options["max_risk"] is not None
    ):
        raise click.UsageError("--slice and a review band don't go together")
    if options["column"] and options["max_missed"] is not None:
        raise click.UsageError("--max-missed promises for all rows together; it has no --slice")


@dataclass(frozen=True)
class Choice:
    """What was chosen, and how it does."""

    score: ScoreSpec
    threshold: Threshold
    words: str  # the objective for people
    figures: dict[str, Any]  # on these rows
    intervals: dict[str, Any]
    table: list[dict[str, Any]]
    coverage: Coverage | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "threshold": self.threshold.to_dict(),
            "figures": {
                name: {"value": self.figures[name], "interval": list(interval)}
                for name, interval in self.intervals.items()
            },
            "review": self.score.review and self.score.review.to_dict(),
            "coverage": None if self.coverage is None else self.coverage._asdict(),
            "slices": self.score.slices and self.score.slices.to_dict(),
            "thresholds": self.table,
        }

    def lines(self, rows: int, level: float) -> list[str]:
        """For people."""
        lines = [
            f"threshold {self.threshold.value:.4f}: {self.words}, on {rows:,} rows",
            "",
            f"{'':<21}  these   {level:.0%} of the times, on new rows",
        ]
        lines += figure_lines(self.figures, self.intervals)
        if rows < FEW:
            lines.append(
                f"{rows:,} rows are few: believe the intervals, not the figures; {FEW} and more"
                " make them narrower"
            )
        lines += [
            "",
            f"{'':<11}{'of the mismatches':<26}{'of the matches':<26}called",
            f"{'threshold':<11}{HEADS:<26}{HEADS:<26}mismatches",
        ]
        lines += [_row(row) for row in self.table]
        if self.coverage is not None and (band := self.score.review) is not None:
            seen = self.coverage
            alone = (
                f"the machine decides {seen.automatic:.1%} of the rows alone"
                f" ({_percent(seen.automatic_interval)})"
            )
            lines += [
                "",
                f"review band {band.low:.4f} to {band.high:.4f}: {alone}",
                f"and is wrong in {seen.risk:.2%} of these ({_percent(seen.risk_interval)})",
            ]
        if (slices := self.score.slices) is not None:
            lines += [
                "",
                f"thresholds by {slices.column} (any other value: {self.threshold.value:.4f})",
            ]
            lines += [
                f"  {value:.4f}  {name}  ({slices.rows[name]:,} rows)"
                for name, value in slices.values.items()
            ]
        return lines


def _row(row: dict[str, Any]) -> str:
    cells = [f"{row[name]:.4f}" if row[name] == row[name] else "–" for name in COLUMNS]
    sides = [f"{precision:<11}{recall:<8}{f1}" for precision, recall, f1 in (cells[:3], cells[3:])]
    return f"{row['threshold']:<11.4g}{sides[0]:<26}{sides[1]:<26}{row['alarm_rate']:.1%}"


def _percent(interval: Any) -> str:
    return "–" if interval.low != interval.low else f"{interval.low:.1%} to {interval.high:.1%}"


def _choose(rows: Labelled, score: ScoreSpec, options: dict[str, Any]) -> Choice:
    from mismatch.evaluation.review import choose_band, coverage
    from mismatch.evaluation.slices import choose_slices
    from mismatch.evaluation.threshold import (
        choose_threshold,
        expected_figures,
        limit_missed,
        threshold_table,
    )

    labels = rows.labels
    scores = rows.scores
    objective = _objective(options)
    if objective is None:
        threshold = limit_missed(labels, scores, options["max_missed"], options["confidence"])
        words = (
            f"at most {options['max_missed']:g} of all mismatches pass, with confidence"
            f" {options['confidence']:g}"
        )
    else:
        threshold = choose_threshold(labels, scores, objective)
        words = objective.describe()
    how = {"groups": rows.images, "level": options["level"], "seed": options["seed"]}
    intervals = expected_figures(
        labels, scores, objective, threshold=None if objective else threshold.value, **how
    )
    [figures] = threshold_table(labels, scores, [threshold.value])
    band = (
        options["review_band"]
        if options["max_risk"] is None
        else choose_band(labels, scores, options["max_risk"])
    )
    slices: SliceThresholds | None = None
    if options["column"] and objective is not None:
        slices = choose_slices(
            labels,
            scores,
            rows.columns[options["column"]],
            options["column"],
            objective,
            threshold.value,
            shrinkage=options["shrinkage"],
        )
    new = replace(score, review=_review(score, band, slices), slices=slices).with_threshold(
        threshold
    )
    seen = None if new.review is None else coverage(labels, scores, new.review, **how)
    return Choice(
        new,
        threshold,
        words,
        figures,
        intervals,
        threshold_table(labels, scores, options["thresholds"]),
        seen,
    )


def _review(
    score: ScoreSpec, band: ReviewBand | None, slices: SliceThresholds | None
) -> ReviewBand | None:
    """The one that is asked for, else the stored one, which goes where thresholds by slice come."""
    return None if slices is not None else band or score.review


def _objective(options: dict[str, Any]) -> Objective | None:
    """None for --max-missed."""
    from mismatch.evaluation.objectives import Objective

    if options["max_missed"] is not None:
        return None
    for kind in ("precision", "recall"):
        if (target := options[f"target_{kind}"]) is not None:
            return Objective(kind, target=target, of=options["target_of"])
    if options["objective"] == "cost":
        if options["cost_miss"] == options["cost_false_alarm"]:
            raise InputError(
                "--objective cost with equal costs is accuracy; pass --cost-miss and"
                " --cost-false-alarm"
            )
        return Objective("cost", options["cost_miss"], options["cost_false_alarm"])
    return Objective(options["objective"] or "accuracy")
