"""Validation after each epoch: the look at the held-out rows, and what follows from its figures."""

from __future__ import annotations

import numpy as np
import torch

from mismatch.errors import InputError
from mismatch.training.callbacks import warn
from mismatch.training.feeds.feeds import Feed
from mismatch.training.folder.history import History, Validation
from mismatch.training.step import Step

__all__ = ["is_stale", "validate", "warn_of_missed_target"]


def validate(feed: Feed, step: Step, objective: str) -> Validation:
    """Score the held-out rows, and calibrate on them; `objective`: what the stored threshold is
    chosen for. InputError where the scores are no numbers.
    """
    step.detector.eval()
    # what FSDP gathers in inference_mode could not be trained with afterwards
    with torch.no_grad():
        embeddings = feed.embed_all(step.detector, step.rows_at_once)
        logits = step.objective.logits(feed.pairs, *embeddings)
    if not np.isfinite(logits).all():
        raise InputError(
            "the validation scores are no numbers: training has diverged; lower"
            " `learning_rate` or `head_learning_rate`"
        )
    return Validation.of(logits, feed.pairs.labels, objective)


def is_stale(history: History, epoch: int) -> bool:
    """Return whether early stopping ends the run after this epoch. `history.best_epoch` is the
    newest one where nothing is held out.
    """
    patience = history.config.early_stopping
    return patience is not None and epoch - history.best_epoch >= patience


def warn_of_missed_target(history: History, objective: str) -> None:
    """Warn where the threshold that was asked for does not exist."""
    if history.best_validation is None:
        return
    threshold = history.best_validation.score.threshold
    if threshold is None or threshold.objective == objective:
        return
    warn(
        "threshold",
        f"no threshold reaches {objective} on the validation rows; the one of the best"
        f" {threshold.objective} is stored",
    )
