"""Rows with their predictions, as the commands ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mismatch.data.columns import Columns
from mismatch.data.rows import Row

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import Known
    from mismatch.runtime.predictor import Prediction, Predictions, Predictor

__all__ = ["predict_rows"]


def predict_rows(
    predictor: Predictor,
    rows: Iterable[Row],
    base: str,
    columns: Columns | None = None,
    known: Known | None = None,
) -> Predictions[tuple[Row, Prediction]]:
    """Yield each row with its prediction; see `Predictor.predict_rows`."""
    return predictor.predict_rows(rows, image_base_path=base, columns=columns, known=known)
