"""torch under the one pipeline: a detector that answers to runtime.pipeline.Engine, and how to open
one.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mismatch.backbones.faults import plugin_errors
from mismatch.backbones.features import FEATURES_VERSION
from mismatch.backbones.registry import families, load_backbone, parse_reference, switched_off
from mismatch.backbones.structure import structure_digest
from mismatch.errors import BackboneError, CheckpointError, MachineError, MismatchWarning
from mismatch.specs import ScoreSpec
from mismatch.training.checkpoint import (
    CheckpointMeta,
    is_checkpoint,
    load_detector,
    meta_for,
    read_meta,
)
from mismatch.training.detector import Detector, choose_device, see_colours
from mismatch.training.head import build_head, cosine_threshold, head_spec_for
from mismatch.training.legacy import FAMILY, check_not_above, head_line, is_legacy

__all__ = ["TorchEngine", "open_backbone", "open_checkpoint"]

Array = NDArray[np.float32]


class TorchEngine:
    """A detector in fp32, in eval mode, on one device. Thread-safe, as
    inference changes nothing.
    """

    def __init__(
        self, detector: Detector, meta: CheckpointMeta, *, device: torch.device | None = None
    ) -> None:
        """Take a detector and its `meta`, which says where the weights come from and how logits
        become scores.
        """
        self.device = device or torch.device("cpu")
        self.detector = detector.float().to(self.device).eval()
        self.meta = meta
        self.score = meta.score
        backbone = detector.backbone
        self.image_spec = backbone.image_spec
        self.text_spec = backbone.text_spec
        self.image_dim = backbone.image_dim
        self.text_dim = backbone.text_dim
        self.image_width = detector.head.spec.image_width
        self.text_width = detector.head.spec.text_width
        self.length_step = 1
        self.independent = False
        self.name = f"torch {self.device.type}"

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash, hex, of the backbone's weights, layers and specs, the engine, its
        precision and the features taken. A row depends on these, and not on the head's weights.
        """
        return _fingerprint(self.detector, self.name)

    def encode_images(self, pixel_values: Array) -> Array:
        """Embed images: (B, 3, S, S) → (B, image_width)."""
        return self._run(self.detector.encode_image, pixel_values)

    def encode_texts(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Array:
        """Embed texts: (B, L), twice → (B, text_width)."""
        return self._run(self.detector.encode_text, input_ids, attention_mask)

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """Map (B, image_width), (B, text_width) → (B,)."""
        return self._run(self.detector.head, image_embeddings, text_embeddings)

    def common_images(self, image_embeddings: Array) -> Array:
        """Map (B, image_width) → (B, D), of length 1, in the space where the head compares."""
        return self._run(self.detector.head.embed_image, image_embeddings)

    def common_texts(self, text_embeddings: Array) -> Array:
        """Map (B, text_width) → (B, D), of length 1."""
        return self._run(self.detector.head.embed_text, text_embeddings)

    def logits_of_cosines(self, cosines: Array) -> Array:
        """Map any shape → the same: the logits of pairs by their cosine in that space."""
        return self._run(self.detector.head.logit, cosines)

    def after_fork(self) -> None:
        """Run on one thread from now on: a forked process has none of its parent's, and OpenMP
        would wait for them without end. MachineError for a model on a GPU.
        """
        if self.device.type != "cpu":
            raise MachineError(
                f"the model was loaded on {self.device.type} before this process was forked, and no"
                " GPU can be used here; load it in this process, or start processes by spawn"
            )
        torch.set_num_threads(1)

    def describe(self) -> dict[str, Any]:
        """Return what runs and where."""
        return {
            "engine": self.name,
            "torch": torch.__version__,
            "precision": "fp32",
            "threads": torch.get_num_threads(),
            "backbone": f"{self.meta.family}:{self.meta.model_id}",
        }

    def _run(self, module: Callable[..., Tensor], *arrays: NDArray[Any]) -> Array:
        with torch.inference_mode(), plugin_errors():
            output: Array = (
                module(
                    *(
                        torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
                        for array in arrays
                    )
                )
                .float()
                .cpu()
                .numpy()
            )
        return output


def _fingerprint(detector: Detector, engine: str) -> str:
    backbone = detector.backbone
    head = detector.head.spec
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    specs = [
        backbone.image_spec.to_dict(),
        backbone.text_spec.to_dict(),
        backbone.text_spec.tokenizer_json,
        (FEATURES_VERSION, head.image_features, head.text_features),
        structure_digest(backbone),
        engine,
        "fp32",
    ]
    digest.update(json.dumps(specs, sort_keys=True).encode())
    return digest.hexdigest()


def open_checkpoint(
    path: str | Path, *, provider: str = "auto", threads: int | None = None
) -> TorchEngine:
    """Open a checkpoint folder, one of an older pipeline, or a backbone by its name for zero-shot.

    `provider` auto, cpu or cuda; `threads`: torch's own choice by default.
    """
    if not is_checkpoint(path):
        return _open_other(str(path), provider, threads)
    device = _prepare(provider, threads)
    detector, meta = load_detector(path)
    return TorchEngine(detector, meta, device=device)


def _open_other(reference: str, provider: str, threads: int | None) -> TorchEngine:
    """Open a backbone by its name, or an older pipeline's folder. A folder that isn't a checkpoint
    and a name that nobody knows are refused in words.
    """
    if reference.partition(":")[0] in families():
        return open_backbone(reference, provider=provider, threads=threads)
    if is_legacy(reference):
        return _open_legacy(reference, provider, threads)
    if Path(reference).is_dir():
        check_not_above(reference)
        read_meta(Path(reference))  # raises and says what to do
    off = switched_off(reference.partition(":")[0])
    raise CheckpointError(
        f"model folder {reference} not found, and no installed backbone is called that{off}; pass a"
        " checkpoint, a bundle or FAMILY:MODEL"
    )


def _open_legacy(folder: str, provider: str, threads: int | None) -> TorchEngine:
    """Open the fine-tuned towers with their own cosine for a score, as that pipeline's threshold
    was one of similarity.
    """
    engine = open_backbone(f"{FAMILY}:{folder}", provider=provider, threads=threads)
    see_colours(engine.detector.backbone, "ignore")  # as that pipeline did
    engine.image_spec = engine.detector.backbone.image_spec
    if line := head_line(folder):
        scored = (
            "pairs are scored by the fine-tuned backbone's cosine, a match from"
            f" {engine.score.threshold_in_use:g}"
        )
        warnings.warn(
            f"{line}; {scored}; training with `tune='head'` and `model_name={folder}` adds a head"
            " in minutes",
            MismatchWarning,
            stacklevel=2,
        )
    return engine


def open_backbone(
    reference: str, *, provider: str = "auto", threads: int | None = None
) -> TorchEngine:
    """Open a raw backbone with the plain cosine for a score; BackboneError where its towers share
    no space.
    """
    device = _prepare(provider, threads)
    family, model_id = parse_reference(reference)
    with torch.random.fork_rng(devices=[]):  # weights may be drawn before they are read
        backbone = load_backbone(reference)
    if not backbone.shared_space:
        raise BackboneError(
            f"{reference} has no space that images and texts share, so it can't score untrained;"
            f" train a head first, with `backbone={family}`"
        )
    detector = Detector(backbone, build_head(head_spec_for(backbone, "zero-shot")))
    meta = meta_for(
        family,
        model_id,
        detector.head.spec,
        score=ScoreSpec("cosine", cosine_threshold(backbone)),
        commit=backbone.commit,
    )
    return TorchEngine(detector, meta, device=device)


def _prepare(provider: str, threads: int | None) -> torch.device:
    if threads is not None:
        torch.set_num_threads(threads)
    return choose_device(provider)
