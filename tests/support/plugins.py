"""What tests of the plugins share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mismatch.backbones.base import Backbone
from mismatch.runtime.tokenize import TokenBatch

__all__ = ["Evil", "copy_of", "embed", "levels"]


class Evil:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def embed(backbone: Backbone, batch: TokenBatch) -> torch.Tensor:
    """Embed texts without gradients."""
    with torch.no_grad():
        return backbone.encode_text(
            torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
        )


def levels(difference: NDArray[Any], std: tuple[float, float, float]) -> float:
    """Return the largest difference of pixel_values (3, S, S), in steps of 1/255."""
    return float((np.abs(difference) * 255 * np.array(std)[:, None, None]).max())


def copy_of(saved: Path, folder: Path) -> Path:
    """Copy a saved model to a new folder."""
    return Path(shutil.copytree(saved, folder))
