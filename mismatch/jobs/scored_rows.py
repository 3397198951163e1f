"""Rows with their predictions; a row of several images has the one of its best or of its worst."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from mismatch.data.columns import Columns
from mismatch.data.rows import Row

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import Known
    from mismatch.runtime.predictor import Prediction, Predictor

__all__ = ["predict_rows"]


def predict_rows(
    predictor: Predictor,
    rows: Iterable[Row],
    base: str,
    columns: Columns | None = None,
    known: Known | None = None,
) -> Iterator[tuple[Row, Prediction]]:
    """Each row with its prediction, in order, streamed; `known`: what other calls have encoded.

    A row of several images has the prediction of that one whose score decides
    (`Columns.multi_image`: best, the highest; all, the lowest), under the paths as the row has
    them. If one of them can't be scored, the row can't: its status names the image.
    """
    pending: deque[tuple[Row, int]] = deque()  # with how many images each has
    best = columns is not None and columns.multi_image == "best"
    column = None if predictor.slices is None else predictor.slices.column

    def mappings() -> Iterator[dict[str, Any]]:
        for row in rows:
            images = (
                columns.images(row.image_path)
                if columns is not None and not row.problem
                else [row.image_path]
            )
            pending.append((row, len(images)))
            for image in images:
                yield {"image_path": image, "text": row.text, "problem": row.problem} | (
                    {} if column is None else {column: row.columns.get(column)}
                )

    predictions = predictor.predict_pairs(
        mappings(),
        image_base_path=base,
        known=known,
        outside_images=columns is not None and not columns.inside,
    )
    for first in predictions:
        row, count = pending.popleft()
        yield (
            row,
            (
                first
                if count == 1
                else replace(
                    _decisive([first, *islice(predictions, count - 1)], best=best),
                    image_path=row.image_path,
                )
            ),
        )


def _decisive(predictions: Sequence[Prediction], *, best: bool) -> Prediction:
    """The one that stands for all of them."""
    if failed := next((one for one in predictions if one.similarity_score is None), None):
        return failed
    return (max if best else min)(
        predictions, key=lambda one: (one.similarity_score or 0.0, one.logit or 0.0)
    )
