"""Scores for rows by heads that were trained without them: K folds of images on embeddings that are
known already, several times over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.errors import InputError
from mismatch.evaluation.calibration import fit_platt
from mismatch.evaluation.folds import grouped_folds
from mismatch.runtime.scoring import scores_from_logits
from mismatch.specs import HeadSpec, LongText, ScoreSpec
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import PairSet, make_batches
from mismatch.training.feeds.feeds import EmbeddingFeed
from mismatch.training.head import CosineHead, build_head
from mismatch.training.objective import TrainingObjective
from mismatch.training.optim import build_optimizer, rate_factor, set_rates
from mismatch.training.step import Step
from mismatch.training.tuning.modes import MODES

__all__ = ["CrossFit", "CrossFitPlan", "Fitted", "folds_of"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
DEFAULTS = TrainConfig(train_csv="")  # the recipe of tune='head'
STEPS = 32  # of an epoch, at least, so that a head learns from few rows too: by smaller batches
LEAST_BATCH = 32  # rows; fewer leave the contrastive term nothing to tell apart
# share of the rows outside a fold: where fewer have a text of their own, texts may be on both sides
LEAST_KEPT = 0.5
# share of the rows that is left out: more label errors than that are a trait of the labels, not
# slips
DROPPED_MOST = 0.25


@dataclass(frozen=True)
class CrossFitPlan:
    """How much is trained."""

    folds: int = 5
    # passes over the folds, each with other folds and another start; the most suspicious rows of
    # the first are left out of the others' training
    repeats: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """What heads say of rows that they were not trained on."""

    probabilities: Floats  # (N,) of a match, 0..1
    repeats: Floats  # (repeats, N), the same by each repeat alone
    # whether no text stood both in a row that was scored and in one that its head was trained on
    texts_apart: bool
    heads: int  # that were trained


class CrossFit:
    """Rows with their embeddings, and the kind of head that is trained on them."""

    def __init__(
        self,
        pairs: PairSet,
        images: NDArray[np.float32],
        pieces: NDArray[np.float32],
        spec: HeadSpec,
        *,
        long_text: LongText = "truncate",
    ) -> None:
        """Take `images` (U, image_width) and `pieces` (W, text_width), of `pairs`. InputError where
        there is too little to learn from.
        """
        self.pairs = pairs
        self.spec = spec
        self.long_text = long_text
        self.images = torch.from_numpy(images)
        self.pieces = torch.from_numpy(pieces)
        # (N,) rows with the same picture have the same number
        self.groups = _contents(images)[pairs.image_of]

    def fit(
        self, plan: CrossFitPlan, *, advance: Callable[[int], object] = lambda done: None
    ) -> Fitted:
        """Score every row once a repeat; `advance` is called for the heads that are done. Chance
        depends on the seed alone.
        """
        labels = self.pairs.labels
        keep = np.ones(len(labels), np.bool_)
        scored: list[Floats] = []
        apart = True
        with torch.random.fork_rng([]):
            for repeat in range(plan.repeats):
                logits = np.empty(len(labels))
                for fold, (train, test, fold_apart) in enumerate(self._folds(plan, repeat)):
                    logits[test] = self._train_and_score(
                        train[keep[train]], test, (plan.seed, repeat, fold)
                    )
                    apart &= fold_apart
                    advance(1)
                scored.append(logits)
                keep = _kept(_probabilities(np.mean(scored, axis=0), labels), labels)
        each = np.stack([_probabilities(logits, labels) for logits in scored])
        return Fitted(
            _probabilities(np.mean(scored, axis=0), labels), each, apart, plan.folds * plan.repeats
        )

    def _folds(self, plan: CrossFitPlan, repeat: int) -> Iterator[tuple[Indices, Indices, bool]]:
        """Yield rows to train on, rows to score, and whether they share no text."""
        fold_of = folds_of(self.groups, plan.folds, (plan.seed, repeat))
        for fold in range(plan.folds):
            test = np.flatnonzero(fold_of == fold)
            others = np.flatnonzero(fold_of != fold)
            unshared = others[~np.isin(self.pairs.text_of[others], self.pairs.text_of[test])]
            apart = (
                len(unshared) >= LEAST_KEPT * len(others)
                and len(np.unique(self.pairs.labels[unshared])) == 2
            )
            yield unshared if apart else others, test, apart

    def _train_and_score(self, train: Indices, test: Indices, seed: tuple[int, ...]) -> Floats:
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        torch.manual_seed(number)
        pairs = self._rows(train)
        if len(np.unique(pairs.labels)) < 2:
            raise InputError(
                f"{pairs.csv_file}: without a fold's images every label is alike, so a head can't"
                " be trained; more rows of both labels are needed"
            )
        objective = _trained(
            pairs,
            self.images,
            self.pieces,
            cast("CosineHead", build_head(self.spec)),
            self.long_text,
            number,
        )
        with torch.inference_mode():
            return objective.logits(self._rows(test), self.images, self.pieces).astype(np.float64)

    def _rows(self, rows: Indices) -> PairSet:
        pairs = self.pairs
        return replace(
            pairs,
            image_of=pairs.image_of[rows],
            text_of=pairs.text_of[rows],
            labels=pairs.labels[rows],
        )


def folds_of(groups: Indices, folds: int, seed: tuple[int, ...]) -> Indices:
    """Map (N,) which rows belong together → (N,) the fold of each, 0..folds; as many groups in each
    as can be. InputError for fewer groups than folds.
    """
    count = len(np.unique(groups))
    if count < folds:
        raise InputError(
            f"{count} different images are too few for {folds} folds; lower `folds`, or give"
            " more rows"
        )
    return grouped_folds(groups, folds, seed)


def _trained(
    pairs: PairSet, images: Tensor, pieces: Tensor, head: CosineHead, long_text: LongText, seed: int
) -> TrainingObjective:
    """Train by the recipe of tune='head', without validation."""
    mode = MODES["head"]
    epochs = int(mode["epochs"])
    rows = min(int(mode["batch_size"]), max(LEAST_BATCH, len(pairs) // STEPS))
    detector = Detector(cast("Backbone", nn.Identity()), head)  # the backbone has done its work
    objective = TrainingObjective(head, long_text, DEFAULTS.contrastive_weight)
    feed = EmbeddingFeed(pairs, images, pieces)
    optimizer = build_optimizer(
        detector,
        backbone_rate=0.0,
        head_rate=float(mode["head_learning_rate"]),
        weight_decay=DEFAULTS.weight_decay,
    )
    step = Step(
        detector, objective, optimizer, Processes(torch.device("cpu")), rows=rows, seed=seed
    )
    first = next(make_batches(pairs, rows, seed, 1))
    head.eval()
    with torch.inference_mode():
        head.fit(
            images[torch.from_numpy(np.unique(pairs.image_of))],
            pieces[torch.from_numpy(np.unique(pairs.row_pieces(np.arange(len(pairs)))[0]))],
        )
        objective.centre(first, *feed.embeddings_of(first))
    head.train()
    per_epoch = math.ceil(len(pairs) / rows)
    for epoch in range(1, epochs + 1):
        for number, batch in enumerate(make_batches(pairs, rows, seed, epoch)):
            step_number = (epoch - 1) * per_epoch + number
            set_rates(optimizer, rate_factor(step_number, per_epoch * epochs, DEFAULTS.warmup))
            step(feed, batch, None, (epoch, step_number))
    head.eval()
    return objective


def _contents(images: NDArray[np.float32]) -> Indices:
    """Return (U,) the same number for rows that are the same to the last bit: one picture under
    several names.
    """
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in images], np.int64)


def _probabilities(logits: Floats, labels: NDArray[np.float32]) -> Floats:
    """Calibrate by Platt scaling on the rows themselves; two numbers don't remember a row."""
    calibrated = ScoreSpec("probability", 0.5, fit_platt(logits, labels.astype(np.int64)))
    return np.asarray(scores_from_logits(logits, calibrated), np.float64)


def _kept(probabilities: Floats, labels: NDArray[np.float32]) -> Mask:
    """Return (N,) whether later heads learn from a row: not where the others deny its label."""
    belief = np.where(labels == 1, probabilities, 1 - probabilities)
    limit = min(0.2, float(np.quantile(belief, DROPPED_MOST)))
    return np.asarray(belief >= limit, np.bool_)
