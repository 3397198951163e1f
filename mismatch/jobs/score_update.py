"""The score of a model, replaced only while its folder still holds the model that was scored."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from mismatch.errors import CheckpointError, InputError, MismatchError
from mismatch.io.text import one_line
from mismatch.reports.model_card import ChosenOn, update_card
from mismatch.runtime.card_file import CARD
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.score_file import read_score, write_score
from mismatch.specs import ScoreSpec

__all__ = ["ScoreUpdate", "dropped_parts", "show_in_card"]

logger = logging.getLogger(__name__)


class ScoreUpdate:
    """What is stored at the end of a job, and what it was chosen for."""

    def __init__(self, predictor: Predictor, folder: str | Path | None, *, rescaled: bool) -> None:
        """Look at the score so far. `folder`: the model's; None for a raw backbone, and where
        nothing is stored. `rescaled`: the calibration is replaced too.

        InputError for a predictor that reads long texts as the model does not, CheckpointError
        where the folder holds another model or calibration than the predictor has.
        """
        stored_as = predictor.engine.score.long_text
        self.before = replace(predictor.score, long_text=stored_as)  # the score so far
        self._predictor = predictor
        self._folder = folder
        if folder is None:
            return
        self.before = read_score(folder)
        predictor.check_folder(folder)
        _check_long_text(predictor, self.before)
        if not rescaled and _scale(self.before) != _scale(predictor.score):
            raise _replaced(folder)

    def check(self) -> None:
        """Raise CheckpointError where the folder holds another model or score than at the start."""
        if self._folder is None:
            return
        self._predictor.check_folder(self._folder)
        if read_score(self._folder) != self.before:
            raise _replaced(self._folder)

    def store(self, score: ScoreSpec, chosen_on: ChosenOn) -> None:
        """Put a score in the place of the one so far; the model's card says so."""
        self.check()
        if self._folder is not None:
            write_score(self._folder, score)
            show_in_card(self._folder, chosen_on)


def show_in_card(folder: str | Path, chosen_on: ChosenOn) -> None:
    """Say in a model's card how it decides now. The score is stored already: a card that can't be
    written, or that somebody has changed, is worth a line and no error.
    """
    try:
        is_shown = update_card(Path(folder), chosen_on)
    except (MismatchError, OSError) as error:
        logger.warning(f"the model's {CARD} tells of the earlier score: {one_line(error)}")
        return
    if not is_shown and (Path(folder) / CARD).exists():
        logger.info(f"the model's {CARD} is not as mismatch wrote it, so it stays as it is")


def dropped_parts(before: ScoreSpec, after: ScoreSpec) -> tuple[str, ...]:
    """Return what a score had and the next one lacks, in words: thresholds by slice, a band."""
    dropped = []
    if before.slices is not None and after.slices is None:
        dropped.append(f"the thresholds by {before.slices.column!r}")
    if before.review is not None and after.review is None:
        band = before.review
        dropped.append(f"the review band {band.low:.4f} to {band.high:.4f}")
    return tuple(dropped)


def _scale(score: ScoreSpec) -> tuple[object, ...]:
    """Return what maps logits to scores."""
    return score.kind, score.calibration


def _check_long_text(predictor: Predictor, stored: ScoreSpec) -> None:
    read_as = predictor.pipeline.long_text
    if read_as != stored.long_text:
        raise InputError(
            f"the model is loaded with `long_text={read_as}` and stored with {stored.long_text},"
            " whose scores differ; load it without `long_text`, or pass `dry_run=True`"
        )


def _replaced(folder: str | Path) -> CheckpointError:
    return CheckpointError(
        f"{folder} has another calibration or threshold than the model had that was scored: it was"
        " replaced since; load the model again"
    )
