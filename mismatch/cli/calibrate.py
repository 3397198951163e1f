"""`mismatch calibrate`: see `mismatch.calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.figures import bounds, figure_lines
from mismatch.cli.number_types import SEED, FiniteRange
from mismatch.cli.options import job_row_options, model_options
from mismatch.io.atomic import finite

if TYPE_CHECKING:
    from mismatch.jobs.calibrate import CalibrationResult

__all__ = ["command"]

ENOUGH = 500  # rows, below which it says how far to trust it


@click.command(short_help="Fit probabilities to a few labels.")
@model_options
@click.option(
    "--csv",
    "rows",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled rows that the model was not trained on; 50 to 500 will do.",
)
@job_row_options
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the calibrated model.  [default: --model itself]",
)
@click.option(
    "--kind",
    type=click.Choice(["auto", "temperature", "platt", "piecewise"]),
    default="auto",
    show_default=True,
    help="auto: the best by cross-validated log-loss.",
)
@click.option(
    "--objective",
    type=click.Choice(["accuracy", "f1", "balanced-accuracy", "mcc"]),
    help=(
        "What the threshold, which has to be chosen anew, is best for.  [default: as the stored"
        " one, else accuracy]"
    ),
)
@click.option(
    "--min-rows",
    type=click.IntRange(4),
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
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of folds and resamples.")
@click.option("--dry-run", is_flag=True, help="Show all, store nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(model: str, rows: Path, as_json: bool, **options: Any) -> None:
    """Fit probabilities and a threshold to one's own labelled rows, without training: of a trained
    model, a bundle, or a raw backbone (FAMILY:MODEL).

    A raw backbone's cosines become probabilities; --output is then a checkpoint, which evaluate,
    predict and export-onnx take. Ranks stay as they are: a model that can't tell matches from
    mismatches does not learn to. The intervals show how far so few rows can be trusted.
    """
    from mismatch.jobs.calibrate import calibrate

    def show(result: CalibrationResult) -> None:
        if as_json:
            click.echo(json.dumps(finite(result.to_dict()), indent=2, ensure_ascii=False))
        else:
            click.echo("\n".join(_lines(result, options["level"])))

    calibrate(model, rows, before_storing=show, **options)
    if options["dry_run"]:
        click.echo("nothing stored: --dry-run", err=True)
    else:
        click.echo(f"stored in {options['output'] or model}", err=True)


def _lines(result: CalibrationResult, level: float) -> list[str]:
    """Return the result for people."""
    threshold = result.threshold
    mismatches = result.rows - result.matches
    unit = "logit" if result.before["log_loss"] == result.before["log_loss"] else "cosine"
    lines = [
        (
            f"{result.rows:,} rows, {result.matches:,} matches and {mismatches:,} mismatches; AUROC"
            f" {result.auroc:.4f}, which a calibration doesn't change"
        ),
        f"calibration: {result.calibration.kind}",
        "",
        f"{'':<12}before  after (rows that the fit has not seen)",
    ]
    for name, words in (("log_loss", "log-loss"), ("brier", "Brier score"), ("ece", "ECE")):
        old = result.before[name]
        was = "–     " if old != old else f"{old:.4f}"
        lines.append(f"{words:<12}{was}  {result.after[name]:.4f}")
    lines += [
        "",
        f"{unit}     probability  {level:.0%} of the times, had other rows been labelled",
    ]
    lines += [
        f"{point.logit:<9.4g}  {point.probability:.4f}       {bounds(*point.interval)}"
        for point in result.points
    ]
    lines += [
        "",
        f"threshold {threshold.value:.4f} ({threshold.objective})",
        f"{'':<21}  these   {level:.0%} of the times, on new rows",
    ]
    values = {name: figure.value for name, figure in result.figures.items()}
    lines += figure_lines(values, {name: one.interval for name, one in result.figures.items()})
    if result.rows < ENOUGH:
        times = (ENOUGH / result.rows) ** 0.5
        lines.append(
            f"{result.rows:,} rows are few: believe the intervals; with {ENOUGH} labels they are"
            f" {times:.1f} times as narrow"
        )
    return lines
