"""The parts of an evaluation: what labelled rows and their scores say of a model, as report.json
has it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from mismatch.data.columns import resolve_image
from mismatch.data.unimodal_baselines import LEAST_ROWS, blind_image_auroc, blind_text_auroc
from mismatch.errors import InputError, MissingExtraError
from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES
from mismatch.evaluation.comparison import compare
from mismatch.evaluation.decisions import ErrorKind, WrongRow, worst_rows
from mismatch.evaluation.prevalence import figures_at_prevalence
from mismatch.evaluation.review import coverage
from mismatch.evaluation.slice_metrics import by_kind, by_value, measured
from mismatch.evaluation.stress import CEILING, CHANGES, StressRow, stress
from mismatch.jobs.kept_pictures import kept_picture
from mismatch.jobs.labelled_rows import Labelled
from mismatch.jobs.options import RowSource
from mismatch.progress import progress
from mismatch.runtime.pipeline import EmbeddingMemo
from mismatch.runtime.predictor import Predictor

__all__ = [
    "AtPrevalence",
    "Baselines",
    "Bootstrap",
    "Comparison",
    "Interval",
    "Measured",
    "Reviewed",
    "SliceFigures",
    "StressPlan",
    "Stressed",
    "compare_models",
    "log_unscorable",
    "measure",
    "measure_at_prevalence",
    "measure_baselines",
    "measure_kinds",
    "measure_review",
    "measure_slices",
    "measure_stress",
    "worst_errors",
]

logger = logging.getLogger(__name__)

MAX_BASELINE_IMAGES = 5000  # the baseline that sees images alone has no more

Interval = list[float]  # low and high; nan where there is none


class Bootstrap(TypedDict):
    """How intervals were drawn."""

    level: float  # 0..1
    resampled_by: str  # image, with all its rows, where images repeat; else row
    images: int  # different ones


class Measured(TypedDict):
    """The figures of all rows."""

    metrics: dict[str, Any]  # see `binary_metrics`
    intervals: dict[str, Interval]
    bootstrap: Bootstrap


class SliceFigures(TypedDict):
    """The figures of some of the rows."""

    rows: int
    mismatches: int  # rows with label 0
    metrics: dict[str, Any]
    intervals: dict[str, Interval]


class Reviewed(TypedDict):
    """A review band and what it leaves to the model."""

    low: float  # a similarity_score, as `high`
    high: float
    rows: int  # those that it was chosen on; 0: given by hand
    max_risk: float | None  # the share of errors, 0..1, that it was chosen for
    automatic: float  # share of the rows outside the band, 0..1
    risk: float  # share of errors among these; nan where there are none
    automatic_interval: Interval
    risk_interval: Interval


class AtPrevalence(TypedDict):
    """Figures of pairs of which another share are mismatches than of the rows."""

    prevalence: float  # share of mismatches, 0..1
    figures: dict[str, float]  # accuracy, mismatch_precision … and alarm_rate, 0..1
    intervals: dict[str, Interval]


class Baselines(TypedDict):
    """AUROCs, 0..1, of linear models that see one half of a pair; 0.5 is chance."""

    text_auroc: float | None  # None where not measured
    image_auroc: float | None
    why: NotRequired[str]  # nothing was measured


class Comparison(TypedDict):
    """A model's figures less those of another one, on the rows that both have scored."""

    model: str
    rows: int
    threshold: float  # the other model's
    accuracy_difference: float
    accuracy_interval: Interval
    mcnemar: dict[str, Any]  # only_first, only_second: rows that one model alone has right; p_value
    auroc: list[float]  # this model's and the other's
    auroc_difference: float
    auroc_interval: Interval
    delong_p_value: float  # nan where the two rank all rows alike


class Stressed(TypedDict):
    """Matched rows, scored again after controlled changes."""

    rows: int
    seed: int
    changes: list[dict[str, Any]]  # see `mismatch.evaluation.stress.stress`
    ceiling: list[str]  # what to expect, in sentences


