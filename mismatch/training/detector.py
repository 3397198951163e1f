"""The detector: a backbone and a head, from tensors to logits; and the device it runs on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.errors import DeviceError
from mismatch.training.head import Head

__all__ = ["Detector", "choose_device"]


class Detector(nn.Module):
    """Backbone and head as one module."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 3, S, S), (B, L), (B, L) → (B,) logits."""
        logits: Tensor = self.head(self.backbone.encode_image(pixel_values), self.backbone.encode_text(input_ids, attention_mask))
        return logits


def choose_device(name: str) -> torch.device:
    """auto, cpu, cuda, cuda:N or mps → a device that is there; DeviceError otherwise."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r} is unknown; auto, cpu, cuda, cuda:N or mps is needed") from None
    if not _is_there(device):
        raise DeviceError(f"device {name!r} was asked for, but this torch finds none; use --device cpu, or install a torch built for it")
    return device


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available())
