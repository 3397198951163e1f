"""What training minimises: binary cross-entropy on the logit, and a contrastive term over a batch's
matched pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["binary_loss", "contrastive_loss"]


def binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Map (B,) logits, (B,) labels 0 or 1 → mean binary cross-entropy, nats."""
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def contrastive_loss(
    images: Tensor,
    texts: Tensor,
    image_ids: Tensor,
    text_ids: Tensor,
    temperature: Tensor,
    piece_ids: Tensor | None = None,
) -> Tensor:
    """Return symmetric InfoNCE (CLIP) over M matched pairs, nats: each image should find its text
    among the others', and each text its image.

    `images`, `texts`: (M, D), length 1; `image_ids`, `text_ids`: (M,); `temperature` multiplies the
    cosine; `piece_ids`: (M,), which piece of its text stands for each pair, where long ones are in
    pieces. Two pairs that share an image, a text or that piece (as texts with the same small print
    do) are no negatives of each other. The loss is 0 where no pair has a negative, M of 0 and 1
    included.
    """
    cosine = images @ texts.T  # (M, M)
    shared = (image_ids[:, None] == image_ids) | (text_ids[:, None] == text_ids)  # (M, M)
    if piece_ids is not None:
        shared |= piece_ids[:, None] == piece_ids
    diagonal = torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    logits = (temperature * cosine).masked_fill(shared & ~diagonal, float("-inf"))
    # (M,); `shared` is symmetric, so both directions have the same rows
    with_negative = ~shared.all(1)
    losses = (_cross_entropy(logits) + _cross_entropy(logits.T)) / 2  # (M,)
    return torch.where(with_negative, losses, 0.0).sum() / with_negative.sum().clamp(min=1)


def _cross_entropy(logits: Tensor) -> Tensor:
    """Map (M, M) → (M,), the diagonal being right."""
    return logits.logsumexp(1) - logits.diagonal()