@dataclass(frozen=True)
class StressPlan:
    """Which matched rows are changed."""

    rows: int  # no more are drawn
    brand_column: str | None  # None: a brand is a capitalised first word
    seed: int


def measure(rows: Labelled) -> Measured:
    """Return the figures of all rows, each with its bootstrap interval."""
    figures = measured(
        rows.labels, rows.scores, rows.thresholds, groups=rows.images, resamples=RESAMPLES
    )
    images = len(set(rows.images))
    return {
        "metrics": figures["metrics"],
        "intervals": figures["intervals"],
        "bootstrap": {
            "level": LEVEL,
            "resampled_by": "image" if images < len(rows.images) else "row",
            "images": images,
        },
    }


def measure_at_prevalence(rows: Labelled, prevalence: float | None) -> AtPrevalence | None:
    """Return the figures where this share of the pairs are mismatches; None without one, and where
    all rows have one label.
    """
    if prevalence is None:
        return None
    if len(set(rows.labels)) < 2:
        logger.warning("`prevalence` weighs rows of both labels, and here is only one")
        return None
    decisions = np.array(rows.scores) >= np.array(rows.thresholds)
    figures = figures_at_prevalence(rows.labels, decisions, prevalence, groups=rows.images)
    return {
        "prevalence": prevalence,
        "figures": {name: value for name, (value, _) in figures.items()},
        "intervals": {name: list(interval) for name, (_, interval) in figures.items()},
    }


def measure_slices(rows: Labelled, columns: Sequence[str]) -> dict[str, dict[str, SliceFigures]]:
    """Return column → value → figures."""
    return {
        name: by_value(  # type: ignore[misc]
            rows.columns[name], rows.labels, rows.scores, rows.thresholds, rows.images
        )
        for name in columns
    }


def measure_kinds(rows: Labelled, column: str | None) -> dict[str, SliceFigures]:
    """Return kind of mismatch → its figures, against all matches; nothing without a column."""
    if column is None:
        return {}
    values = rows.columns[column]
    figures: Any = by_kind(values, rows.labels, rows.scores, rows.thresholds, rows.images)
    return cast(dict[str, SliceFigures], figures)


def measure_baselines(rows: Labelled, memo: EmbeddingMemo, base: str) -> Baselines:
    """Return AUROCs of linear models that see texts or images alone, cross-validated on these rows.

    `memo`: the images' embeddings, as far as they were encoded.
    """
    if len(rows.labels) < LEAST_ROWS or len(set(rows.labels)) < 2:
        return _no_baselines(f"blind baselines need {LEAST_ROWS} rows with both labels")
    try:
        text_auroc = blind_text_auroc(rows.texts, rows.labels, rows.images)
    except MissingExtraError as error:
        return _no_baselines(str(error))
    return {"text_auroc": text_auroc, "image_auroc": _image_auroc(rows, memo, base)}


def _no_baselines(why: str) -> Baselines:
    return {"text_auroc": None, "image_auroc": None, "why": why}


def _image_auroc(rows: Labelled, memo: EmbeddingMemo, base: str) -> float | None:
    """Return the AUROC of images alone; None where too few of them are known."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows.images))[:MAX_BASELINE_IMAGES])
    embeddings = []
    numbers = []
    for number in drawn.tolist():
        embedding = memo.image(resolve_image(base, rows.images[number]))
        if isinstance(embedding, np.ndarray):
            embeddings.append(embedding)
            numbers.append(number)
    labels = [rows.labels[number] for number in numbers]
    if len(labels) < LEAST_ROWS or len(set(labels)) < 2:
        return None
    return blind_image_auroc(
        np.stack(embeddings), labels, [rows.images[number] for number in numbers]
    )


def measure_review(rows: Labelled, predictor: Predictor) -> Reviewed | None:
    """Return what the model's review band leaves to the model; None without a band."""
    band = predictor.review
    if band is None:
        return None
    left = coverage(rows.labels, rows.scores, band, rows.thresholds, groups=rows.images)
    return {
        "low": band.low,
        "high": band.high,
        "rows": band.rows,
        "max_risk": band.max_risk,
        "automatic": left.automatic,
        "risk": left.risk,
        "automatic_interval": list(left.automatic_interval),
        "risk_interval": list(left.risk_interval),
    }


