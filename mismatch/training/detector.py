"""The detector: a backbone and a head, from tensors to logits; and the device it runs on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mismatch.backbones.base import Backbone
from mismatch.backbones.features import encode_image, encode_text
from mismatch.errors import DeviceError
from mismatch.specs import ColourProfile, LongText
from mismatch.training.head import Head

__all__ = ["Detector", "choose_device", "row_cosines", "see_colours", "tower_methods"]


class Detector(nn.Module):
    """Backbone and head as one module."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map (B, 3, S, S), (B, L), (B, L) → (B,) logits."""
        logits: Tensor = self.head(
            self.encode_image(pixel_values), self.encode_text(input_ids, attention_mask)
        )
        return logits

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Embed images: (B, 3, S, S) → (B, image_width), all that the head sees of an image."""
        return encode_image(self.backbone, pixel_values, self.head.spec.image_features)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed texts: (B, L), twice → (B, text_width), all that the head sees of a text."""
        return encode_text(self.backbone, input_ids, attention_mask, self.head.spec.text_features)


def see_colours(backbone: Backbone, profile: ColourProfile) -> None:
    """Let a backbone see pictures as it did, or one did, when it was trained."""
    if backbone.image_spec.colour_profile != profile:
        backbone.image_spec = replace(backbone.image_spec, colour_profile=profile)


def tower_methods(detector: Detector) -> list[str]:
    """Return the backbone's methods that the detector calls: `encode_image` and `encode_text`, or
    those that give the levels too where the head takes them.
    """
    head = detector.head.spec
    features = {"encode_image": head.image_features, "encode_text": head.text_features}
    return [f"{name}_and_levels" if "levels" in taken else name for name, taken in features.items()]


def row_cosines(
    images: Tensor, pieces: Tensor, row_of: Tensor, long_text: LongText
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Map images (B, D), their texts' pieces row after row (M, D), all of length 1, and the pieces'
    rows (M,) in 0..B → cosine (B,), text (B, D), and which piece that text is (B,) in 0..M. The
    last is None where no text is in pieces, or none alone is chosen.

    The text of a row in several pieces is the one with the lowest cosine, or under chunk-mean the
    mean of all. As the logit rises in a line with the cosine, these are the lowest and the mean
    logit. So does the runtime pool them.
    """
    chosen = None
    if len(pieces) != len(images):
        if long_text == "chunk-mean":
            pieces = _mean_piece(images, pieces, row_of)
        else:
            chosen = _worst_piece(images, pieces, row_of)
            pieces = pieces[chosen]
    return (images * pieces).sum(-1), pieces, chosen


def _worst_piece(images: Tensor, pieces: Tensor, row_of: Tensor) -> Tensor:
    """Map (B, D), (M, D), (M,) → (B,) in 0..M; a cosine that is no number counts as lowest, so that
    it shows.
    """
    counts = torch.bincount(row_of, minlength=len(images))  # (B,)
    starts = counts.cumsum(0) - counts  # (B,)
    cosine = (images.detach()[row_of] * pieces.detach()).sum(-1)  # (M,)
    table = cosine.new_full((len(images), int(counts.max())), float("inf"))  # (B, most pieces)
    table[row_of, torch.arange(len(row_of), device=row_of.device) - starts[row_of]] = cosine
    return starts + table.argmin(1)


def _mean_piece(images: Tensor, pieces: Tensor, row_of: Tensor) -> Tensor:
    """Map (B, D), (M, D), (M,) → (B, D), shorter than 1 where the pieces differ."""
    counts = torch.bincount(row_of, minlength=len(images))  # (B,)
    return torch.zeros_like(images).index_add(0, row_of, pieces) / counts[:, None]


def choose_device(name: str) -> torch.device:
    """Map auto, cpu, cuda, cuda:N or mps → a device that is there; DeviceError otherwise."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "tensorrt":
        raise DeviceError(
            "tensorrt runs bundles only: mismatch.export_onnx writes one; use cuda here"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"device {name!r} is unknown; auto, cpu, cuda, cuda:N or mps is needed"
        ) from None
    if not _is_there(device):
        raise DeviceError(
            f"device {name!r} was asked for, but this torch finds none; use `device='cpu'`, or"
            " install a torch built for it"
        )
    return device


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available())
