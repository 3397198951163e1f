"""`mismatch calibrate`: probabilities and a threshold for one's own data from a few labels, without
training.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.labelled import Labelled, bounds, check_labels, figure_lines, score_labelled
from mismatch.cli.number_types import SEED, FiniteRange
from mismatch.cli.options import model_options, row_options
from mismatch.cli.parts import hold, hold_score
from mismatch.data.columns import Columns
from mismatch.errors import CheckpointError, InputError
from mismatch.files import atomic_directory, finite
from mismatch.outputs import refuse_model_folder
from mismatch.specs import ScoreSpec

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Predictor

__all__ = ["command"]

ENOUGH = 500  # rows, below which it says how far to trust it
POINTS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of the logits at which the probability is shown
RESAMPLES = 200  # of fits


@click.command(short_help="Fit probabilities to a few labels.")
@model_options
@click.option(
    "--csv",
    "csv_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Labelled rows that the model was not trained on; 50 to 500 will do.",
)
@row_options
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
def command(
    csv_file: Path,
    image_base_path: str,
    columns: Columns,
    output: Path | None,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Fit probabilities and a threshold to one's own labelled rows, without training: of a trained
    model, a bundle, or a raw backbone (FAMILY:MODEL).

    A raw backbone's cosines become probabilities; --output is then a checkpoint, which evaluate,
    predict and export-onnx take. Ranks stay as they are: a model that can't tell matches from
    mismatches does not learn to. The intervals show how far so few rows can be trusted.
    """
    from mismatch.cli.predict import load_predictor

    check_labels(csv_file, columns)
    if not dry_run:
        _check_target(options["model"], output)
    predictor = load_predictor(options)
    rows = score_labelled(predictor, csv_file, image_base_path, columns, least=options["min_rows"])
    before = predictor.engine.score
    after = _fitted(rows, before, options)
    result = _result(rows, before, after, options)
    click.echo(
        json.dumps(finite(result), indent=2, ensure_ascii=False)
        if as_json
        else "\n".join(_lines(result, before, options["level"]))
    )
    if not dry_run:  # behind all that can fail: a command that ends in an error has changed nothing
        _store(predictor, options["model"], output, after)
    click.echo(
        "nothing stored: --dry-run" if dry_run else f"stored in {output or options['model']}",
        err=True,
    )


def _check_target(model: str, output: Path | None) -> None:
    if output is None:
        hold_score(model)
        return
    refuse_model_folder(output, "--output")
    hold(output, folder=True)
    _check_free(output)


def _check_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CheckpointError(
            f"--output {output} is there already; choose another name, or remove it"
        )


def _fitted(rows: Labelled, before: ScoreSpec, options: dict[str, Any]) -> ScoreSpec:
    """A calibration and a threshold. A review band and thresholds by slice lie on the old scale, so
    they go.
    """
    from mismatch.evaluation.calibration import fit_calibration
    from mismatch.evaluation.threshold import choose_again, choose_threshold
    from mismatch.runtime.scoring import scores_from_logits

    calibration = fit_calibration(
        rows.logits, rows.labels, kind=options["kind"], groups=rows.images, seed=options["seed"]
    )
    after = replace(
        before,
        kind="probability",
        default_threshold=0.5,
        calibration=calibration,
        review=None,
        slices=None,
    )
    scores = scores_from_logits(rows.logits, after)
    if options["objective"] is None and before.threshold is not None:
        try:
            return after.with_threshold(choose_again(before.threshold, rows.labels, scores))
        except InputError as error:
            raise InputError(
                f"the stored threshold can't be chosen anew ({error}); pass --objective"
            ) from error
    return after.with_threshold(
        choose_threshold(rows.labels, scores, options["objective"] or "accuracy")
    )


def _store(predictor: Predictor, model: str, output: Path | None, score: ScoreSpec) -> None:
    from mismatch.runtime.model_copy import copy_model
    from mismatch.runtime.stored_score import score_file, write_score

    if output is None:
        write_score(model, score)
    elif Path(model).is_dir() and ":" not in model:
        score_file(model)
        with atomic_directory(output) as part:
            copy_model(Path(model), part)
            write_score(part, score)
            _check_free(output)  # whatever has come there since is not lost
    else:
        from mismatch.training.checkpoint import save_checkpoint
        from mismatch.training.engine import TorchEngine

        engine = predictor.engine
        if not isinstance(engine, TorchEngine):
            raise CheckpointError(
                f"{model} can't be stored in {output}; pass the folder of a model, or FAMILY:MODEL"
            )
        save_checkpoint(output, engine.detector, replace(engine.meta, score=score), {})


