"""onnxruntime under the one pipeline: a bundle's graphs as an engine."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError, DeviceError, InputError, MismatchWarning
from mismatch.runtime.bundle import GRAPHS, MANIFEST, TOKENIZER, Manifest, read_manifest, seen_by
from mismatch.runtime.hardware import available_cpus
from mismatch.runtime.onnx_graph import (
    CAPTURE_ENV,
    OLDEST,
    VERSION,
    Array,
    BoundGraph,
    Graph,
    choose_provider,
)
from mismatch.runtime.tokenize import TokenBatch, Tokenizer

__all__ = ["OnnxEngine", "open_bundle"]

# tokens; a text that is padded to another length differs in the last digits, which int8's rounding
# blows up
LENGTH_STEP = 4
LONGEST_TRIAL = 512  # tokens; more would take seconds and gigabytes
TRIAL_TEXTS = ("a red shoe", "a")  # unlike lengths, so that one is padded


class OnnxEngine:
    """A bundle's graphs in onnxruntime. Thread-safe, as its sessions are."""

    def __init__(self, folder: Path, manifest: Manifest, provider: str, threads: int) -> None:
        """Open the graphs of a bundle. `provider` is cpu, cuda or tensorrt; `threads` are shared by
        the operators of one call.
        """
        self.image_spec = manifest.image_spec
        self.text_spec = manifest.text_spec
        self.score = manifest.score
        self.manifest = manifest
        head = manifest.head
        self.image_dim = head.image_dim
        self.image_width = head.image_width
        self.text_dim = head.text_dim
        self.text_width = head.text_width
        self.independent = provider == "cpu"
        self.length_step = LENGTH_STEP if self.independent or manifest.precision == "int8" else 1
        self.provider = provider
        self.threads = threads
        self.name = f"onnxruntime {provider}"
        self.fingerprint = _fingerprint(manifest, self.name)
        self._sees = seen_by(head)
        image, text, head_graph = (folder / name for name in GRAPHS)
        image_hash, text_hash, head_hash = (manifest.files.get(name) for name in GRAPHS)
        self._image: Graph
        self._text: Graph
        if provider == "cpu":
            # Each session has threads of its own, and those that spin slow the next one's: one pair
            # took 43 ms with three such pools, and 24 with one. onnxruntime's pool for the whole
            # process won nothing over that, and it forbids sessions of one's own next to it.
            self._image = Graph(image, provider, threads, output=self._sees[0], sha256=image_hash)
            self._text = Graph(
                text, provider, threads, output=self._sees[1], spinning=False, sha256=text_hash
            )
        else:
            capture = provider == "cuda" and os.environ.get(CAPTURE_ENV) == "1"
            self._image = BoundGraph(
                image, provider, threads, output=self._sees[0], capture=capture, sha256=image_hash
            )
            self._text = BoundGraph(
                text, provider, threads, output=self._sees[1], capture=capture, sha256=text_hash
            )
        # embeddings are on the CPU, where some are remembered
        self._head = Graph(head_graph, sha256=head_hash)
        self._try_all(folder)

    def _try_all(self, folder: Path) -> None:
        """Score one image with two texts, so that graphs, tokenizer and manifest that don't go
        together are refused here, and not at a user's first row.
        """
        widths = (self.image_width, self.text_width)
        if self.provider == "tensorrt":  # which builds an engine for each new shape, for minutes
            image, texts = (np.zeros((2, width), np.float32) for width in widths)
        else:
            side = self.image_spec.size
            image = self._image.try_once(
                (1, widths[0]), pixel_values=np.zeros((1, 3, side, side), np.float32)
            )
            tokens = self._trial_tokens(folder, TRIAL_TEXTS)
            texts = self._text.try_once(
                (2, widths[1]), input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            )
            self._try_longest(folder)
        self._head.try_once(
            (2,), **dict(zip(self._sees, (np.resize(image, (2, widths[0])), texts), strict=True))
        )

    def _try_longest(self, folder: Path) -> None:
        """Encode a text that fills the context, so that a graph of a shorter one is refused here,
        and not at a user's first long text.
        """
        length = self.text_spec.context_length
        if length > LONGEST_TRIAL or self.text_spec.padding == "context":
            return
        tokens = self._trial_tokens(folder, [" ".join(TRIAL_TEXTS[-1] * length)])
        try:
            self._text.try_once(
                (1, self.text_width),
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
            )
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; it had the {length} tokens that {folder / MANIFEST} says are its context"
            ) from error

    def _trial_tokens(self, folder: Path, texts: Sequence[str]) -> TokenBatch:
        try:
            tokenizer = Tokenizer(self.text_spec)
            ids, cut = tokenizer.encode(texts)
        except (InputError, CheckpointError) as error:
            raise CheckpointError(f"{folder / TOKENIZER}: {error}") from error
        if longest := max(
            (len(row) for row in ids if len(row) > self.text_spec.context_length), default=0
        ):
            raise CheckpointError(
                f"{folder / TOKENIZER} makes {longest} tokens, beyond the context of"
                f" {self.text_spec.context_length}; export the bundle again"
            )
        return tokenizer.pad(ids, cut, step=self.length_step)

    def encode_images(self, pixel_values: Array) -> Array:
        """Embed images: (B, 3, S, S) → (B, image_width)."""
        return self._shaped(
            self._image,
            (len(pixel_values), self.image_width),
            self._image(pixel_values=pixel_values),
        )

    def encode_texts(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Array:
        """Embed texts: (B, L), twice → (B, text_width)."""
        return self._shaped(
            self._text,
            (len(input_ids), self.text_width),
            self._text(input_ids=input_ids, attention_mask=attention_mask),
        )

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """Score pairs: (B, image_width), (B, text_width) → (B,)."""
        logits = self._head(
            **dict(zip(self._sees, (image_embeddings, text_embeddings), strict=True))
        )
        return self._shaped(self._head, (len(image_embeddings),), logits)

    def _shaped(self, graph: Graph, shape: tuple[int, ...], output: Array) -> Array:
        """Return the output, if it has a row for each that was given. An untrusted graph may lose
        some that come together.
        """
        graph.check_shape(output, shape)
        return output

    def describe(self) -> dict[str, Any]:
        """Return what runs and where."""
        return {
            "engine": self.name,
            "onnxruntime": VERSION,
            "precision": self.manifest.precision,
            "threads": self.threads,
            "backbone": f"{self.manifest.backbone['family']}:{self.manifest.backbone['model_id']}",
        }


def open_bundle(
    path: str | Path, *, provider: str = "auto", threads: int | None = None
) -> OnnxEngine:
    """Check a bundle and load its graphs. `provider` auto takes CUDA where this onnxruntime has it;
    `threads`: all CPUs by default.
    """
    if tuple(int(part) for part in VERSION.split(".")[:2]) < OLDEST:
        raise CheckpointError(
            f"onnxruntime {VERSION} gives wrong scores for bundles; upgrade it: pip install"
            f" 'onnxruntime>={'.'.join(map(str, OLDEST))}'"
        )
    folder = Path(path)
    manifest = read_manifest(folder)
    threads = threads or available_cpus()
    chosen = choose_provider(provider, manifest.precision)
    try:
        return OnnxEngine(folder, manifest, chosen, threads)
    except DeviceError as error:
        if provider != "auto":
            raise
        warnings.warn(
            f"onnxruntime lists CUDA but can't use it, so the CPU is taken ({error})",
            MismatchWarning,
            stacklevel=2,
        )
        return OnnxEngine(folder, manifest, "cpu", threads)


def _fingerprint(manifest: Manifest, engine: str) -> str:
    parts = [
        manifest.files,
        manifest.image_spec.to_dict(),
        manifest.text_spec.to_dict(),
        manifest.precision,
        engine,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
