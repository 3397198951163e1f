"""Losses against the formulas written out, and in batches where little or nothing is left to
compare.
"""

from __future__ import annotations

import math

import pytest
import torch

from mismatch.training.head import normalise
from mismatch.training.losses import binary_loss, contrastive_loss


def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return normalise(torch.randn(count, 5, generator=generator)), normalise(
        torch.randn(count, 5, generator=generator)
    )


def by_hand(
    images: torch.Tensor,
    texts: torch.Tensor,
    image_ids: list[int],
    text_ids: list[int],
    temperature: float,
) -> float:
    """The definition, one pair and one direction at a time."""
    total, counted = 0.0, 0
    for i in range(len(images)):
        others = [
            j
            for j in range(len(images))
            if image_ids[j] != image_ids[i] and text_ids[j] != text_ids[i]
        ]
        if not others:
            continue
        counted += 1
        for rows, columns in ((images, texts), (texts, images)):
            right = math.exp(temperature * (rows[i] @ columns[i]).item())
            wrong = sum(math.exp(temperature * (rows[i] @ columns[j]).item()) for j in others)
            total += -math.log(right / (right + wrong)) / 2
    return total / max(1, counted)


@pytest.mark.parametrize(
    ("image_ids", "text_ids"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 0, 1, 2], [0, 1, 2, 3]),  # a photo with two titles
        ([0, 1, 2, 3], [5, 4, 5, 5]),  # a title of three photos
        ([0, 0, 1, 2], [0, 1, 1, 2]),
        ([0, 0, 0, 1], [0, 1, 2, 0]),  # the first pair has no negative left
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 14.3])
def test_contrastive_is_its_definition_with_sharing_pairs_masked(
    image_ids: list[int], text_ids: list[int], temperature: float
) -> None:
    images, texts = pairs(4)
    loss = contrastive_loss(
        images, texts, torch.tensor(image_ids), torch.tensor(text_ids), torch.tensor(temperature)
    )
    assert loss.item() == pytest.approx(
        by_hand(images, texts, image_ids, text_ids, temperature), rel=1e-4
    )
    assert loss.item() > 0


def test_pairs_whose_texts_are_the_same_piece_are_no_negatives() -> None:
    """A dog's and a cat's text with the same small print, which is the worst piece of both: there
    is nothing to tell them apart by.
    """
    images = torch.eye(3)[:2]
    texts, ids = normalise(torch.tensor([[0.2, 0.2, 1.0]] * 2)), torch.arange(2)
    assert contrastive_loss(images, texts, ids, ids, torch.tensor(100.0)).item() == pytest.approx(
        math.log(2)
    )
    assert (
        contrastive_loss(images, texts, ids, ids, torch.tensor(100.0), torch.tensor([2, 2])).item()
        == 0.0
    )


@pytest.mark.parametrize("piece_ids", [[0, 1, 2, 3], [0, 0, 1, 2], [5, 4, 5, 5], [1, 1, 2, 2]])
def test_a_shared_piece_masks_as_a_shared_text_does(piece_ids: list[int]) -> None:
    images, texts = pairs(4)
    found = contrastive_loss(
        images,
        texts,
        torch.tensor([0, 1, 2, 0]),
        torch.arange(4),
        torch.tensor(14.3),
        torch.tensor(piece_ids),
    )
    assert found.item() == pytest.approx(
        by_hand(images, texts, [0, 1, 2, 0], piece_ids, 14.3), rel=1e-4
    )


def test_contrastive_without_sharing_is_clips_own() -> None:
    images, texts = pairs(6)
    logits, ids = 10 * images @ texts.T, torch.arange(6)
    clip = (
        torch.nn.functional.cross_entropy(logits, ids)
        + torch.nn.functional.cross_entropy(logits.T, ids)
    ) / 2
    torch.testing.assert_close(contrastive_loss(images, texts, ids, ids, torch.tensor(10.0)), clip)


@pytest.mark.parametrize(
    ("image_ids", "text_ids"),
    [([], []), ([0], [0]), ([0, 0, 0], [0, 1, 2]), ([0, 1, 2], [7, 7, 7])],
)
def test_contrastive_is_0_with_a_finite_gradient_where_no_pair_has_a_negative(
    image_ids: list[int], text_ids: list[int]
) -> None:
    images, texts = pairs(len(image_ids))
    images.requires_grad_()
    temperature = torch.tensor(14.3, requires_grad=True)
    loss = contrastive_loss(
        images,
        texts,
        torch.tensor(image_ids, dtype=torch.int64),
        torch.tensor(text_ids, dtype=torch.int64),
        temperature,
    )
    loss.backward()
    assert loss.item() == 0.0
    assert images.grad is not None
    assert torch.equal(images.grad, torch.zeros_like(images))


def test_contrastive_gradient_is_finite_where_only_some_pairs_have_negatives() -> None:
    images, texts = pairs(4)
    images.requires_grad_()
    contrastive_loss(
        images, texts, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0]), torch.tensor(14.3)
    ).backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().sum() > 0


def test_binary_is_mean_cross_entropy_and_stable_far_out() -> None:
    logits, labels = torch.tensor([0.0, 2.0, -200.0]), torch.tensor([1.0, 0.0, 1.0])
    assert binary_loss(logits, labels).item() == pytest.approx(
        (math.log(2) + math.log(1 + math.exp(2)) + 200) / 3
    )
