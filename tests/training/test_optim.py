"""The optimizer's groups, and the rate from the first step to the last."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mismatch.specs import HeadSpec
from mismatch.training.head import AdapterHead
from mismatch.training.optim import build_optimizer, rate_factor, rate_of, set_rates, trainable


class Parts(nn.Module):
    """A stand-in for a detector: a layer with a norm, and a real head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.head = AdapterHead(HeadSpec("adapter", 4, 4, 4, 8))


def names(module: nn.Module, group: dict[str, object]) -> set[str]:
    ids = {id(p) for p in group["params"]}  # type: ignore[attr-defined]
    return {name for name, p in module.named_parameters() if id(p) in ids}


@pytest.mark.parametrize("decay", [0.01, 0.0])
def test_only_matrices_decay_and_every_parameter_is_in_one_group(decay: float) -> None:
    module = Parts()
    optimizer = build_optimizer(module, backbone_rate=1e-5, head_rate=1e-3, weight_decay=decay)  # type: ignore[arg-type]
    found = {
        (group["part"], group["weight_decay"], group["lr"]): names(module, group)
        for group in optimizer.param_groups
    }
    if decay:
        assert found["backbone", 0.01, 1e-5] == {"backbone.0.weight"}
        assert found["backbone", 0.0, 1e-5] == {
            "backbone.0.bias",
            "backbone.1.weight",
            "backbone.1.bias",
        }
        assert found["head", 0.01, 1e-3] == {
            f"head.{side}_adapter.{i}.weight" for side in ("image", "text") for i in (2, 4)
        }
        assert {"head.log_scale", "head.bias", "head.log_temperature"} <= found["head", 0.0, 1e-3]
    every = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in module.parameters())


def test_a_frozen_backbone_has_no_group_and_no_rate() -> None:
    module = Parts()
    module.backbone.requires_grad_(False)
    optimizer = build_optimizer(module, backbone_rate=1e-5, head_rate=1e-3, weight_decay=0.01)  # type: ignore[arg-type]
    assert {group["part"] for group in optimizer.param_groups} == {"head"}
    assert (rate_of(optimizer, "backbone"), rate_of(optimizer, "head")) == (0.0, 1e-3)
    assert len(trainable(module)) == len(list(module.head.parameters()))


@pytest.mark.parametrize(
    ("step", "steps", "warmup", "factor"),
    [
        (0, 100, 0.1, 0.1),
        (9, 100, 0.1, 1.0),
        (10, 100, 0.1, 1.0),
        (55, 100, 0.1, 0.5),
        (99, 100, 0.1, 0.0003),
        (0, 100, 0.0, 1.0),
        (50, 100, 0.0, 0.5),
        (0, 1, 0.1, 1.0),
    ],
)
def test_rate_rises_in_a_line_and_falls_along_a_cosine(
    step: int, steps: int, warmup: float, factor: float
) -> None:
    assert rate_factor(step, steps, warmup) == pytest.approx(factor, abs=1e-4)


def test_set_rates_keeps_the_ratio_of_the_peaks() -> None:
    optimizer = build_optimizer(Parts(), backbone_rate=1e-5, head_rate=1e-3, weight_decay=0.01)  # type: ignore[arg-type]
    set_rates(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {5e-6, 5e-4}
    assert isinstance(optimizer, torch.optim.AdamW)


def test_factors_lower_a_backbones_rate_in_groups_of_their_own_the_highest_first() -> None:
    module: Any = Parts()
    weights = [p for p in module.backbone.parameters() if p.ndim > 1]
    optimizer = build_optimizer(
        module, backbone_rate=1e-4, head_rate=1e-3, weight_decay=0.01, factors={weights[0]: 0.25}
    )
    backbone = [group for group in optimizer.param_groups if group["part"] == "backbone"]
    assert [group["peak"] for group in backbone] == sorted(
        (group["peak"] for group in backbone), reverse=True
    )
    [lowered] = [group for group in backbone if group["peak"] == 2.5e-5]
    assert [id(p) for p in lowered["params"]] == [id(weights[0])]
    assert lowered["weight_decay"] == 0.01
    assert rate_of(optimizer, "backbone") == 1e-4
    assert {group["peak"] for group in optimizer.param_groups if group["part"] == "head"} == {1e-3}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(module.parameters())
    )
