"""What `mismatch evaluate` finds out of rows and their scores: all that report.json
says of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mismatch.cli.progress import progress_bar
from mismatch.data.pairs import Columns, Row, resolve_image
from mismatch.errors import InputError, MissingExtraError
from mismatch.jobs.labelled_rows import Labelled, score_all
from mismatch.jobs.options import RowSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from mismatch.runtime.pipeline import Known
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = [
    "Error",
    "blind",
    "compared",
    "metrics",
    "parts",
    "reviewed",
    "scored",
    "stressed",
    "worst",
]

ERRORS = 24  # of each kind that the report shows
BLIND_IMAGES = 5000  # at most, of the image baseline


class Error(NamedTuple):
    """A row whose decision is wrong."""

    line: int
    image_path: str
    text: str
    label: int
    score: float
    threshold: float


def scored(
    predictor: Predictor,
    csv_file: Path,
    base: str,
    columns: Columns,
    *,
    wanted: Sequence[str] = (),
    known: Known | None = None,
    write: Callable[[Row, Prediction], object] = lambda row, prediction: None,
    label: str = "evaluate",
) -> Labelled:
    """All rows, each also given to `write`. InputError where not one could be scored."""
    source = RowSource(str(csv_file), csv_file, base, columns)
    found = score_all(predictor, source, wanted=wanted, known=known, write=write, label=label)
    if not found.labels:
        raise InputError(
            f"{csv_file}: not one of its {found.unscorable:,} rows could be scored; mismatch"
            " validate says why row by row"
        )
    return found


def metrics(tally: Labelled) -> dict[str, Any]:
    """`metrics`, `intervals` and how these were drawn."""
    from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES
    from mismatch.evaluation.strata import measured

    found = measured(
        tally.labels, tally.scores, tally.thresholds, groups=tally.images, resamples=RESAMPLES
    )
    images = len(set(tally.images))
    drawn = {
        "level": LEVEL,
        "resampled_by": "image" if images < len(tally.images) else "row",
        "images": images,
    }
    return {"metrics": found["metrics"], "intervals": found["intervals"], "bootstrap": drawn}


def parts(tally: Labelled, slices: Sequence[str], kind_column: str | None) -> dict[str, Any]:
    """`slices`: column → value → figures; `kinds`: kind of mismatch → figures,
    against all matches.
    """
    from mismatch.evaluation.strata import by_kind, by_value

    rows = (tally.labels, tally.scores, tally.thresholds, tally.images)
    found: dict[str, Any] = {
        "slices": {name: by_value(tally.columns[name], *rows) for name in slices}
    }
    found["kinds"] = by_kind(tally.columns[kind_column], *rows) if kind_column else {}
    return found


def blind(tally: Labelled, known: Known, base: str) -> dict[str, Any]:
    """AUROC of linear models that see texts or images alone, cross-validated on these rows; null
    where not measured, and then `why`.
    """
    import numpy as np

    from mismatch.data.blind import LEAST_ROWS, blind_image_auroc, blind_text_auroc

    nothing = {"text_auroc": None, "image_auroc": None}
    if len(tally.labels) < LEAST_ROWS or len(set(tally.labels)) < 2:
        return {**nothing, "why": f"blind baselines need {LEAST_ROWS} rows with both labels"}
    try:
        found: dict[str, Any] = {
            "text_auroc": blind_text_auroc(tally.texts, tally.labels, tally.images),
            "image_auroc": None,
        }
    except MissingExtraError as error:
        return {**nothing, "why": str(error)}
    some = np.sort(np.random.default_rng(0).permutation(len(tally.images))[:BLIND_IMAGES])
    seen = [
        (at, made)
        for at in map(int, some)
        if isinstance(made := known.image(resolve_image(base, tally.images[at])), np.ndarray)
    ]
    labels = [tally.labels[at] for at, _ in seen]
    if len(labels) >= LEAST_ROWS and len(set(labels)) == 2:
        found["image_auroc"] = blind_image_auroc(
            np.stack([made for _, made in seen]), labels, [tally.images[at] for at, _ in seen]
        )
    return found


def compared(first: Labelled, second: Labelled, name: str) -> dict[str, Any]:
    """The tests of the two models on the rows that both have scored."""
    from mismatch.evaluation.comparison import compare

    at = {line: number for number, line in enumerate(second.lines)}
    mine = [number for number, line in enumerate(first.lines) if line in at]
    theirs = [at[first.lines[number]] for number in mine]
    if not mine:
        raise InputError(f"--against {name}: no row could be scored by both models")
    labels, scores, cuts, images = (
        [values[row] for row in mine]
        for values in (first.labels, first.scores, first.thresholds, first.images)
    )
    others, their_cuts = (
        [values[row] for row in theirs] for values in (second.scores, second.thresholds)
    )
    found = compare(labels, scores, others, cuts, their_cuts, groups=images)
    return {
        "model": name,
        "rows": len(mine),
        "threshold": second.thresholds[theirs[0]],
        "accuracy_difference": found.accuracy,
        "accuracy_interval": list(found.accuracy_interval),
        "mcnemar": found.decisions._asdict(),
        "auroc": [found.ranking.first, found.ranking.second],
        "auroc_difference": found.auroc,
        "auroc_interval": list(found.auroc_interval),
        "delong_p_value": found.ranking.p_value,
    }


def reviewed(tally: Labelled, predictor: Predictor) -> dict[str, Any] | None:
    """What the model's review band leaves to the machine; None without a band."""
    from mismatch.evaluation.review import coverage

    if predictor.review is None:
        return None
    found = coverage(
        tally.labels, tally.scores, predictor.review, tally.thresholds, groups=tally.images
    )
    return {
        **asdict(predictor.review),
        **{
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found._asdict().items()
        },
    }


