"""Model folders of pipelines before this one: a fine-tuned two-tower model in transformers' format
next to a head. No file says how the head was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mismatch.errors import CheckpointError
from mismatch.training.checkpoint import is_checkpoint
from mismatch.training.config import TrainConfig

__all__ = ["FAMILY", "check_not_above", "head_line", "is_legacy"]

# the family that reads transformers' format
FAMILY = str(TrainConfig.__dataclass_fields__["backbone"].default)
CONFIG = "config.json"
WEIGHTS = "pytorch_model.bin"
HEAD = "classification_head.pt"
NESTED = ("state_dict", "model_state_dict")  # under which some writers put the tensors
SHOWN = 4  # tensors of a head that a line names


def is_legacy(path: str | Path) -> bool:
    """Return whether the folder is laid out so: config.json with pytorch_model.bin or
    classification_head.pt, and not a checkpoint of ours.
    """
    folder = Path(path)
    return (
        (folder / CONFIG).is_file()
        and any((folder / name).is_file() for name in (WEIGHTS, HEAD))
        and not is_checkpoint(folder)
    )


def check_not_above(path: str | Path) -> None:
    """Raise CheckpointError for the folder of a whole run, with the names of the models in it."""
    nested = sorted(
        config_file.parent.name
        for config_file in Path(path).glob(f"*/{CONFIG}")
        if is_legacy(config_file.parent)
    )
    if nested and not is_legacy(path):
        raise CheckpointError(
            f"{path} is a folder of models; pass one of those in it: {', '.join(nested)}"
        )


def head_line(path: str | Path) -> str | None:
    """Return what is known of the folder's head, for people: its tensors but not what they are
    multiplied with; None where there is none. Nothing of it is run.
    """
    file = Path(path) / HEAD
    if not file.is_file():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - whatever is in the file, it is not needed
        return f"{file} is damaged or holds more than tensors, so nothing of it was read or run"
    tensors = _tensors(state)
    if not tensors:
        return f"{file} holds no tensors by name"
    named = [
        f"{name} {'×'.join(map(str, tensor.shape)) or '1'}" for name, tensor in tensors.items()
    ]
    listed = ", ".join(named[:SHOWN]) + (", …" if len(named) > SHOWN else "")
    return (
        f"{file} holds {listed}, but no file says how they are applied to the embeddings, so the"
        " head is not used"
    )


def _tensors(state: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of one inside another dict."""
    if not isinstance(state, Mapping):
        return {}
    inner = next((state[name] for name in NESTED if isinstance(state.get(name), Mapping)), state)
    return {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
