"""The score from which a pair is a match, chosen for one's own costs and stored with the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Unpack

from mismatch.data.readers.memory import RowsLike
from mismatch.errors import InputError
from mismatch.evaluation.objectives import Objective
from mismatch.evaluation.review import Coverage, choose_band, coverage
from mismatch.evaluation.slices import choose_slices
from mismatch.evaluation.threshold import (
    choose_threshold,
    expected_figures,
    limit_missed,
    threshold_table,
)
from mismatch.evaluation.useful_threshold import (
    choose_by_default,
    decides_nothing,
    reversed_labels,
)
from mismatch.jobs.calibration_result import Figure
from mismatch.jobs.labelled_rows import (
    Labelled,
    check_labels,
    refuse_to_store,
    score_labelled,
)
from mismatch.jobs.locking import lock_score
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
    located_model,
    model_name,
    open_predictor,
    open_rows,
)
from mismatch.jobs.results import Result
from mismatch.jobs.score_update import ScoreUpdate, dropped_parts
from mismatch.jobs.threshold_choice import (
    CONFIDENCE,
    SHRINKAGE,
    ObjectiveName,
    ThresholdChoice,
)
from mismatch.jobs.value_checks import check_level, check_whole_number, checked
from mismatch.reports.model_card import ChosenOn
from mismatch.reports.threshold_lines import threshold_lines
from mismatch.runtime.predictor import Predictor
from mismatch.specs import ReviewBand, ScoreSpec, SliceThresholds, Threshold

__all__ = ["ThresholdResult", "tune_threshold"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ThresholdResult(Result):
    """A threshold that was chosen, and how good it is.

    `threshold`: the new threshold, with what it was chosen for.
    `figures`: accuracy and others on these rows, and where they will lie on new ones, 0..1.
    `review`: the review band that is stored with it; None without one.
    `coverage`: what the band leaves to the model; None without a band.
    `slices`: thresholds by value of `slice_column`; None without it.
    `thresholds`: other thresholds with their figures on these rows.
    `model`: folder, as given.
    `csv`: the rows, as given.
    `rows`: labelled ones that could be scored.
    `stored`: False after `dry_run`.
    `level`: level of the intervals, 0.5..0.999.
    `dropped`: what the model had and loses: thresholds by slice, a review band; in words.
    `prevalence`: share of mismatches, 0..1, that all figures are for; None: as among the rows.
    """

    threshold: Threshold
    figures: dict[str, Figure]
    review: ReviewBand | None
    coverage: Coverage | None
    slices: SliceThresholds | None
    thresholds: list[dict[str, float]]
    model: str
    csv: str
    rows: int
    stored: bool
    level: float
    dropped: tuple[str, ...] = ()
    prevalence: float | None = None

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return threshold_lines(self)

    def to_dict(self) -> dict[str, object]:
        """Return it with plain JSON types only, under the names of its fields."""
        figures = {
            name: {"value": figure.value, "interval": list(figure.interval)}
            for name, figure in self.figures.items()
        }
        facts = super().to_dict() | {"figures": figures, "coverage": _coverage(self.coverage)}
        del facts["level"]  # the caller gave it
        return facts


def _coverage(left: Coverage | None) -> dict[str, object] | None:
    if left is None:
        return None
    return {
        "automatic": left.automatic,
        "risk": left.risk,
        "automatic_interval": list(left.automatic_interval),
        "risk_interval": list(left.risk_interval),
    }


@dataclass(frozen=True)
class _Origin:
    """Where a result comes from, whether it was kept, and what goes."""

    model: str
    csv: str
    stored: bool
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class _Drawing:
    """How intervals are drawn."""

    level: float
    seed: int
    prevalence: float | None


@checked
def tune_threshold(
    model: str | Path | Predictor,
    rows: RowsLike,
    *,
    objective: ObjectiveName | None = None,
    cost_miss: float = 1.0,
    cost_false_alarm: float = 1.0,
    target_precision: float | None = None,
    target_recall: float | None = None,
    target_of: Literal["mismatch", "match"] = "mismatch",
    max_missed: float | None = None,
    confidence: float = CONFIDENCE,
    thresholds: Sequence[float] | None = None,
    slice_column: str | None = None,
    shrinkage: float = SHRINKAGE,
    review_band: ReviewBand | None = None,
    max_risk: float | None = None,
    prevalence: float | None = None,
    min_rows: int = 50,
    level: float = 0.95,
    seed: int = 0,
    dry_run: bool = False,
    before_storing: Callable[[ThresholdResult], object] | None = None,
    **options: Unpack[ModelRowOptions],
) -> ThresholdResult:
    """Choose the score from which a pair is a match, and store it in the model.

    Everything uses it from then on; a model that is loaded already keeps its own. A lower threshold
    catches fewer mismatches. The model's card says so too, unless somebody has changed it.

    `rows`: labelled ones that the model was not trained on. One of four says what is chosen:
    `objective` (by default accuracy; "cost" with `cost_miss` and `cost_false_alarm`),
    `target_precision` or `target_recall` (shares, 0..1, of the mismatches or of `target_of`), or
    `max_missed` (share of all mismatches that may pass, with `confidence`).

    `thresholds`: scores to give figures for, by default about twenty. `slice_column`: a column
    whose values have thresholds of their own from thirty rows on; at `shrinkage` rows these and the
    common one weigh the same. `review_band`: scores that a person should look at, on both sides of
    the threshold; `max_risk` chooses it, so that outside at most this share of each kind of
    decision is wrong. `prevalence`: share of mismatches where the model is used, 0..1, as 0.03; the
    rows are weighed so, for the choice and for all figures. `min_rows`: fewer are refused. `level`:
    level of the intervals, 0.5..0.999. `seed`: seed of resamples. `dry_run`: store nothing.
    `before_storing` is called with the result when all else is done.

    Raises InputError for rows that can't be used and for what no threshold reaches, CheckpointError
    where nothing can be stored, as in a folder that holds another model or calibration by now than
    a `Predictor` that was loaded from it.
    """
    settings = ModelRowSettings.of(options)
    model = located_model(model)
    check_level(level)
    check_whole_number("seed", seed, 0)
    check_whole_number("min_rows", min_rows, 1)
    wanted = ThresholdChoice(
        objective=objective,
        cost_miss=cost_miss,
        cost_false_alarm=cost_false_alarm,
        target_precision=target_precision,
        target_recall=target_recall,
        target_of=target_of,
        max_missed=max_missed,
        confidence=confidence,
        thresholds=thresholds,
        slice_column=slice_column,
        shrinkage=shrinkage,
        review_band=review_band,
        max_risk=max_risk,
        prevalence=prevalence,
    )
    name = model_name(model)
    columns = [] if slice_column is None else [slice_column]
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(rows, settings))
        check_labels(source, columns)
        if not dry_run:
            stack.enter_context(lock_score(name))  # refuses what nothing can be stored in
        predictor = open_predictor(model, settings)
        update = ScoreUpdate(predictor, None if dry_run else name, rescaled=False)
        labelled = score_labelled(predictor, source, wanted=columns, min_rows=min_rows)
        reversed_sentence = reversed_labels(labelled.labels, labelled.scores)
        refuse_to_store(reversed_sentence, dry_run=dry_run)
        score = _chosen(labelled, update.before, wanted)
        if score.threshold is not None:
            useless = decides_nothing(score.threshold, labelled.labels, labelled.scores)
            refuse_to_store(useless, dry_run=dry_run)
        dropped = dropped_parts(update.before, score)
        origin = _Origin(name, source.name, stored=not dry_run, dropped=dropped)
        result = _result(labelled, score, wanted, _Drawing(level, seed, prevalence), origin)
        if before_storing is not None:
            before_storing(result)
        if not dry_run:  # behind all that can fail: an error has changed nothing
            update.store(score, ChosenOn(result.rows, result.level, result.figures))
    return result


def _chosen(rows: Labelled, score: ScoreSpec, wanted: ThresholdChoice) -> ScoreSpec:
    """Return the model's score with the threshold, and the band or the thresholds by slice."""
    goal = wanted.goal()
    if goal is None:
        share = wanted.max_missed or 0.0
        threshold = limit_missed(rows.labels, rows.scores, share, wanted.confidence, rows.images)
    elif wanted.is_default:
        threshold, note = choose_by_default(rows.labels, rows.scores, wanted.prevalence)
        if note:
            logger.warning(note)
    else:
        threshold = choose_threshold(rows.labels, rows.scores, goal)
    slices = None
    review = None
    if wanted.slice_column is None:
        review = _band(rows, score, threshold.value, wanted)
    elif goal is not None:
        goal = Objective.parse(threshold.objective)  # which the default may have given way to
        slices = choose_slices(
            rows.labels,
            rows.scores,
            rows.columns[wanted.slice_column],
            wanted.slice_column,
            goal,
            threshold.value,
            shrinkage=wanted.shrinkage,
        )
    return replace(score, review=review, slices=slices).with_threshold(threshold)