def stressed(
    tally: Labelled,
    predictor: Predictor,
    known: Known,
    base: str,
    columns: Columns,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """`changes`, each with its figures, the rows and seed, and the ceiling in words. InputError
    where there is no matched row of one image.
    """
    import numpy as np

    from mismatch.evaluation.stress import CEILING, CHANGES, StressRow, stress

    brand = options["brand_column"]
    rows = [
        at
        for at, label in enumerate(tally.labels)
        if label == 1 and len(columns.images(tally.images[at])) == 1
    ]
    if not rows:
        raise InputError(
            "--stress needs matched rows of one image; there is none that could be scored"
        )
    picked = sorted(
        map(int, np.random.default_rng(options["seed"]).permutation(rows)[: options["stress_rows"]])
    )
    chosen = [
        StressRow(
            resolve_image(base, tally.images[at]),
            tally.texts[at],
            tally.thresholds[at],
            tally.columns[brand][at] if brand else "",
            tally.images[at],
        )
        for at in picked
    ]
    with progress_bar("stress", total=len(CHANGES), unit="change") as advance:
        changes = stress(predictor, chosen, seed=options["seed"], known=known, advance=advance)
    return {
        "rows": len(chosen),
        "seed": options["seed"],
        "changes": changes,
        "ceiling": list(CEILING),
    }


def worst(tally: Labelled) -> dict[str, list[Error]]:
    """`missed`: mismatches taken for matches, the highest score first; `alarms`: matches taken for
    mismatches, the lowest first.
    """
    wrong = [
        Error(*values)
        for values in zip(
            tally.lines,
            tally.images,
            tally.texts,
            tally.labels,
            tally.scores,
            tally.thresholds,
            strict=True,
        )
        if (values[4] >= values[5]) != (values[3] == 1)
    ]
    missed = sorted(
        (error for error in wrong if error.label == 0), key=lambda error: (-error.score, error.line)
    )
    alarms = sorted(
        (error for error in wrong if error.label == 1), key=lambda error: (error.score, error.line)
    )
    return {"missed": missed[:ERRORS], "alarms": alarms[:ERRORS]}


def warn_unscorable(tally: Labelled, other: Labelled, name: str) -> None:
    """A line where the second model could not score rows that the first one could."""
    if more := other.unscorable - tally.unscorable:
        click.echo(
            f"--against {name} could score {abs(more):,} rows {'fewer' if more > 0 else 'more'};"
            " the comparison is on the rows of both",
            err=True,
        )


def known_figure(value: Any) -> bool:
    """Whether a figure exists."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))
