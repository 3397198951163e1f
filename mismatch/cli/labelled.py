"""Labelled rows and what a model says of them, for the verbs that measure a model or fit its score;
and how a fitted score is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.progress import progress_bar
from mismatch.cli.scored import predict_rows
from mismatch.data.pairs import Columns, Row, place, read_header, read_rows, refusal
from mismatch.errors import InputError

if TYPE_CHECKING:
    from mismatch.evaluation.bootstrap import Interval
    from mismatch.runtime.pipeline import Known
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = [
    "FIGURE_NAMES",
    "Labelled",
    "bounds",
    "check_labels",
    "figure_lines",
    "score_all",
    "score_labelled",
]

SHOWN = 10  # rows that could not be scored
FIGURE_NAMES = {  # as FIGURES of evaluation/threshold.py has them → for people
    "accuracy": "accuracy",
    "mismatch_precision": "mismatches: precision",
    "mismatch_recall": "mismatches: recall",
    "mismatch_f1": "mismatches: F1",
    "match_precision": "matches: precision",
    "match_recall": "matches: recall",
    "match_f1": "matches: F1",
    "alarm_rate": "called mismatches",
}


@dataclass
class Labelled:
    """Rows that could be scored, a value a row in each list, and the first ones that could not."""

    labels: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    logits: list[float] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)  # that each was decided by
    # as written: rows of one image are no independent ones
    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)  # those that are asked for
    unscorable: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)  # line and status

    def add(self, row: Row, prediction: Prediction) -> None:
        """Count one row."""
        if prediction.similarity_score is None or prediction.logit is None or row.label is None:
            self.unscorable += 1
            if len(self.first) < SHOWN:
                self.first.append({"line": row.line, "status": prediction.status})
            return
        self.labels.append(row.label)
        self.scores.append(prediction.similarity_score)
        self.logits.append(prediction.logit)
        self.thresholds.append(prediction.threshold)
        self.images.append(row.image_path)
        self.texts.append(row.text)
        self.lines.append(row.line)
        for name, values in self.columns.items():
            values.append(row.columns.get(name, ""))


def check_labels(csv_file: Path, columns: Columns, wanted: Sequence[str] = ()) -> None:
    """InputError for rows without a usable label, no rows, or a `wanted` column that is missing;
    before a model is loaded.
    """
    header = read_header(csv_file, require_label=True, columns=columns)
    if missing := [name for name in wanted if name not in header]:
        raise InputError(
            f"{csv_file}: there is no column {missing[0]!r}; found {', '.join(map(repr, header))}"
        )
    rows = 0
    bad = []
    for row in read_rows(csv_file, require_label=True, columns=columns):
        rows += 1
        if row.label is None:
            bad.append(row)
    if bad:
        raise refusal(csv_file, bad)
    if not rows:
        raise InputError(f"{csv_file}: there are no rows under the header; nothing to do")


def score_all(
    predictor: Predictor,
    csv_file: Path,
    base: str,
    columns: Columns,
    *,
    wanted: Sequence[str] = (),
    known: Known | None = None,
    write: Callable[[Row, Prediction], object] = lambda row, prediction: None,
    label: str = "score",
) -> Labelled:
    """All rows with a progress bar, each also given to `write`; `wanted`: columns whose values are
    kept.
    """
    found = Labelled(columns={name: [] for name in wanted})
    with progress_bar(label, unit="row") as advance:
        for row, prediction in predict_rows(
            predictor,
            read_rows(csv_file, require_label=True, columns=columns),
            base,
            columns,
            known,
        ):
            found.add(row, prediction)
            write(row, prediction)
            advance(1)
    return found


def score_labelled(
    predictor: Predictor,
    csv_file: Path,
    base: str,
    columns: Columns,
    *,
    wanted: Sequence[str] = (),
    least: int = 1,
) -> Labelled:
    """All rows. InputError where fewer than `least` could be scored; rows that can't be are named
    on stderr, the first ten.
    """
    found = score_all(predictor, csv_file, base, columns, wanted=wanted)
    if len(found.labels) < least:
        others = f"{found.unscorable:,} other{'s' * (found.unscorable != 1)}"
        without = (
            f"; {others} could not be scored, mismatch validate says why row by row"
            if found.unscorable
            else ""
        )
        raise InputError(
            f"{csv_file}: {len(found.labels):,} labelled rows, {least:,} are needed{without}"
        )
    if found.unscorable:
        several = found.unscorable != 1
        click.echo(
            f"{found.unscorable:,} row{'s' * several} could not be scored and"
            f" {'are' if several else 'is'} left out:",
            err=True,
        )
        for one in found.first:
            click.echo(f"{place(csv_file, one['line'])}: {one['status']}", err=True)
    return found


def figure_lines(figures: dict[str, Any], intervals: dict[str, Interval]) -> list[str]:
    """A line each, with its interval."""
    width = max(map(len, FIGURE_NAMES.values()))
    return [
        f"{words:<{width}}  {figures[name]:.4f}  {bounds(intervals[name])}"
        for name, words in FIGURE_NAMES.items()
    ]


def bounds(interval: Interval) -> str:
    """`0.9312..0.9587`, or a dash where there is none."""
    return "–" if interval.low != interval.low else f"{interval.low:.4f}..{interval.high:.4f}"
