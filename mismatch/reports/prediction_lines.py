"""A prediction, as a box for people on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Prediction

__all__ = ["prediction_lines"]

RULE = "=" * 50


def prediction_lines(result: Prediction) -> list[str]:
    """Return a prediction for people; programs read the CSV."""
    return [
        RULE,
        "CLIP Mismatch Detection Result",
        RULE,
        f"Image: {result.image_path}",
        f"Text: {result.text}",
        f"Similarity Score: {result.similarity_score:.4f}",
        f"Threshold: {_short(result.threshold)}",
        f"Prediction: {result.prediction.upper()}",
        f"Is Match: {result.is_match}",
        RULE,
    ]


def _short(value: float) -> str:
    """Return at most four decimals, no trailing zeros: 0.25."""
    return f"{value:.4f}".rstrip("0").removesuffix(".")