def _band(
    rows: Labelled, score: ScoreSpec, threshold: float, wanted: ThresholdChoice
) -> ReviewBand | None:
    """Return the band that is asked for, else the stored one where it holds the new threshold."""
    if wanted.max_risk is not None:
        return choose_band(
            rows.labels, rows.scores, wanted.max_risk, threshold, prevalence=wanted.prevalence
        )
    if wanted.review_band is not None:
        wanted.review_band.check_thresholds([threshold])
        return wanted.review_band
    stored = score.review
    if stored is not None and not stored.holds_threshold(threshold):
        logger.warning(
            f"the stored review band {stored.low:.4f} to {stored.high:.4f} does not hold the"
            f" threshold {threshold:.4f}, so it goes; `max_risk` chooses another"
        )
        return None
    return stored


def _result(
    rows: Labelled, score: ScoreSpec, wanted: ThresholdChoice, drawing: _Drawing, origin: _Origin
) -> ThresholdResult:
    """Return what was chosen, with its figures."""
    if score.threshold is None:
        raise InputError("no threshold was chosen")
    return ThresholdResult(
        threshold=score.threshold,
        figures=_figures(rows, score.threshold, wanted, drawing),
        review=score.review,
        coverage=_left(rows, score.review, score.threshold.value, drawing),
        slices=score.slices,
        thresholds=threshold_table(
            rows.labels, rows.scores, wanted.thresholds, prevalence=drawing.prevalence
        ),
        model=origin.model,
        csv=origin.csv,
        rows=len(rows.labels),
        stored=origin.stored,
        level=drawing.level,
        dropped=origin.dropped,
        prevalence=drawing.prevalence,
    )


def _figures(
    rows: Labelled, threshold: Threshold, wanted: ThresholdChoice, drawing: _Drawing
) -> dict[str, Figure]:
    """Return the threshold's figures on these rows, and where they will lie on new ones."""
    goal = None if wanted.max_missed is not None else Objective.parse(threshold.objective)
    intervals = expected_figures(
        rows.labels,
        rows.scores,
        goal,
        threshold=None if goal else threshold.value,
        prevalence=drawing.prevalence,
        groups=rows.images,
        level=drawing.level,
        seed=drawing.seed,
    )
    [values] = threshold_table(
        rows.labels, rows.scores, [threshold.value], prevalence=drawing.prevalence
    )
    return {
        name: Figure(values[name], (interval.low, interval.high))
        for name, interval in intervals.items()
    }


def _left(
    rows: Labelled, band: ReviewBand | None, threshold: float, drawing: _Drawing
) -> Coverage | None:
    """Return what a band leaves to the model; None without one."""
    if band is None:
        return None
    return coverage(
        rows.labels,
        rows.scores,
        band,
        threshold,
        prevalence=drawing.prevalence,
        groups=rows.images,
        level=drawing.level,
        seed=drawing.seed,
    )
