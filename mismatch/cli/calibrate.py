"""`mismatch calibrate`: see `mismatch.calibrate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import MODEL_OPTIONS, PREVALENCE, ROW_OPTIONS, ROWS, fitting_options
from mismatch.cli.verb import choice, echo_result, option, verb

__all__ = ["command"]


@verb(
    "Fit probabilities to a few labels.",
    *MODEL_OPTIONS,
    option("--csv rows", ROWS, required=True),
    *ROW_OPTIONS,
    option("--output", click.Path(path_type=Path, file_okay=False), metavar="DIR"),
    choice("--kind", ("auto", "temperature", "platt", "piecewise"), "auto"),
    choice("--objective", ("accuracy", "f1", "balanced-accuracy", "mcc")),
    PREVALENCE,
    *fitting_options(4, "Of folds and resamples."),
)
def command(
    model: str, rows: Path, output: Path | None, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Fit probabilities and a threshold to one's own labelled rows, without training: of a trained
    model, a bundle, or a raw backbone (FAMILY:MODEL).

    A raw backbone's cosines become probabilities; --output is then a checkpoint, which evaluate,
    predict and export-onnx take. Ranks stay as they are: a model that can't tell matches from
    mismatches does not learn to. The intervals show how far so few rows can be trusted.

    Options:
    --csv: Labelled rows that the model was not trained on; 50 to 500 will do.
    --output: Folder for the calibrated model.  [default: --model itself]
    --kind: auto: the best by cross-validated log-loss.
    --objective: What the new threshold is best for.  [default: as the stored one, else accuracy]
    """
    from mismatch.jobs.calibrate import calibrate

    calibrate(
        model,
        rows,
        output=output,
        dry_run=dry_run,
        before_storing=partial(echo_result, as_json=as_json),
        **options,
    )
    if dry_run:
        click.echo("nothing stored: --dry-run", err=True)
    else:
        click.echo(f"stored in {output or model}", err=True)