def _result(
    rows: Labelled, before: ScoreSpec, after: ScoreSpec, options: dict[str, Any]
) -> dict[str, Any]:
    from mismatch.evaluation.metrics import auroc, brier_score, expected_calibration_error, log_loss
    from mismatch.evaluation.objectives import Objective
    from mismatch.evaluation.threshold import expected_figures, threshold_table
    from mismatch.runtime.scoring import scores_from_logits

    old, new = (scores_from_logits(rows.logits, score) for score in (before, after))
    held_out = _held_out(rows, options)
    threshold = after.threshold
    if threshold is None or after.calibration is None:
        raise InputError("nothing was fitted")
    try:
        objective: Objective | None = Objective.parse(threshold.objective)
    except InputError:
        objective = None
    how = {"groups": rows.images, "level": options["level"], "seed": options["seed"]}
    intervals = expected_figures(rows.labels, new, objective, threshold=threshold.value, **how)
    [figures] = threshold_table(rows.labels, new, [threshold.value])
    quality = {"log_loss": log_loss, "brier": brier_score, "ece": expected_calibration_error}
    return {
        "model": options["model"],
        "rows": len(rows.labels),
        "matches": sum(rows.labels),
        "auroc": auroc(rows.labels, rows.logits),
        "calibration": after.calibration.to_dict(),
        "threshold": threshold.to_dict(),
        "before": {name: figure(rows.labels, old) for name, figure in quality.items()},
        "after": {name: figure(rows.labels, held_out) for name, figure in quality.items()},
        "figures": {
            name: {"value": figures[name], "interval": list(interval)}
            for name, interval in intervals.items()
        },
        "points": _points(rows, after, options),
    }


def _held_out(rows: Labelled, options: dict[str, Any]) -> Any:
    """(N,) probabilities, each by a calibration that has not seen its row nor another one of its
    image.
    """
    import numpy as np

    from mismatch.evaluation.calibration import fit_calibration, folds
    from mismatch.runtime.scoring import scores_from_logits

    logits = np.array(rows.logits)
    labels = np.array(rows.labels)
    images = np.array(rows.images)
    fold = folds(images, options["seed"])
    scores = np.empty(len(labels))
    for part in np.unique(fold):
        inside = fold == part
        if len(np.unique(labels[~inside])) < 2:
            raise InputError(
                "the few rows of one label share an image, so the fit can't be tested; add rows of"
                " that label"
            )
        fitted = fit_calibration(
            logits[~inside],
            labels[~inside],
            kind=options["kind"],
            groups=images[~inside],
            seed=options["seed"],
        )
        scores[inside] = scores_from_logits(logits[inside], ScoreSpec("probability", 0.5, fitted))
    return scores


def _points(rows: Labelled, after: ScoreSpec, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The probability at a few logits, and where it would lie had other rows been labelled."""
    import numpy as np

    from mismatch.evaluation.bootstrap import percentiles, resamples_of
    from mismatch.evaluation.calibration import fit_calibration
    from mismatch.runtime.scoring import scores_from_logits

    logits = np.array(rows.logits)
    labels = np.array(rows.labels)
    at = np.quantile(logits, POINTS)
    kind = "platt" if after.calibration is None else after.calibration.kind
    drawn = [
        scores_from_logits(
            at,
            ScoreSpec("probability", 0.5, fit_calibration(logits[some], labels[some], kind=kind)),
        )
        for some in resamples_of(
            len(labels), resamples=RESAMPLES, seed=options["seed"], groups=rows.images
        )
        if 0 < labels[some].sum() < len(some)
    ]
    # (P,), (B, P)
    values = scores_from_logits(at, after)
    several = np.array(drawn)
    return [
        {
            "logit": float(logit),
            "probability": float(value),
            "interval": list(percentiles(several[:, i], options["level"])),
        }
        for i, (logit, value) in enumerate(zip(at, values, strict=True))
    ]


def _lines(result: dict[str, Any], before: ScoreSpec, level: float) -> list[str]:
    """For people."""
    from mismatch.evaluation.bootstrap import Interval

    rows = result["rows"]
    matches = result["matches"]
    threshold = result["threshold"]
    lines = [
        (
            f"{rows:,} rows, {matches:,} matches and {rows - matches:,} mismatches; AUROC"
            f" {result['auroc']:.4f}, which a calibration doesn't change"
        )
    ]
    lines += [
        f"calibration: {result['calibration']['kind']}",
        "",
        f"{'':<12}before  after (rows that the fit has not seen)",
    ]
    for name, words in (("log_loss", "log-loss"), ("brier", "Brier score"), ("ece", "ECE")):
        old = result["before"][name]
        lines.append(
            f"{words:<12}{'–     ' if old != old else f'{old:.4f}'}  {result['after'][name]:.4f}"
        )
    lines += [
        "",
        (
            f"{'cosine' if before.kind == 'cosine' else 'logit'}     probability  {level:.0%} of"
            " the times, had other rows been labelled"
        ),
    ]
    lines += [
        f"{point['logit']:<9.4g}  {point['probability']:.4f}      "
        f" {bounds(Interval(*point['interval']))}"
        for point in result["points"]
    ]
    lines += [
        "",
        f"threshold {threshold['value']:.4f} ({threshold['objective']})",
        f"{'':<21}  these   {level:.0%} of the times, on new rows",
    ]
    figures = {name: entry["value"] for name, entry in result["figures"].items()}
    lines += figure_lines(
        figures, {name: Interval(*entry["interval"]) for name, entry in result["figures"].items()}
    )
    if rows < ENOUGH:
        lines.append(
            f"{rows:,} rows are few: believe the intervals; with {ENOUGH} labels they are"
            f" {(ENOUGH / rows) ** 0.5:.1f} times as narrow"
        )
    return lines
