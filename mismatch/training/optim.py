"""AdamW over a detector's parameters, and the rate that each step has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from mismatch.training.detector import Detector

__all__ = ["CLIP_NORM", "build_optimizer", "rate_factor", "rate_of", "set_rates", "trainable"]

CLIP_NORM = 1.0  # length that a step's gradient is cut down to
BETAS = (0.9, 0.98)  # CLIP's own
ALIKE: Mapping[nn.Parameter, float] = MappingProxyType({})


def build_optimizer(
    detector: Detector,
    *,
    backbone_rate: float,
    head_rate: float,
    weight_decay: float,
    factors: Mapping[nn.Parameter, float] = ALIKE,
) -> torch.optim.AdamW:
    """Put trainable parameters in groups: backbone or head, with decay or without (biases, norms
    and scalars). Each of `factors`, of the backbone's rate, 0..1, has groups of its own, the
    largest first.
    """
    groups: list[dict[str, Any]] = []
    for part, module, rate in (
        ("backbone", detector.backbone, backbone_rate),
        ("head", detector.head, head_rate),
    ):
        members: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for parameter in trainable(module):
            members.setdefault((factors.get(parameter, 1.0), parameter.ndim > 1), []).append(
                parameter
            )
        for (factor, decays), chosen in sorted(
            members.items(), key=lambda item: item[0], reverse=True
        ):
            peak = rate * factor
            groups.append(
                {
                    "params": chosen,
                    "lr": peak,
                    "peak": peak,
                    "weight_decay": weight_decay if decays else 0.0,
                    "part": part,
                }
            )
    fused = next(detector.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, betas=BETAS, fused=fused)


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Return the fraction of the peak rate at a step, 0..steps: up in a line over the first
    `warmup` of all steps, then down along half a cosine.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its peak rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_of(optimizer: torch.optim.Optimizer, part: str) -> float:
    """Return the highest rate in use for the backbone or the head; 0 for one that isn't trained."""
    return next(
        (float(group["lr"]) for group in optimizer.param_groups if group["part"] == part), 0.0
    )


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training changes."""
    return [p for p in module.parameters() if p.requires_grad]