def compare_models(first: Labelled, second: Labelled, name: str) -> Comparison:
    """Return the paired tests of two models; InputError where no row was scored by both.

    `name`: the second one's.
    """
    number_of_line = {line: number for number, line in enumerate(second.lines)}
    ours = [number for number, line in enumerate(first.lines) if line in number_of_line]
    if not ours:
        raise InputError(f"`against` {name}: no row could be scored by both models")
    theirs = [number_of_line[first.lines[number]] for number in ours]
    comparison = compare(
        [first.labels[row] for row in ours],
        [first.scores[row] for row in ours],
        [second.scores[row] for row in theirs],
        [first.thresholds[row] for row in ours],
        [second.thresholds[row] for row in theirs],
        groups=[first.images[row] for row in ours],
    )
    return {
        "model": name,
        "rows": len(ours),
        "threshold": second.thresholds[theirs[0]],
        "accuracy_difference": comparison.accuracy,
        "accuracy_interval": list(comparison.accuracy_interval),
        "mcnemar": comparison.decisions._asdict(),
        "auroc": [comparison.ranking.first, comparison.ranking.second],
        "auroc_difference": comparison.auroc,
        "auroc_interval": list(comparison.auroc_interval),
        "delong_p_value": comparison.ranking.p_value,
    }


def log_unscorable(first: Labelled, second: Labelled, name: str) -> None:
    """Log where the second model could not score rows that the first one could, or the reverse."""
    more = second.unscorable - first.unscorable
    if more:
        logger.info(
            f"`against` {name} could score {abs(more):,} rows {'fewer' if more > 0 else 'more'};"
            " the comparison is on the rows of both"
        )


def measure_stress(
    rows: Labelled,
    predictor: Predictor,
    memo: EmbeddingMemo,
    source: RowSource,
    plan: StressPlan,
) -> Stressed:
    """Return what becomes of matched rows under controlled changes. InputError where there is none
    of one image.
    """
    matched = [
        row
        for row, label in enumerate(rows.labels)
        if label == 1 and len(source.columns.images(rows.images[row])) == 1
    ]
    if not matched:
        raise InputError(
            "`stress` needs matched rows of one image; there is none that could be scored"
        )
    drawn = sorted(np.random.default_rng(plan.seed).permutation(matched)[: plan.rows].tolist())
    brand = plan.brand_column
    chosen = [
        StressRow(
            resolve_image(source.base, rows.images[row]),
            rows.texts[row],
            rows.thresholds[row],
            rows.columns[brand][row] if brand else "",
            rows.images[row],
        )
        for row in drawn
    ]
    with progress("stress", total=len(CHANGES), unit="change") as advance:
        changes = stress(predictor, chosen, seed=plan.seed, memo=memo, advance=advance)
    return {
        "rows": len(chosen),
        "seed": plan.seed,
        "changes": changes,
        "ceiling": list(CEILING),
    }


def worst_errors(
    rows: Labelled, base: str, temporary: Path | None
) -> dict[ErrorKind, list[WrongRow]]:
    """Return the surest errors, with pictures of the images that are in a temporary folder."""
    values = zip(
        rows.lines,
        rows.images,
        rows.texts,
        rows.labels,
        rows.scores,
        rows.thresholds,
        strict=True,
    )
    worst = worst_rows([WrongRow(*row) for row in values])
    if temporary is None:
        return worst
    return {
        kind: [_with_picture(row, base, temporary) for row in errors]
        for kind, errors in worst.items()
    }


def _with_picture(row: WrongRow, base: str, temporary: Path) -> WrongRow:
    """Return the row with its picture, where its image is in the temporary folder."""
    kept = kept_picture(row.image_path, base, temporary)
    if kept is None:
        return row
    return replace(row, image_path=kept.name, picture=kept.data_url)
