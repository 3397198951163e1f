"""Probabilities and a threshold for one's own data from a few labels, without training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from mismatch.data.readers.memory import RowsLike
from mismatch.errors import CheckpointError, InputError
from mismatch.evaluation.bootstrap import percentiles, resamples_of
from mismatch.evaluation.calibration import FOLDS, fit_calibration
from mismatch.evaluation.folds import grouped_folds
from mismatch.evaluation.metrics import auroc, brier_score, expected_calibration_error, log_loss
from mismatch.evaluation.objectives import Objective, check_prevalence
from mismatch.evaluation.threshold import (
    choose_again,
    choose_threshold,
    expected_figures,
    threshold_table,
)
from mismatch.evaluation.useful_threshold import (
    choose_by_default,
    decides_nothing,
    reversed_labels,
)
from mismatch.io.atomic import atomic_directory
from mismatch.io.outputs import refuse_model_folder
from mismatch.jobs.calibration_result import CalibrationResult, Figure, Point
from mismatch.jobs.labelled_rows import (
    Labelled,
    check_labels,
    refuse_to_store,
    score_labelled,
)
from mismatch.jobs.locking import lock_folder, lock_score
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
    located_model,
    model_name,
    open_predictor,
    open_rows,
)
from mismatch.jobs.score_update import ScoreUpdate, dropped_parts, show_in_card
from mismatch.jobs.value_checks import check_level, check_whole_number, checked
from mismatch.reports.model_card import ChosenOn, write_checkpoint_card
from mismatch.runtime.model_copy import copy_model
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.score_file import has_score, write_score
from mismatch.runtime.scoring import scores_from_logits
from mismatch.specs import Calibration, ScoreSpec, Threshold

__all__ = ["CalibrationResult", "Figure", "Point", "calibrate"]

logger = logging.getLogger(__name__)

POINTS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of the logits at which the probability is shown
RESAMPLES = 200  # fits to resampled rows
QUALITY = {"log_loss": log_loss, "brier": brier_score, "ece": expected_calibration_error}
Kind = Literal["auto", "temperature", "platt", "piecewise"]
ObjectiveName = Literal["accuracy", "f1", "balanced-accuracy", "mcc"]


@dataclass(frozen=True)
class _Fit:
    """How the calibration and its threshold are chosen."""

    kind: Kind
    objective: ObjectiveName | None
    prevalence: float | None
    level: float
    seed: int


@checked
def calibrate(
    model: str | Path | Predictor,
    rows: RowsLike,
    *,
    output: str | Path | None = None,
    kind: Kind = "auto",
    objective: ObjectiveName | None = None,
    prevalence: float | None = None,
    min_rows: int = 50,
    level: float = 0.95,
    seed: int = 0,
    dry_run: bool = False,
    before_storing: Callable[[CalibrationResult], object] | None = None,
    **options: Unpack[ModelRowOptions],
) -> CalibrationResult:
    """Fit probabilities and a threshold of a trained model, a bundle or a raw backbone
    (FAMILY:MODEL) to labelled rows. Store them with the model.

    `rows`: labelled ones that the model was not trained on, 50 to 500 of them. `output`: folder for
    the calibrated model; by default `model` itself. `kind`: "auto" takes the best by
    cross-validated log-loss. `objective`: what the threshold is best for; by default as the stored
    one, else accuracy. `prevalence`: share of mismatches where the model is used, 0..1, as 0.03;
    the rows are weighed so, for the threshold and its figures. `min_rows`: fewer are refused.
    `level`: level of the intervals, 0.5..0.999. `seed`: seed of folds and resamples. `dry_run`:
    store nothing. `before_storing` is called with the result when all else is done.

    Raises InputError for rows that can't be used, CheckpointError where nothing can be stored, as
    in a folder that holds another model by now than a `Predictor` that was loaded from it.
    """
    settings = ModelRowSettings.of(options)
    model = located_model(model)
    check_level(level)
    check_whole_number("seed", seed, 0)
    check_whole_number("min_rows", min_rows, 1)
    check_prevalence(prevalence)
    target = None if output is None else Path(output)
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(rows, settings))
        check_labels(source)
        name = model_name(model)
        if not dry_run:
            _lock_target(stack, name, target)
        predictor = open_predictor(model, settings)
        update = ScoreUpdate(predictor, None if dry_run else _folder(name, target), rescaled=True)
        labelled = score_labelled(predictor, source, min_rows=min_rows)
        reversed_sentence = reversed_labels(labelled.labels, labelled.logits)
        refuse_to_store(reversed_sentence, dry_run=dry_run)
        before = update.before
        if prevalence is None and objective is None:
            prevalence = _stored_prevalence(before)
        fit = _Fit(kind, objective, prevalence, level, seed)
        after = _fitted(labelled, before, fit)
        refuse_to_store(_useless(labelled, after), dry_run=dry_run)
        result = _result(name, labelled, before, after, fit)
        if before_storing is not None:
            before_storing(result)
        if not dry_run:  # behind all that can fail: an error has changed nothing
            chosen = ChosenOn(result.rows, result.level, result.figures)
            _store(predictor, name, target, update, after, chosen)
    return result


def _lock_target(stack: ExitStack, model: str, output: Path | None) -> None:
    """Refuse a target that nothing can be stored in, and keep other writers off it."""
    if output is None:
        stack.enter_context(lock_score(model))
        return
    refuse_model_folder(output, "`output`")
    stack.enter_context(lock_folder(output))
    _check_free(output)


def _check_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CheckpointError(
            f"`output` {output} is there already; choose another name, or remove it"
        )


def _fitted(rows: Labelled, before: ScoreSpec, fit: _Fit) -> ScoreSpec:
    """Return a calibration and a threshold. A review band and thresholds by slice lie on the old
    scale, so they go.
    """
    calibration = fit_calibration(
        rows.logits, rows.labels, kind=fit.kind, groups=rows.images, seed=fit.seed
    )
    after = replace(
        before,
        kind="probability",
        default_threshold=0.5,
        calibration=calibration,
        review=None,
        slices=None,
    )
    return after.with_threshold(_chosen(rows, before, after, fit))


def _chosen(rows: Labelled, before: ScoreSpec, after: ScoreSpec, fit: _Fit) -> Threshold:
    """Return the threshold: what is asked for, else as the stored one, else the default."""
    scores = scores_from_logits(rows.logits, after)
    if fit.objective is not None:
        objective = Objective(fit.objective, prevalence=fit.prevalence)
        return choose_threshold(rows.labels, scores, objective)
    stored = before.threshold
    aim = None if stored is None else _objective(stored)
    if stored is None or (aim is not None and aim.kind == "accuracy"):
        threshold, note = choose_by_default(rows.labels, scores, fit.prevalence)
        if note:
            logger.warning(note)
        return threshold
    try:
        return choose_again(
            stored, rows.labels, scores, prevalence=fit.prevalence, groups=rows.images
        )
    except InputError as error:
        raise InputError(
            f"the stored threshold can't be chosen again ({error}); pass `objective`"
        ) from error


def _stored_prevalence(before: ScoreSpec) -> float | None:
    """Return the share of mismatches that the stored threshold was chosen for."""
    aim = None if before.threshold is None else _objective(before.threshold)
    return None if aim is None else aim.prevalence


def _useless(rows: Labelled, after: ScoreSpec) -> str:
    """Return a sentence on a threshold that decides nothing; empty where it does."""
    if after.threshold is None:
        return ""
    scores = scores_from_logits(rows.logits, after)
    return decides_nothing(after.threshold, rows.labels, scores)


def _folder(model: str, output: Path | None) -> str | None:
    """Return the folder whose score is replaced or copied; None for a raw backbone's name."""
    is_folder = has_score(model) or (Path(model).is_dir() and ":" not in model)
    return model if output is None or is_folder else None


