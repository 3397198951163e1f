"""The start of a new head: standardised by what it will see, with logit 0 at the mean cosine."""

from __future__ import annotations

import math
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.training.feeds.batches import Batch, make_batches
from mismatch.training.feeds.feeds import Feed
from mismatch.training.step import Step

__all__ = ["fit_new_head"]

START_ROWS = 512  # whose embeddings a new head is standardised by where they are not known already


@torch.no_grad()
def fit_new_head(feed: Feed, step: Step, *, frozen: bool) -> None:
    """Standardise a new head by what it will see. Where the backbone states no threshold, start
    with logit 0 at the first batch's mean cosine, so that the bias needn't travel there.

    `frozen`: whether nothing of the backbone changes, so that all its embeddings are known.
    """
    detector = step.detector
    detector.eval()
    seen = _first_embeddings(feed, step)
    if frozen:
        images, pieces = feed.embed_all(detector, step.rows)
    else:
        images = torch.cat([batch_images for _, batch_images, _ in seen])
        pieces = torch.cat([batch_pieces for _, _, batch_pieces in seen])
    step.objective.head.fit(images, pieces)
    if not _states_a_threshold(detector.backbone):
        step.objective.centre(*seen[0])


def _first_embeddings(feed: Feed, step: Step) -> list[tuple[Batch, Tensor, Tensor]]:
    """Return the first batches, each with its unique images (U, image_width) and pieces
    (W, text_width).
    """
    batches = make_batches(feed.pairs, step.rows, step.seed, epoch=1)
    first = islice(batches, math.ceil(START_ROWS / step.rows))
    with closing(feed.stream(first)) as stream:
        return [(batch, *step.embed(feed, batch, inputs)) for batch, inputs in stream]


def _states_a_threshold(backbone: Backbone) -> bool:
    if not backbone.shared_space:
        return False
    return backbone.zero_shot_threshold is not None or backbone.logit_bias is not None
