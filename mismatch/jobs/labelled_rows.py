"""Labelled rows and what a model says of them, for jobs that measure a model or fit its score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mismatch.data.pairs import Row, format_location, read_header, read_rows, refusal
from mismatch.errors import InputError
from mismatch.io.text import plural
from mismatch.jobs.options import RowSource
from mismatch.progress import progress
from mismatch.runtime.languages import UnreadTexts
from mismatch.runtime.slice_use import SliceUse

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import EmbeddingMemo
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = [
    "Labelled",
    "check_labels",
    "refuse_to_store",
    "score_all",
    "score_labelled",
]

logger = logging.getLogger(__name__)

SHOWN = 10  # rows that could not be scored


@dataclass
class Labelled:
    """Rows that could be scored, a value a row in each list, and the first ones that could not."""

    labels: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    logits: list[float] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)  # each row's, which decided
    # paths as written: rows of one image are no independent ones
    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)  # those that are asked for
    unscorable: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)  # line and status
    long_texts: int = 0  # different texts over the model's context
    truncated: int = 0  # long texts that were scored without their end
    sliced: int = 0  # rows whose slice has a threshold of its own
    unread_note: str | None = None  # what to say of texts that the model can't read

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


def check_labels(source: RowSource, wanted: Sequence[str] = ()) -> None:
    """Refuse rows before a model is loaded.

    InputError for rows without a usable label, no rows, or a `wanted` column that is missing.
    """
    header = read_header(source.path, require_label=True, columns=source.columns)
    missing = [name for name in wanted if name not in header]
    if missing:
        columns = ", ".join(map(repr, header))
        raise InputError(f"{source.name}: there is no column {missing[0]!r}; found {columns}")
    rows = 0
    bad = []
    for row in read_rows(source.path, require_label=True, columns=source.columns):
        rows += 1
        if row.label is None:
            bad.append(row)
    if bad:
        raise refusal(source.path, bad)
    if not rows:
        raise InputError(f"{source.name}: there are no rows under the header; nothing to do")


def score_all(
    predictor: Predictor,
    source: RowSource,
    *,
    wanted: Sequence[str] = (),
    memo: EmbeddingMemo | None = None,
    write: Callable[[Row, Prediction], object] = lambda row, prediction: None,
    label: str = "score",
) -> Labelled:
    """Score all rows; each is also given to `write`. `wanted`: columns whose values are kept."""
    labelled = Labelled(columns={name: [] for name in wanted})
    rows = read_rows(source.path, require_label=True, columns=source.columns)
    predictions = predictor.predict_rows(
        rows, image_base_path=source.base, columns=source.columns, known=memo
    )
    use = SliceUse(predictor.slices, predictor.threshold)
    unread = UnreadTexts(predictor.pipeline.tokenizer)
    with progress(label, unit="row") as advance:
        for row, prediction in predictions:
            labelled.add(row, prediction)
            write(row, prediction)
            use.add(row.columns)
            unread.add(row.text)
            advance(1)
    labelled.long_texts = predictions.counts.long_texts
    labelled.truncated = predictions.counts.truncated
    labelled.sliced = use.sliced
    labelled.unread_note = unread.warning()
    return labelled


def score_labelled(
    predictor: Predictor, source: RowSource, *, wanted: Sequence[str] = (), min_rows: int = 1
) -> Labelled:
    """Score all rows. InputError where fewer than `min_rows` could be scored; rows that can't be
    are named in the log, the first ten.
    """
    labelled = score_all(predictor, source, wanted=wanted)
    if labelled.unread_note:
        logger.warning(labelled.unread_note)
    if len(labelled.labels) < min_rows:
        without = ""
        if labelled.unscorable:
            others = plural(labelled.unscorable, "other")
            without = f"; {others} could not be scored, mismatch validate says why row by row"
        raise InputError(
            f"{source.name}: {len(labelled.labels):,} labelled rows,"
            f" {min_rows:,} are needed{without}"
        )
    if labelled.unscorable:
        verb = "are" if labelled.unscorable != 1 else "is"
        rows = plural(labelled.unscorable, "row")
        logger.info(f"{rows} could not be scored and {verb} left out:")
        for failure in labelled.first:
            logger.info(f"{format_location(source.name, failure['line'])}: {failure['status']}")
    return labelled


def refuse_to_store(problem: str, *, dry_run: bool) -> None:
    """Raise InputError for what would make a model worse; a dry run, which stores nothing, only
    warns. An empty `problem` is none.
    """
    if not problem:
        return
    if not dry_run:
        raise InputError(problem)
    logger.warning(problem)
