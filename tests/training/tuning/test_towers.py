"""Blocks and places of weights: found by running, in towers of every make."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.backbones.registry import load_backbone
from mismatch.training.tuning.towers import STEM, find_towers
from tests.support.backbones import ToyBackbone


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mlp = (
            nn.LayerNorm(width),
            nn.Sequential(
                nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(2 * width, width)
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))  # type: ignore[no-any-return]


class Forked(nn.Module):
    """Two branches of blocks side by side, which are no blocks of the tower."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([Block(width), Block(width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.branches[0](x) + self.branches[1](x)  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Blocks and what follows them."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks, self.down = (
            nn.Sequential(*(Block(width) for _ in range(depth))),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.blocks(x))  # type: ignore[no-any-return]


class StagedTower(nn.Module):
    """Stages whose weights lie in another order than they are used."""

    def __init__(self, middle: nn.Module | None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))  # used last
        self.unused = nn.Linear(2, 2)
        self.stages = nn.ModuleList([Stage(6, 2), Stage(6, 3)])
        self.middle = middle or nn.Identity()
        self.stem = nn.Linear(3, 6)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.stages[0](self.stem(pixel_values.mean((2, 3))))
        return self.stages[1](self.middle(x)) * self.scale  # type: ignore[no-any-return]


def staged(middle: nn.Module | None = None) -> tuple[Backbone, StagedTower]:
    """A backbone whose text tower has no blocks, and its image tower."""
    tower = StagedTower(middle)
    return ToyBackbone(tower, (6, 5)), tower


def short_names(backbone: Backbone) -> dict[nn.Parameter, str]:
    """The name of each weight in its tower."""
    named = backbone.named_parameters()
    return {parameter: name.removeprefix("image_tower.") for name, parameter in named}


def places(backbone: Backbone, tower: int) -> dict[str, int]:
    names = short_names(backbone)
    return {
        names[parameter]: place for parameter, place in find_towers(backbone)[tower].places.items()
    }


def test_blocks_of_stages_are_found_in_order_and_weights_belong_where_they_are_first_used() -> None:
    backbone, tower = staged()
    image, text = find_towers(backbone)
    assert image.blocks == [*tower.stages[0].blocks, *tower.stages[1].blocks]  # type: ignore[misc]
    found = places(backbone, 0)
    assert {
        found[f"stages.0.blocks.1.{name}"] for name in ("norm.weight", "mlp.0.weight", "mlp.3.bias")
    } == {1}
    expected = {
        "stem.weight": STEM,
        "stages.0.down.weight": 1,
        "stages.1.blocks.0.norm.bias": 2,
        "stages.1.down.bias": 4,
        "scale": 4,
    }
    assert {name: found[name] for name in expected} == expected
    assert not [name for name in found if name.startswith(("unused", "words"))]
    assert (text.depth, places(backbone, 1)) == (0, {"words.weight": STEM})


def test_from_a_block_on_means_that_block_and_what_follows() -> None:
    backbone, _ = staged()
    image, _ = find_towers(backbone)
    names = short_names(backbone)
    last = {names[parameter] for parameter in image.from_block(4)}
    assert {name.rpartition(".")[0] for name in last} == {
        "",
        *(
            f"stages.1.{part}"
            for part in ("blocks.2.norm", "blocks.2.mlp.0", "blocks.2.mlp.3", "down")
        ),
    }
    assert image.from_block(STEM) == set(image.places)


def test_branches_side_by_side_are_no_blocks() -> None:
    backbone, tower = staged(Forked(6))
    image, _ = find_towers(backbone)
    assert image.blocks == [*tower.stages[0].blocks, *tower.stages[1].blocks]  # type: ignore[misc]
    assert {place for name, place in places(backbone, 0).items() if name.startswith("middle.")} == {
        1
    }


def test_a_backbone_may_name_its_blocks_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, tower = staged()
    monkeypatch.setattr(backbone, "blocks", lambda: [tower.stages[1], tower.stages[0]])
    image, _ = find_towers(backbone)
    assert image.blocks == list(tower.stages)
    assert places(backbone, 0)["stages.0.down.weight"] == 0


def test_finding_them_leaves_the_backbone_as_it_was() -> None:
    backbone, tower = staged()
    backbone.train()
    tower.stages[0].eval()
    tower.stem.requires_grad_(False)
    before = (
        [module.training for module in backbone.modules()],
        [p.requires_grad for p in backbone.parameters()],
    )
    state = torch.random.get_rng_state()
    find_towers(backbone)
    assert (
        [module.training for module in backbone.modules()],
        [p.requires_grad for p in backbone.parameters()],
    ) == before
    assert [p.grad for p in backbone.parameters()] == [None] * len(list(backbone.parameters()))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not [module for module in backbone.modules() if module._forward_pre_hooks]


def test_the_tiny_models_have_four_and_two_blocks(family: str) -> None:
    backbone = load_backbone(f"{family}:tiny")
    image, text = find_towers(backbone)
    assert (image.name, image.depth, text.name, text.depth) == ("image", 4, "text", 2)
    names = {parameter: name for name, parameter in backbone.named_parameters()}
    after = {
        names[p]
        for p in image.from_block(3) | text.from_block(1)
        if not any(
            p is q for block in (image.blocks[3], text.blocks[1]) for q in block.parameters()
        )
    }
    stem = {
        names[p] for tower in (image, text) for p, place in tower.places.items() if place == STEM
    }
    clip = {
        "hf-clip": (
            "vision_model.post_layernorm",
            "visual_projection",
            "text_model.final_layer_norm",
            "text_projection",
        )
    }
    clip |= {"openclip": ("visual.ln_post", "visual.proj", "ln_final", "text_projection")}
    assert {
        name.removeprefix("model.").removesuffix(".weight").removesuffix(".bias") for name in after
    } == set(clip[family])
    assert len(stem) == 7
    assert set(names.values()) - {names[p] for tower in (image, text) for p in tower.places} == {
        "model.logit_scale"
    }
