"""Towers with sample inputs, and how far apart two results lie."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.backbones.base import Backbone
from mismatch.errors import ContractError
from mismatch.io.text import article
from mismatch.runtime.preprocess import Preprocessor
from mismatch.runtime.tokenize import TokenBatch, Tokenizer
from mismatch.specs import TextSpec
from mismatch.testing import samples
from mismatch.testing.outcomes import fail, one_line

__all__ = [
    "Array",
    "ImageProbe",
    "LevelsProbe",
    "Probe",
    "TextLevelsProbe",
    "TextProbe",
    "asked",
    "copied",
    "distance",
    "pad_to_context",
    "pixels_of",
    "probes_of",
    "spread",
    "to_numpy",
    "unit",
]


Array = NDArray[np.float32]


class Probe(ABC):
    """A tower and sample inputs for it."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Tensor],
        declared: str,
        width: int,
        *inputs: NDArray[Any],
    ) -> None:
        """Take `inputs`, (B, …) each; `width` is what `declared`, an attribute of the backbone,
        says.
        """
        self.name = name
        self.function = function
        self.declared = declared
        self.width = width
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs[0])

    def __call__(self, rows: slice | list[int] = slice(None)) -> Tensor:
        """Embed the chosen rows, with their graph; ContractError where the tower fails."""
        return _called(self.name, self.function, *(array[rows] for array in self.inputs))

    def embed(self, rows: slice | list[int] = slice(None)) -> Array:
        """Embed the chosen rows, without a graph: (B, width)."""
        with torch.inference_mode():
            return to_numpy(self(rows))

    @property
    @abstractmethod
    def feeds(self) -> dict[str, NDArray[Any]]:
        """Return the inputs by the names that they have in a graph."""


class ImageProbe(Probe):
    """An image tower and its input (B, 3, S, S)."""

    def __init__(
        self, backbone: Backbone, pixel_values: Array, *, name: str = "encode_image"
    ) -> None:
        super().__init__(name, backbone.encode_image, "image_dim", backbone.image_dim, pixel_values)

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        return {"pixel_values": self.inputs[0]}


class LevelsProbe(ImageProbe):
    """`image_levels` and its input (B, 3, S, S)."""

    def __init__(self, backbone: Backbone, pixel_values: Array) -> None:
        super().__init__(backbone, pixel_values, name="image_levels")
        self.function = backbone.image_levels
        self.declared = "levels_dim"
        self.width = backbone.levels_dim


class TextProbe(Probe):
    """A text tower and its input, (B, L) twice."""

    def __init__(self, backbone: Backbone, batch: TokenBatch, *, name: str = "encode_text") -> None:
        super().__init__(
            name,
            backbone.encode_text,
            "text_dim",
            backbone.text_dim,
            batch.input_ids,
            batch.attention_mask,
        )

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        return {"input_ids": self.inputs[0], "attention_mask": self.inputs[1]}


class TextLevelsProbe(TextProbe):
    """`text_levels` and its input, (B, L) twice."""

    def __init__(self, backbone: Backbone, batch: TokenBatch) -> None:
        super().__init__(backbone, batch, name="text_levels")
        self.function = backbone.text_levels
        self.declared = "text_levels_dim"
        self.width = backbone.text_levels_dim


def probes_of(backbone: Backbone) -> tuple[ImageProbe, TextProbe]:
    """Return both towers on the seven plain samples."""
    return ImageProbe(backbone, pixels_of(backbone)), TextProbe(
        backbone, Tokenizer(backbone.text_spec)(samples.TEXTS)
    )


def pixels_of(backbone: Backbone, pictures: Any = None) -> Array:
    """Prepare images (default: the seven plain samples) → (N, 3, S, S)."""
    preprocess = Preprocessor(backbone.image_spec)
    # (N, 3, S, S)
    return np.stack(
        [preprocess(image) for image in (samples.images() if pictures is None else pictures)]
    )


def copied(backbone: Backbone) -> Backbone:
    """Return a deep copy; ContractError where there can't be one."""
    try:
        return copy.deepcopy(backbone)
    except Exception as error:
        raise ContractError(
            f"copy.deepcopy(backbone) fails with {one_line(error)}; keep no locks, open files or"
            " generators on it, or define __deepcopy__"
        ) from error


def pad_to_context(batch: TokenBatch, spec: TextSpec) -> TokenBatch:
    """Pad (B, L) → (B, context_length)."""
    more = ((0, 0), (0, spec.context_length - batch.input_ids.shape[1]))
    ids = np.pad(batch.input_ids, more, constant_values=spec.pad_id)
    mask = np.pad(batch.attention_mask, more)
    return TokenBatch(ids, mask, batch.truncated)


def _called(name: str, function: Callable[..., Tensor], *arrays: NDArray[Any]) -> Tensor:
    try:
        return function(*(torch.from_numpy(array) for array in arrays))
    except Exception as error:
        shapes = " and ".join(str(array.shape) for array in arrays)
        hint = f" ({_INDEX})" if isinstance(error, IndexError) else ""
        raise ContractError(
            f"{name} fails on inputs of {shapes} with {one_line(error)}{hint}"
        ) from error


def asked(name: str, function: Callable[[Any], Tensor | None], argument: object) -> Tensor | None:
    """Return what an `upstream_…` method of the plugin answers; ContractError where it fails or
    gives no tensor.
    """
    try:
        answer = function(argument)
    except Exception as error:
        raise ContractError(f"{name} fails with {one_line(error)}") from error
    if answer is not None and not isinstance(answer, Tensor):
        fail(
            f"{name} returns {article(type(answer).__name__)}; return a tensor, or None where there"
            " is nothing to compare with"
        )
    return answer


_INDEX = (
    "an id that its vocabulary lacks (is tokenizer_json that of the weights, and pad_id?), or more"
    " tokens than it has positions (is context_length?)"
)


def to_numpy(output: Tensor) -> Array:
    """Turn a tensor of any device and dtype into float32."""
    if not isinstance(output, Tensor):
        fail(f"a tower returns {article(type(output).__name__)}; return the tensor of embeddings")
    return np.asarray(output.detach().float().cpu().numpy())


def unit(embeddings: Array) -> Array:
    """Scale (B, D) → (B, D) of length 1."""
    return np.asarray(
        embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    )


def spread(embeddings: Array) -> float:
    """Return the largest distance of an embedding from the mean of all."""
    return float(np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1).max())


def distance(ours: Array, theirs: Array, *, among: Array | None = None) -> float:
    """Return the largest distance of two rows that should be equal, nan counted as far. It is a
    share of the spread of `among` (default: ours) plus a tenth of its length.
    """
    if ours.shape != theirs.shape:
        fail(f"embeddings of shape {theirs.shape} stand where {ours.shape} belong")
    every = ours if among is None else among
    scale = spread(every) + 0.1 * float(np.linalg.norm(every, axis=1).max())
    gap = float(np.linalg.norm(ours - theirs, axis=1).max()) / max(scale, 1e-12)
    return gap if gap == gap else float("inf")
