"""Heads: where they start, what they compute, and which widths they take."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mismatch.errors import InputError
from mismatch.specs import HeadSpec
from mismatch.training.head import (
    AdapterHead,
    ByteDropout,
    CosineHead,
    Standardise,
    ZeroShotHead,
    build_head,
    head_options,
    head_spec_for,
    normalise,
)


def known(**facts: Any) -> Any:
    """What a backbone says of itself."""
    common = {
        "image_dim": 12,
        "text_dim": 12,
        "shared_space": True,
        "logit_scale": 100.0,
        "logit_bias": None,
        "zero_shot_threshold": 0.25,
    }
    return SimpleNamespace(**common | facts, levels_dim=0, text_levels_dim=0)


def embeddings(
    rows: int = 40, image_dim: int = 12, text_dim: int = 12
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, image_dim, generator=generator) * 5, torch.randn(
        rows, text_dim, generator=generator
    )


@pytest.mark.parametrize("kind", ["adapter", "cosine"])
def test_a_shared_space_starts_with_zero_shots_cosine_scale_and_threshold(kind: str) -> None:
    images, texts = embeddings()
    head = build_head(head_spec_for(known(), kind), known()).eval()
    cosine = torch.cosine_similarity(images, texts)
    torch.testing.assert_close(head(images, texts), 100 * (cosine - 0.25), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("facts", "scale", "bias"),
    [
        ({}, 100.0, -25.0),
        # SigLIP states a bias instead
        ({"logit_scale": 117.0, "logit_bias": -12.9, "zero_shot_threshold": None}, 117.0, -12.9),
        # CLIP's 0.25 where nothing is stated
        ({"logit_scale": 14.0, "zero_shot_threshold": None}, 14.0, -3.5),
        ({"logit_scale": None, "zero_shot_threshold": 0.5}, 1 / 0.07, -0.5 / 0.07),
        ({"shared_space": False}, 1 / 0.07, 0.0),
    ],
)
def test_scale_and_bias_start_from_what_the_backbone_knows(
    facts: dict[str, Any], scale: float, bias: float
) -> None:
    head = build_head(head_spec_for(known(**facts), "cosine"), known(**facts))
    assert isinstance(head, CosineHead)
    assert head.log_scale.exp().item() == pytest.approx(scale, rel=1e-5)
    assert head.bias.item() == pytest.approx(bias, rel=1e-5)
    assert head.log_temperature.exp().item() == pytest.approx(scale, rel=1e-5)


def test_zero_shot_is_the_plain_cosine_without_parameters() -> None:
    images, texts = embeddings()
    head = build_head(head_spec_for(known(), "zero-shot"), known())
    assert list(head.parameters()) == []
    torch.testing.assert_close(head(images, texts), torch.cosine_similarity(images, texts))


@pytest.mark.parametrize(
    ("image_dim", "text_dim", "asked", "common", "residual"),
    [
        (12, 12, None, 12, True),
        (12, 12, 20, 20, False),
        (12, 7, None, 256, False),
        (12, 7, 9, 9, False),
    ],
)
def test_adapter_compares_in_a_common_width(
    image_dim: int, text_dim: int, asked: int | None, common: int, residual: bool
) -> None:
    backbone = known(image_dim=image_dim, text_dim=text_dim, shared_space=False)
    spec = head_spec_for(backbone, "adapter", common_dim=asked, hidden_dim=16)
    head = build_head(spec, backbone).eval()
    images, texts = embeddings(image_dim=image_dim, text_dim=text_dim)
    assert isinstance(head, AdapterHead)
    assert (spec.common_dim, head.residual) == (common, residual)
    assert head.embed_image(images).shape == (40, common)
    assert head.embed_image(images).norm(dim=-1).sub(1).abs().max() < 1e-5
    assert head(images, texts).shape == (40,)
    assert head(images, texts).std() > 0.1  # rows differ


@pytest.mark.parametrize("kind", ["cosine", "zero-shot"])
def test_unlike_widths_are_refused_by_heads_that_only_compare(kind: str) -> None:
    with pytest.raises(
        InputError,
        match=(
            rf"the {kind} head needs equal widths, but images are 12 wide and texts 7; use the"
            r" adapter"
        ),
    ):
        head_spec_for(known(text_dim=7), kind)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(
        InputError, match="head 'mlp' is unknown; one of adapter, cosine, zero-shot is needed"
    ):
        head_spec_for(known(), "mlp")


def test_dropout_and_layer_norm_come_before_each_adapter_and_dropout_only_in_training() -> None:
    head = AdapterHead(HeadSpec("adapter", 12, 7, 9, 16, dropout=0.5))
    for adapter in (head.image_adapter, head.text_adapter):
        assert [type(layer).__name__ for layer in adapter.children()] == [
            "LayerNorm",
            "ByteDropout",
            "Linear",
            "GELU",
            "Linear",
        ]
    images, texts = embeddings(text_dim=7)
    assert not torch.equal(head.train()(images, texts), head(images, texts))
    assert torch.equal(head.eval()(images, texts), head(images, texts))


@pytest.mark.parametrize("kind", [ZeroShotHead, CosineHead, AdapterHead])
def test_an_embedding_of_zeros_gives_a_finite_logit_and_gradient(
    kind: type[ZeroShotHead] | type[AdapterHead],
) -> None:
    images, texts = torch.zeros(2, 12, requires_grad=True), torch.randn(2, 12)
    logits = kind(HeadSpec("adapter", 12, 12, 12, 16)).eval()(images, texts)
    logits.sum().backward()
    assert images.grad is not None
    assert torch.isfinite(logits).all()
    assert torch.isfinite(images.grad).all()


def test_normalise_keeps_direction_and_gives_length_1() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]])
    torch.testing.assert_close(
        normalise(x), torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]), rtol=1e-5, atol=1e-6
    )


def test_start_puts_logit_0_at_the_threshold() -> None:
    head = CosineHead(HeadSpec("cosine", 4, 4))
    head.start(20.0, 0.3)
    assert head.logit(torch.tensor([0.3, 0.4])).tolist() == pytest.approx([0.0, 2.0], abs=1e-5)
    assert head.log_scale.item() == pytest.approx(math.log(20))


@pytest.mark.parametrize(("image_dim", "text_dim", "residual"), [(12, 12, True), (12, 7, False)])
def test_members_vote_by_their_mean_cosine(image_dim: int, text_dim: int, residual: bool) -> None:
    torch.manual_seed(4)
    head = build_head(
        head_spec_for(
            known(image_dim=image_dim, text_dim=text_dim), "adapter", members=3, dropout=0.0
        )
    ).eval()
    assert isinstance(head, AdapterHead)
    assert head.residual == residual
    for parameter in head.parameters():
        # residual ones start with zeros
        torch.nn.init.normal_(parameter, std=0.5) if parameter.ndim > 1 else None
    images, texts = (side.detach() for side in embeddings(image_dim=image_dim, text_dim=text_dim))
    with torch.no_grad():
        u, v = head.embed_image(images), head.embed_text(texts)
        parts = list(zip(head.members(u), head.members(v), strict=True))
        cosines = torch.stack([(a * b).sum(-1) for a, b in parts])  # (3, 40)
    torch.testing.assert_close(torch.stack([a.norm(dim=-1) for a, _ in parts]), torch.ones(3, 40))
    torch.testing.assert_close((u * v).sum(-1), cosines.mean(0))
    assert float((cosines[0] - cosines[1]).abs().max()) > 0.05  # they differ


def test_columns_are_standardised_by_the_rows_that_were_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 3, generator=generator) * torch.tensor(
        [1.0, 100.0, 0.0]
    ) + torch.tensor([0.5, -3.0, 2.0])
    norm = Standardise(3)
    norm.fit(rows)
    out = norm(rows)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(out[:, :2].std(0), torch.ones(2), atol=0.1, rtol=0)
    assert float(norm(torch.tensor([[1e9, -1e9, 2.0]])).abs().max()) == Standardise.LIMIT


def test_an_adapter_head_is_described_by_the_options_that_make_it() -> None:
    spec = head_spec_for(
        known(), "adapter", hidden_dim=9, members=2, dropout=0.25, features=("colour",)
    )
    assert head_options(spec) == {
        "head": "adapter",
        "head_dim": 12,
        "head_hidden": 9,
        "head_members": 2,
        "features": "colour",
        "dropout": 0.25,
    }
    assert head_options(head_spec_for(known(), "cosine"))["features"] == "none"


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    # a number of elements that 8 doesn't divide
    dropout, ones = ByteDropout(p), torch.ones(300, 501)
    out = dropout(ones)
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.02)
    assert len(out.unique()) == 2
    assert not torch.equal(out, dropout(ones))
    torch.manual_seed(0)
    assert torch.equal(out, dropout(ones))  # the seed decides
    assert torch.equal(dropout.eval()(ones), ones)
