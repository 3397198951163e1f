"""Predictions a window of rows at a time, so that a long run can be cut between any two."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mismatch.data.rows import Row
from mismatch.jobs.output.tables import COLUMNS
from mismatch.jobs.prediction_rows import PredictionRows
from mismatch.runtime import pipeline
from mismatch.runtime.slice_use import SliceUse

if TYPE_CHECKING:
    from mismatch.runtime.languages import UnreadTexts
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = [
    "Entry",
    "RunCounts",
    "Window",
    "free_name",
    "kept_columns",
    "scored_windows",
]


class Entry(NamedTuple):
    """A row of the output."""

    prediction: Prediction
    kept: list[str]  # values of the columns behind the scores


@dataclass
class RunCounts:
    """How far a run is."""

    rows: int = 0
    failed: int = 0  # rows without a score
    long_texts: int = 0  # texts over the model's context
    sliced: int = 0  # rows whose slice has a threshold of its own

    def add(self, window: Window) -> None:
        """Count a window."""
        self.rows += len(window.entries)
        self.failed += window.failed
        self.long_texts += window.long_texts
        self.sliced += window.sliced


@dataclass(frozen=True)
class Window:
    """Rows that were scored together, in order."""

    entries: list[Entry]
    failed: int
    long_texts: int
    sliced: int


def scored_windows(
    predictor: Predictor,
    rows: Iterable[Row],
    source: PredictionRows,
    kept: Sequence[str] = (),
    unread: UnreadTexts | None = None,
) -> Iterator[Window]:
    """Yield windows whose scores don't depend on each other, not in the last digit either.

    Where an embedding depends on its batch, each window forgets what those before it have encoded.
    `kept`: columns whose values are kept. `unread`: counts texts that the model can't read.
    """
    memo = pipeline.EmbeddingMemo.empty() if predictor.engine.independent else None
    stream = iter(rows)
    while window := list(islice(stream, pipeline.WINDOW)):
        entries = []
        failed = 0
        use = SliceUse(predictor.slices, predictor.threshold)
        predictions = predictor.predict_rows(
            window, image_base_path=source.base, columns=source.columns, known=memo
        )
        for row, prediction in predictions:
            entries.append(Entry(prediction, [row.columns.get(name, "") for name in kept]))
            failed += prediction.status != "ok"
            use.add(row.columns)
            if unread is not None:
                unread.add(row.text)
        yield Window(entries, failed, predictions.counts.long_texts, use.sliced)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return what a user's column is called where its name is needed: `input_…`."""
    while name in taken:
        name = f"input_{name}"
    return name


def kept_columns(header: Iterable[str]) -> dict[str, str]:
    """Return the input's columns → what they are called behind the scores; one that would clash
    with a score's name is `input_…`.
    """
    taken = {*COLUMNS, *header}
    kept = {}
    for name in header:
        if name in ("image_path", "text"):
            continue
        new = free_name(name, taken) if name in COLUMNS else name
        taken.add(new)
        kept[name] = new
    return kept
