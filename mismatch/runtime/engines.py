"""What an engine is, and which one opens a model."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError, InputError, MissingExtraError
from mismatch.io.text import one_line
from mismatch.specs import ImageSpec, ScoreSpec, TextSpec

__all__ = ["Engine", "Provider", "is_bundle", "open_engine"]

Array = NDArray[np.float32]
SHOWN = 80  # characters of a path in an error
Provider = Literal["auto", "cpu", "cuda", "tensorrt"]


class Engine(Protocol):
    """Two towers and a head, loaded and ready: what torch and onnxruntime each provide."""

    name: str  # e.g. "onnxruntime cpu"
    image_spec: ImageSpec
    text_spec: TextSpec
    score: ScoreSpec
    image_dim: int  # an image embedding's
    # what the head sees of an image: the embedding and, behind it, further features if it takes any
    image_width: int
    text_dim: int
    text_width: int  # likewise what the head sees of a text
    # whether an embedding never depends on what else is in its batch, not in the last digit either
    independent: bool
    # 1, or, where a text's embedding depends on how long its batch is, the lengths that there are:
    # multiples of this, texts of one together
    length_step: int

    @property
    def fingerprint(self) -> str:
        """Return a hash, hex, of the towers' weights, specs, engine, precision and the features
        that the head takes.
        """

    def encode_images(self, pixel_values: Array) -> Array:
        """Embed images: (B, 3, S, S) → (B, image_width)."""

    def encode_texts(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Array:
        """Embed texts: (B, L), twice → (B, text_width)."""

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """Score pairs: (B, image_width), (B, text_width) → (B,)."""

    def describe(self) -> dict[str, Any]:
        """Return what runs and where, for people and logs."""


def open_engine(path: str | Path, provider: Provider, threads: int | None) -> Engine:
    """Open a bundle by onnxruntime, anything else by torch.

    CheckpointError for a model that is not there, MissingExtraError where torch is needed and not
    installed.
    """
    if not isinstance(provider, str):
        raise InputError(
            f"`provider` is a {type(provider).__name__}; one of {', '.join(get_args(Provider))} is"
            " needed",
            option="provider",
        )
    name = "onnx" if is_bundle(path) else "torch"
    [opener, *_] = entry_points(group="mismatch.engines", name=name) or [None]
    if opener is None:
        raise CheckpointError(f"no engine called {name} is installed; reinstall mismatch-clip")
    try:
        load_engine = opener.load()
    except ModuleNotFoundError as error:
        if name == "onnx":
            raise CheckpointError(
                f"bundle {path!s} can't be opened: {error.name} can't be imported: pip install"
                f" {error.name}"
            ) from error
        if name == "torch" and not Path(path).exists():
            raise CheckpointError(f"model folder {path!s} not found") from error
        raise MissingExtraError(f"{path!s} is not an ONNX bundle; opening it", "train") from error
    engine: Engine = load_engine(path, provider=provider, threads=threads)
    return engine


def is_bundle(path: str | Path) -> bool:
    """Return whether the folder is a bundle that `mismatch export-onnx` wrote. What is no file
    there is for its reader to refuse.
    """
    try:
        return (Path(path) / "manifest.json").exists()
    except (OSError, ValueError) as error:  # too long a name, or one with a NUL
        raise CheckpointError(
            f"model folder {str(path)[:SHOWN]!r} can't be looked at: {one_line(error)}"
        ) from error