def _store(
    predictor: Predictor,
    model: str,
    output: Path | None,
    update: ScoreUpdate,
    score: ScoreSpec,
    chosen_on: ChosenOn,
) -> None:
    """Write the score to the model, or to a copy of it."""
    if output is None:
        update.store(score, chosen_on)
    elif _folder(model, output) is None:
        _store_backbone(predictor, model, output, score, chosen_on)
    else:
        with atomic_directory(output) as part:
            copy_model(Path(model), part)
            update.check()  # so the copy is what was scored
            write_score(part, score)
            show_in_card(part, chosen_on)
            _check_free(output)  # what has come there since is not lost


def _store_backbone(
    predictor: Predictor, model: str, output: Path, score: ScoreSpec, chosen_on: ChosenOn
) -> None:
    """Write a raw backbone with the score as a checkpoint."""
    from mismatch.training.checkpoint import save_checkpoint
    from mismatch.training.engine import TorchEngine

    engine = predictor.engine
    if not isinstance(engine, TorchEngine):
        raise CheckpointError(
            f"{model} can't be stored in {output}; pass the folder of a model, or FAMILY:MODEL"
        )
    save_checkpoint(
        output,
        engine.detector,
        replace(engine.meta, score=score),
        {},
        write_more=partial(write_checkpoint_card, chosen_on=chosen_on),
    )


