"""What is said of texts over the model's context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mismatch.runtime.long_text import long_texts_line

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Predictor

__all__ = ["long_texts_note"]


def long_texts_note(predictor: Predictor, count: int) -> str | None:
    """Return what to say of so many texts over the context; None where there were none."""
    if not count:
        return None
    how = predictor.pipeline.long_text
    line = long_texts_line(count, predictor.engine.text_spec.context_length, how, advise=True)
    stored = predictor.engine.score
    if stored.long_text == how or not (stored.threshold or stored.calibration):
        return line
    option = f"`long_text='{stored.long_text}'`"
    return f"{line}; the model's calibration and threshold are of {option}"
