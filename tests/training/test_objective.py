"""From embeddings to losses: members are taught apart, and what is minimised is their mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mismatch.specs import HeadSpec
from mismatch.training.feeds.batches import Batch
from mismatch.training.head import AdapterHead
from mismatch.training.losses import binary_loss, contrastive_loss
from mismatch.training.objective import MAX_TEMPERATURE, TrainingObjective


def one_piece_a_text() -> Batch:
    """Six rows over four images and five texts."""
    image_of, text_of = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0, 1, 2, 3, 4, 0])
    labels = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    return Batch(np.arange(4), np.arange(5), image_of, text_of, text_of, torch.arange(6), labels)


def head_of(members: int) -> AdapterHead:
    torch.manual_seed(members)
    return AdapterHead(
        HeadSpec(
            "adapter",
            12,
            7,
            common_dim=8,
            hidden_dim=16,
            dropout=0.0,
            members=members,
            normalisation="standard",
        )
    )


@pytest.mark.parametrize("members", [1, 3])
def test_losses_are_the_members_means(members: int) -> None:
    head, batch = head_of(members), one_piece_a_text()
    images, texts = torch.randn(4, 12), torch.randn(5, 7)
    binary, contrastive = TrainingObjective(head, "truncate", 0.5).losses(batch, images, texts)
    # (K, 4, 8), (K, 5, 8)
    u, v = head.members(head.embed_image(images)), head.members(head.embed_text(texts))
    alone = []
    for k in range(members):
        a, b = u[k][batch.image_of], v[k][batch.text_of]
        matched = batch.labels.bool()
        rest = (
            a[matched],
            b[matched],
            batch.image_of[matched],
            batch.text_of[matched],
            head.log_temperature.exp(),
        )
        alone.append(
            (binary_loss(head.logit((a * b).sum(-1)), batch.labels), contrastive_loss(*rest))
        )
    torch.testing.assert_close(binary, torch.stack([one for one, _ in alone]).mean())
    torch.testing.assert_close(contrastive, torch.stack([other for _, other in alone]).mean())


def test_a_term_without_weight_is_not_computed() -> None:
    objective = TrainingObjective(head_of(2), "truncate", 0.0)
    binary, contrastive = objective.losses(
        one_piece_a_text(), torch.randn(4, 12), torch.randn(5, 7)
    )
    assert float(contrastive.detach()) == 0.0
    torch.testing.assert_close(objective.total(binary, contrastive), binary)


def test_the_temperature_stays_in_clips_bounds() -> None:
    objective = TrainingObjective(head_of(1), "truncate", 0.5)
    with torch.no_grad():
        objective.head.log_temperature.fill_(9.0)
    objective.clamp()
    assert float(objective.head.log_temperature.detach().exp()) == pytest.approx(MAX_TEMPERATURE)
    assert math.isclose(float(objective.head.log_scale.detach().exp()), 1 / 0.07, rel_tol=1e-5)
