"""Adapters: where they go, that they learn, and that merging gives plain weights and touches
nothing that trains.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mismatch.backbones.base import Backbone
from mismatch.backbones.registry import load_backbone
from mismatch.errors import InputError, MissingExtraError
from mismatch.training.tuning.lora import LowRank, adapter_layers, add_adapters, merged
from mismatch.training.tuning.towers import Tower, find_towers
from tests.support.backbones import tiny


def adapted(family: str, **options: Any) -> tuple[Backbone, dict[str, int]]:
    """A backbone with adapters that have learnt something."""
    backbone = tiny(family)
    torch.manual_seed(0)
    counts = add_adapters(
        backbone, find_towers(backbone), **{"rank": 4, "alpha": 8.0, "dropout": 0.1} | options
    )
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return backbone.eval(), counts


@torch.no_grad()
def embeddings(backbone: Backbone) -> torch.Tensor:
    torch.manual_seed(1)
    size, ids = backbone.image_spec.size, torch.randint(1000, 2000, (3, 9))
    return torch.cat(
        [
            backbone.encode_image(torch.randn(3, 3, size, size)),
            backbone.encode_text(ids, torch.ones_like(ids)),
        ]
    )


def test_adapters_start_as_nothing_and_only_they_train(family: str) -> None:
    plain, backbone = tiny(family), tiny(family)
    counts = add_adapters(backbone, find_towers(backbone), rank=4, alpha=8.0, dropout=0.1)
    # query, key, value, output and an MLP's two; packed attention and an MLP's two
    per_block = {"hf-clip": 6, "openclip": 3}[family]
    assert counts == {"image": 4 * per_block, "text": 2 * per_block}
    assert len(adapter_layers(backbone)) == 6 * per_block
    torch.testing.assert_close(
        embeddings(backbone.eval()), embeddings(plain.eval()), rtol=0, atol=1e-5
    )
    # rank · (in + out)
    per_layer = 4 * sum(
        {"hf-clip": [256] * 4 + [640] * 2, "openclip": [512, 256] + [640] * 2}[family]
    )
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == 6 * per_layer
    frozen = {name: p for name, p in backbone.named_parameters() if not p.requires_grad}
    assert len(frozen) == len(list(plain.parameters()))


def test_every_adapter_gets_a_gradient(family: str) -> None:
    backbone, _ = adapted(family)
    torch.manual_seed(1)
    size, ids = backbone.image_spec.size, torch.randint(1000, 2000, (3, 9))
    (
        backbone.encode_image(torch.randn(3, 3, size, size)).sum()
        + backbone.encode_text(ids, torch.ones_like(ids)).sum()
    ).backward()
    assert [
        name
        for name, p in backbone.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum())
    ] == []


def test_merged_weights_are_plain_and_the_live_ones_untouched_to_the_bit(
    family: str, tmp_path: Path
) -> None:
    backbone, _ = adapted(family)
    plain = tiny(family)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    modules, live = dict(backbone.named_modules()), embeddings(backbone)
    with merged(backbone):
        assert backbone.state_dict().keys() == plain.state_dict().keys()
        assert [type(module) for module in backbone.modules()] == [
            type(module) for module in plain.modules()
        ]
        torch.testing.assert_close(embeddings(backbone), live, rtol=0, atol=2e-5)
        backbone.save_pretrained(tmp_path)
    assert dict(backbone.named_modules()) == modules
    after = backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(embeddings(backbone), live)
    loaded = load_backbone(family, str(tmp_path))
    torch.testing.assert_close(embeddings(loaded), live, rtol=0, atol=2e-5)
    assert (embeddings(loaded) - embeddings(plain)).abs().max() > 1e-2


def test_live_layers_stand_again_where_saving_fails() -> None:
    backbone, _ = adapted("openclip")
    modules = dict(backbone.named_modules())
    with pytest.raises(OSError, match="full"), merged(backbone):
        raise OSError("full")
    assert dict(backbone.named_modules()) == modules


class Padded(nn.Conv2d):
    """Pads by itself and is built in a way of its own, as a few libraries' convolutions are: a
    second one next to it would have another size.
    """

    def __init__(self, width: int, *, name: str) -> None:
        super().__init__(width, width, 3)
        self.name = name

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return super().forward(nn.functional.pad(input, (1, 1, 1, 1)))


class Doubled(nn.Linear):
    """Not what its class says."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return 2 * super().forward(input)


def test_a_linear_layer_that_computes_something_else_is_left_alone() -> None:
    layers = nn.Sequential(nn.Linear(3, 3), Doubled(3, 3))
    tower = Tower("image", [layers], dict.fromkeys(layers.parameters(), 0))
    assert add_adapters(layers, (tower,), rank=2, alpha=2.0, dropout=0.0) == {"image": 1}
    assert [hasattr(layer, "lora_A") for layer in layers] == [True, False]


def test_convolutions_of_every_kind_are_adapted_but_those_of_single_channels() -> None:
    convolutions = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1),
        Padded(4, name="own"),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 8, 1, stride=2, bias=False),
    )
    tower = Tower("image", [convolutions], dict.fromkeys(convolutions.parameters(), 0))
    assert add_adapters(convolutions, (tower,), rank=2, alpha=2.0, dropout=0.0) == {"image": 3}
    assert [hasattr(layer, "lora_A") for layer in convolutions] == [True, False, False, True]
    assert [hasattr(layer, "parametrizations") for layer in convolutions] == [
        False,
        True,
        False,
        False,
    ]
    for parameter in convolutions.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        live = convolutions(x)
        with merged(convolutions):
            torch.testing.assert_close(convolutions(x), live, rtol=1e-4, atol=1e-5)
            assert [type(layer) for layer in convolutions] == [
                nn.Conv2d,
                Padded,
                nn.Conv2d,
                nn.Conv2d,
            ]
        assert torch.equal(convolutions(x), live)


def test_a_backbone_with_nothing_to_adapt_is_refused_in_words() -> None:
    words = nn.Embedding(5, 3)
    tower = Tower("text", [], dict.fromkeys(words.parameters(), -1))
    with pytest.raises(
        InputError,
        match="`tune='lora'` finds no linear layer, convolution or attention in this backbone",
    ):
        add_adapters(words, (tower,), rank=2, alpha=2.0, dropout=0.0)


def test_without_peft_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        MissingExtraError,
        match=r"`tune='lora'` needs the extra \[train\]: pip install",
    ):
        adapted("hf-clip")


def test_low_rank_adds_a_scaled_product() -> None:
    low = LowRank(torch.zeros(3, 2), rank=1, alpha=4.0)
    with torch.no_grad():
        low.down.copy_(torch.tensor([[1.0, 2.0]]))
        low.up.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    assert low(torch.ones(3, 2)).tolist() == [[5.0, 9.0], [1.0, 1.0], [-3.0, -7.0]]
