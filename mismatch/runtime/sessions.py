"""onnxruntime under the one pipeline: the only file that imports it."""

from __future__ import annotations

import hashlib
import json
import warnings
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mismatch.errors import CheckpointError, DeviceError, MismatchWarning
from mismatch.runtime.bundle import Manifest, read_bundle, seen_by
from mismatch.runtime.hardware import available_cpus, exact_int8_products

__all__ = ["Graph", "OnnxEngine", "open_bundle"]

Array = NDArray[np.float32]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
OPTIONS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}  # fp32 means fp32: TF32 would keep 10 bits of each factor
LENGTH_STEP = 4  # tokens; a text that is padded to another length differs in the last digits, which int8's rounding blows up
SLOWER = ["SkipLayerNormFusion"]  # onnxruntime's own rewriting that costs time on CPUs: its fused operator takes ten times a LayerNormalization
OLDEST = (1, 22)  # before it, MultiHeadAttention misread masks on CPUs: wrong scores, without an error


class Graph:
    """One ONNX file in onnxruntime. Thread-safe, as its session is."""

    def __init__(self, path: Path, provider: str = "cpu", threads: int = 1, *, output: str | None = None, spinning: bool = True) -> None:
        """`output`: which one `()` gives, by default the graph's only one; `spinning`: whether its threads keep a CPU busy while they wait for work.

        Raises CheckpointError for a file that onnxruntime can't load, DeviceError where the provider is not to be had.
        """
        self._session = _session(path, provider, threads, spinning)
        self._outputs = None if output is None else [output]
        self._inputs = {entry.name for entry in self._session.get_inputs()}

    def __call__(self, **feeds: NDArray[Any]) -> Array:
        """The output; inputs that the graph doesn't have (a causal tower needs no mask) are left out."""
        [output] = self._session.run(self._outputs, {name: value for name, value in feeds.items() if name in self._inputs})
        return np.asarray(output, dtype=np.float32)


class OnnxEngine:
    """A bundle's graphs in onnxruntime. Thread-safe, as its sessions are."""

    def __init__(self, folder: Path, manifest: Manifest, provider: str, threads: int) -> None:
        """`provider` is cpu or cuda; `threads` are shared by the operators of one call."""
        self.image_spec, self.text_spec = manifest.image_spec, manifest.text_spec
        self.score, self.manifest = manifest.score, manifest
        head = manifest.head
        self.image_dim, self.image_width = head.image_dim, head.image_width
        self.text_dim, self.text_width = head.text_dim, head.text_width
        self.independent = provider == "cpu"
        self.length_step = LENGTH_STEP if self.independent or manifest.precision == "int8" else 1
        self.provider, self.threads = provider, threads
        self.name = f"onnxruntime {provider}"
        self.fingerprint = _fingerprint(manifest, self.name)
        self._sees = seen_by(head)
        self._image = Graph(folder / "image_encoder.onnx", provider, threads, output=self._sees[0])
        # Each session has threads of its own, and those that spin slow the next one's: one pair took 43 ms with three such pools, and 24 with one.
        self._text = Graph(folder / "text_encoder.onnx", provider, threads, output=self._sees[1], spinning=False)
        self._head = Graph(folder / "head.onnx", provider)

    def encode_images(self, pixel_values: Array) -> Array:
        """(B, 3, S, S) → (B, image_width)."""
        return self._image(pixel_values=pixel_values)

    def encode_texts(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Array:
        """(B, L), twice → (B, text_width)."""
        return self._text(input_ids=input_ids, attention_mask=attention_mask)

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """(B, image_width), (B, text_width) → (B,)."""
        return self._head(**dict(zip(self._sees, (image_embeddings, text_embeddings), strict=True)))

    def describe(self) -> dict[str, Any]:
        """What runs and where."""
        return {
            "engine": self.name,
            "onnxruntime": ort.__version__,
            "precision": self.manifest.precision,
            "threads": self.threads,
            "backbone": f"{self.manifest.backbone['family']}:{self.manifest.backbone['model_id']}",
        }


def open_bundle(path: str | Path, *, provider: str = "auto", threads: int | None = None) -> OnnxEngine:
    """Check a bundle and load its graphs. `provider` auto takes CUDA where this onnxruntime has it; `threads`: all CPUs by default."""
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < OLDEST:
        raise CheckpointError(
            f"onnxruntime {ort.__version__} gives wrong scores for bundles; upgrade it: pip install 'onnxruntime>={'.'.join(map(str, OLDEST))}'"
        )
    folder = Path(path)
    manifest = read_bundle(folder)
    threads = threads or available_cpus()
    chosen = _choose_provider(provider, manifest.precision)
    try:
        return OnnxEngine(folder, manifest, chosen, threads)
    except DeviceError as error:
        if provider != "auto":
            raise
        warnings.warn(f"onnxruntime lists CUDA but can't use it, so the CPU is taken ({error})", MismatchWarning, stacklevel=2)
        return OnnxEngine(folder, manifest, "cpu", threads)


def _choose_provider(provider: str, precision: str) -> str:
    available = ort.get_available_providers()
    if precision == "int8":
        if provider == "cuda":
            raise DeviceError("this bundle is int8, whose operators run on CPUs only; use --provider cpu, or export in fp32 for CUDA")
        available = [PROVIDERS["cpu"]]
    if provider == "auto":
        return "cuda" if PROVIDERS["cuda"] in available else "cpu"
    if provider not in PROVIDERS:
        raise DeviceError(f"provider {provider!r} is unknown; auto, {' or '.join(PROVIDERS)} is needed")
    if PROVIDERS[provider] not in available:
        if len(packages := _packages()) > 1:
            both = " and ".join(packages)
            raise DeviceError(
                f"{both} are both installed and share one folder, so that one has overwritten the other: uninstall both, then install one of them"
            )
        raise DeviceError(
            f"provider {provider} was asked for, but this onnxruntime offers {', '.join(available)} only; "
            "for CUDA: pip uninstall onnxruntime, then pip install onnxruntime-gpu; or use --provider cpu"
        )
    return provider


def _packages() -> list[str]:
    """The distributions of onnxruntime that are installed; more than one spoil each other."""
    return [name for name in ("onnxruntime", "onnxruntime-gpu") if any(distributions(name=name))]


def _session(path: Path, provider: str, threads: int, spinning: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.log_severity_level = 3  # errors only; what went wrong is raised
    if not exact_int8_products():
        options.add_session_config_entry("session.x64quantprecision", "1")  # kernels that don't overflow, at several times the price
    try:
        disabled = SLOWER if provider == "cpu" else []
        session = ort.InferenceSession(path, options, providers=[(PROVIDERS[provider], OPTIONS[provider])], disabled_optimizers=disabled)
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise CheckpointError(f"onnxruntime {ort.__version__} can't load {path}: {error}") from error
    if (got := session.get_providers()[0]) != PROVIDERS[provider]:
        raise DeviceError(
            f"provider {provider} was asked for, but onnxruntime fell back to {got}: its CUDA libraries or driver don't load; use --provider cpu or repair them"
        )
    return session


def _fingerprint(manifest: Manifest, engine: str) -> str:
    parts = [manifest.files, manifest.image_spec.to_dict(), manifest.text_spec.to_dict(), manifest.precision, engine]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
