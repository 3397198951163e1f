"""AdamW over a detector's parameters, and the rate that each step has."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mismatch.training.detector import Detector

__all__ = ["CLIP_NORM", "build_optimizer", "rate_factor", "rate_of", "set_rates", "trainable"]

CLIP_NORM = 1.0  # length that a step's gradient is cut down to
BETAS = (0.9, 0.98)  # CLIP's own


def build_optimizer(detector: Detector, *, backbone_rate: float, head_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Trainable parameters in up to four groups: backbone or head, with decay or without (biases, norms and scalars)."""
    groups: list[dict[str, Any]] = []
    for part, module, rate in (("backbone", detector.backbone, backbone_rate), ("head", detector.head, head_rate)):
        for decays in (True, False):
            chosen = [p for p in trainable(module) if (p.ndim > 1) == decays]
            groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": weight_decay if decays else 0.0, "part": part})
    fused = next(detector.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, fused=fused)


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Fraction of the peak rate at a step, 0..steps: up in a line over the first `warmup` of all steps, then down along half a cosine."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its peak rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_of(optimizer: torch.optim.Optimizer, part: str) -> float:
    """The rate in use for the backbone or the head; 0 for one that isn't trained."""
    return next((float(group["lr"]) for group in optimizer.param_groups if group["part"] == part), 0.0)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [p for p in module.parameters() if p.requires_grad]
