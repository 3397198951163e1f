"""The head's file of a checkpoint: whether it is what mismatch.json says, and its tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from mismatch.backbones.base import Backbone
from mismatch.backbones.features import check_features
from mismatch.errors import CheckpointError, InputError
from mismatch.io.outputs import CHECKPOINT as META
from mismatch.io.reading import check_regular
from mismatch.io.retries import reason
from mismatch.specs import HeadSpec
from mismatch.training.detector import Detector
from mismatch.training.head import build_head

__all__ = ["check_head_size", "check_widths", "load_head"]


def check_widths(folder: Path, backbone: Backbone, head: HeadSpec) -> None:
    """Refuse a head that is of another backbone: CheckpointError."""
    if (backbone.image_dim, backbone.text_dim) != (head.image_dim, head.text_dim):
        widths = (
            f"{backbone.image_dim} and {backbone.text_dim}",
            f"{head.image_dim} and {head.text_dim}",
        )
        raise CheckpointError(
            f"{folder}: the backbone's embeddings are {widths[0]} wide, the head expects"
            f" {widths[1]}; copy the checkpoint again, whole"
        )
    try:
        check_features(backbone, head)
    except InputError as error:
        raise CheckpointError(
            f"{folder}: {error}; install the plugin in the version that trained it, or train again"
        ) from error


def check_head_size(path: Path, head: HeadSpec) -> None:
    """Raise CheckpointError where the file is too small for the head that was described: making
    that first could take all memory.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read: {reason(error)}; copy the checkpoint again, whole"
        ) from error
    with torch.device("meta"):
        needed = sum(
            parameter.numel() * parameter.element_size()
            for parameter in build_head(head).parameters()
        )
    if size < needed:
        raise CheckpointError(
            f"{path} can't be read as the head that {META} describes: it has {size:,} bytes, and"
            f" {needed:,} are needed"
        )


def load_head(detector: Detector, path: Path) -> None:
    """Load the head's tensors; CheckpointError where they don't fit."""
    try:
        detector.head.load_state_dict(load_file(path))
    # safetensors' own error has no base but Exception; a RuntimeError lists unlike names or shapes
    except Exception as error:
        raise CheckpointError(
            f"{path} can't be read as the head that {META} describes:"
            f" {' '.join(str(error).split())}"
        ) from error
