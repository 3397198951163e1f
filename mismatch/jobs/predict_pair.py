"""The score of one pair, by a model's folder or name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from mismatch.data.columns import locate_image
from mismatch.errors import CheckpointError
from mismatch.io.remote import located
from mismatch.jobs.fetching import fetched_images
from mismatch.jobs.long_texts import long_texts_note
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
    check_slice_value,
    isolated_decoding,
    model_name,
    open_predictor,
)
from mismatch.jobs.results import Result
from mismatch.jobs.value_checks import checked
from mismatch.reports.prediction_lines import prediction_lines
from mismatch.runtime.languages import unread_warning
from mismatch.runtime.predictor import Prediction, Predictor
from mismatch.runtime.text_tower import TextCounts
from mismatch.specs import LongText, ReviewBand

__all__ = ["PairResult", "predict_pair"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairResult(Result):
    """The prediction of one pair."""

    prediction: Prediction
    note: str | None  # a sentence about a long text; None where it is none

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        return prediction_lines(self.prediction)


@checked
def predict_pair(
    model: str | Path | Predictor,
    image: str | Path,
    text: str,
    *,
    threshold: float | None = None,
    review_band: ReviewBand | None = None,
    slice_value: str | None = None,
    long_text: LongText | None = None,
    **options: Unpack[ModelRowOptions],
) -> PairResult:
    """Score one pair as `predict_file` scores rows; CheckpointError where it can't be scored.

    `slice_value` is the pair's in the column by which the model has thresholds.
    """
    settings = ModelRowSettings.of(options)
    counts = TextCounts()
    with isolated_decoding(settings.isolate_decoding), fetched_images(settings.fetching):
        source = locate_image(located(settings.image_base_path), str(image))
        predictor = open_predictor(
            model, settings, threshold=threshold, review_band=review_band, long_text=long_text
        )
        check_slice_value(predictor, slice_value)
        prediction = predictor.predict(source, text, slice_value=slice_value, counts=counts)
    if prediction.similarity_score is None:
        raise CheckpointError(f"{model_name(model)}: {prediction.status}")
    if warning := unread_warning(predictor.pipeline.tokenizer, [text]):
        logger.warning(warning)
    return PairResult(prediction, long_texts_note(predictor, counts.long_texts))