def _result(
    model: str, rows: Labelled, before: ScoreSpec, after: ScoreSpec, fit: _Fit
) -> CalibrationResult:
    if after.threshold is None or after.calibration is None:
        raise InputError("nothing was fitted")
    old = scores_from_logits(rows.logits, before)
    held_out = _held_out(rows, fit)
    return CalibrationResult(
        model=model,
        rows=len(rows.labels),
        matches=sum(rows.labels),
        auroc=auroc(rows.labels, rows.logits),
        calibration=after.calibration,
        threshold=after.threshold,
        before={name: quality(rows.labels, old) for name, quality in QUALITY.items()},
        after={name: quality(rows.labels, held_out) for name, quality in QUALITY.items()},
        figures=_figures(rows, after, after.threshold, fit),
        points=_points(rows, after, after.calibration, fit),
        level=fit.level,
        dropped=dropped_parts(before, after),
        prevalence=fit.prevalence,
    )


def _figures(
    rows: Labelled, after: ScoreSpec, threshold: Threshold, fit: _Fit
) -> dict[str, Figure]:
    """Return what to expect of the threshold on new rows."""
    scores = scores_from_logits(rows.logits, after)
    intervals = expected_figures(
        rows.labels,
        scores,
        _objective(threshold),
        threshold=threshold.value,
        prevalence=fit.prevalence,
        groups=rows.images,
        level=fit.level,
        seed=fit.seed,
    )
    [values] = threshold_table(rows.labels, scores, [threshold.value], prevalence=fit.prevalence)
    return {
        name: Figure(values[name], (interval.low, interval.high))
        for name, interval in intervals.items()
    }


def _objective(threshold: Threshold) -> Objective | None:
    """Return what the threshold was chosen for; None where its words are no objective."""
    try:
        return Objective.parse(threshold.objective)
    except InputError:
        return None


def _held_out(rows: Labelled, fit: _Fit) -> NDArray[np.float64]:
    """Return (N,) probabilities, each by a calibration that has seen neither its row nor another
    one of its image.
    """
    logits = np.array(rows.logits)
    labels = np.array(rows.labels)
    images = np.array(rows.images)
    fold = grouped_folds(images, FOLDS, fit.seed)
    scores = np.empty(len(labels))
    for part in np.unique(fold):
        inside = fold == part
        if len(np.unique(labels[~inside])) < 2:
            raise InputError(
                "the few rows of one label share an image, so the fit can't be tested; add rows of"
                " that label"
            )
        calibration = fit_calibration(
            logits[~inside],
            labels[~inside],
            kind=fit.kind,
            groups=images[~inside],
            seed=fit.seed,
        )
        spec = ScoreSpec("probability", 0.5, calibration)
        scores[inside] = scores_from_logits(logits[inside], spec)
    return scores


def _points(rows: Labelled, after: ScoreSpec, calibration: Calibration, fit: _Fit) -> list[Point]:
    logits = np.array(rows.logits)
    labels = np.array(rows.labels)
    quantiles = np.quantile(logits, POINTS)
    drawn = []
    for some in resamples_of(len(labels), resamples=RESAMPLES, seed=fit.seed, groups=rows.images):
        if not 0 < labels[some].sum() < len(some):
            continue
        fitted = fit_calibration(logits[some], labels[some], kind=calibration.kind)
        drawn.append(scores_from_logits(quantiles, ScoreSpec("probability", 0.5, fitted)))
    values = scores_from_logits(quantiles, after)  # (P,)
    resampled = np.array(drawn)  # (B, P)
    points = []
    for i, (logit, value) in enumerate(zip(quantiles, values, strict=True)):
        low, high = percentiles(resampled[:, i], fit.level).with_value(float(value))
        points.append(Point(float(logit), float(value), (low, high)))
    return points
