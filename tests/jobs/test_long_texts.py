"""mismatch.jobs.long_texts: what is said of texts over the model's context."""

from __future__ import annotations

from typing import Any

from mismatch.jobs.long_texts import long_texts_note
from mismatch.runtime.predictor import Predictor
from mismatch.specs import Calibration, ScoreSpec


def test_long_texts_are_said_with_how_they_were_scored(colour_engine: Any) -> None:
    score = ScoreSpec("probability", 0.5, Calibration(1.0, 0.0, 90), long_text="chunk")
    assert long_texts_note(Predictor(colour_engine()), 0) is None
    note = long_texts_note(Predictor(colour_engine(score=score), long_text="truncate"), 2)
    assert note is not None
    assert note.startswith("2 texts were longer than the backbone's 6 tokens")
    assert note.endswith("the model's calibration and threshold are of `long_text='chunk'`")
