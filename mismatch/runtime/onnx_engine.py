"""onnxruntime under the one pipeline: the only file that imports it."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError, DeviceError, InputError, MismatchWarning
from mismatch.io.retries import shortage_in
from mismatch.runtime.bundle import GRAPHS, MANIFEST, TOKENIZER, Manifest, read_manifest, seen_by
from mismatch.runtime.graph_file import read_graph
from mismatch.runtime.hardware import available_cpus, exact_int8_products
from mismatch.runtime.libraries import send_nothing
from mismatch.runtime.time_limit import OverdueError, within
from mismatch.runtime.tokenize import TokenBatch, Tokenizer

send_nothing("onnxruntime")
import onnxruntime as ort  # noqa: E402 - it reads its switch as it is loaded

__all__ = ["BoundGraph", "Graph", "OnnxEngine", "open_bundle"]

Array = NDArray[np.float32]
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {"use_tf32": "0"},  # fp32 means fp32: TF32 would keep 10 bits of each factor
    # an engine takes minutes to build
    "tensorrt": {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"},
}
# 1: with CUDA, what runs on a shape is recorded once and replayed
CAPTURE_ENV = "MISMATCH_CUDA_GRAPHS"
# tokens; a text that is padded to another length differs in the last digits, which int8's rounding
# blows up
LENGTH_STEP = 4
# onnxruntime's own rewriting that costs time on CPUs: its fused operator takes ten times a
# LayerNormalization
SLOWER = ["SkipLayerNormFusion"]
# seconds that a graph may take to load and to run once, and more for each GiB of it: ten times the
# usual
LOADING = (60.0, 120.0)
TRYING = (10.0, 60.0)
LONGEST_TRIAL = 512  # tokens; more would take seconds and gigabytes
TRIAL_TEXTS = ("a red shoe", "a")  # of unlike lengths, so that one is padded
# before it, MultiHeadAttention misread masks on CPUs: wrong scores, without an error
OLDEST = (1, 22)


class Graph:
    """One ONNX file in onnxruntime. Thread-safe, as its session is."""

    def __init__(
        self,
        path: Path,
        provider: str = "cpu",
        threads: int = 1,
        *,
        output: str | None = None,
        spinning: bool = True,
        capture: bool = False,
        sha256: str | None = None,
    ) -> None:
        """`output`: which one `()` gives, by default the graph's only one; `spinning`: whether its
        threads keep a CPU busy while they wait for work; `capture`: as a CUDA graph; `sha256`: that
        the file must have.

        Raises CheckpointError for a file that onnxruntime can't load, DeviceError where the
        provider is not to be had.
        """
        self._path = path
        self._provider = provider
        self._session, self._size = _session(path, provider, threads, spinning, capture, sha256)
        self._output = output or next((entry.name for entry in self._session.get_outputs()), "")
        self._inputs = {entry.name for entry in self._session.get_inputs()}

    def __call__(self, **feeds: NDArray[Any]) -> Array:
        """The output; inputs that the graph doesn't have (a causal tower needs no mask) are left
        out. CheckpointError where the graph can't take them.
        """
        try:
            return self._run({name: value for name, value in feeds.items() if name in self._inputs})
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            if shortage := shortage_in(error):
                raise shortage from error
            raise self._failure(error) from error

    def try_once(self, shape: tuple[int, ...], **feeds: NDArray[Any]) -> Array:
        """Run once, within a time, and compare the output's shape; CheckpointError for another one,
        for a graph that fails or doesn't end.
        """
        options = ort.RunOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.add_run_config_entry("gpu_graph_id", "-1")  # never recorded

        def run() -> Array:
            [output] = self._session.run(
                [self._output],
                {name: value for name, value in feeds.items() if name in self._inputs},
                options,
            )
            array = np.asarray(output)
            if array.dtype.kind != "f":
                raise TypeError(f"{self._output} is of type {array.dtype}, and float32 is needed")
            return array.astype(np.float32)

        def stop() -> None:
            options.terminate = True

        try:
            output = within(_seconds(TRYING, self._size), run, stop)
        except OverdueError as error:
            raise CheckpointError(
                f"{self._path} does not end: {error}; it is no graph of a bundle; export the bundle"
                " again"
            ) from error
        except Exception as error:
            if shortage := shortage_in(error):
                raise shortage from error
            raise self._failure(error) from error
        self.check_shape(output, shape)
        return output

    def check_shape(self, output: Array, shape: tuple[int, ...]) -> None:
        """CheckpointError for an output of another shape."""
        if output.shape != shape:
            raise CheckpointError(
                f"{self._path} gives {self._output} of shape {output.shape}, and the manifest needs"
                f" {shape}; export the bundle again"
            )

    def _failure(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self._path} can't be run as the graph that the manifest describes:"
            f" {' '.join(str(error).split())}; export the bundle again"
        )

    def _run(self, feeds: dict[str, NDArray[Any]]) -> Array:
        [output] = self._session.run([self._output], feeds)
        return np.asarray(output, dtype=np.float32)


class BoundGraph(Graph):
    """A graph on a GPU, whose inputs and output keep their places in its memory: one set a shape,
    batches rounded up to powers of two, so that there are few.

    With `capture` the GPU's work on a shape is recorded at its second call and replayed from then
    on. onnxruntime has no pinned buffers for Python.
    """

    def __init__(
        self,
        path: Path,
        provider: str,
        threads: int = 1,
        *,
        output: str | None = None,
        device: str = "cuda",
        capture: bool = False,
        sha256: str | None = None,
    ) -> None:
        """`device`: where the buffers lie, cuda or cpu."""
        super().__init__(path, provider, threads, output=output, capture=capture, sha256=sha256)
        self._device = device
        self._capture = capture
        self._buffers: dict[tuple[Any, ...], _Buffers] = {}
        self._lock = Lock()  # buffers are written in place: one call at a time

    def _run(self, feeds: dict[str, NDArray[Any]]) -> Array:
        rows = len(next(iter(feeds.values())))
        padded = {name: np.ascontiguousarray(_pad(value)) for name, value in feeds.items()}
        shapes = tuple((name, value.shape) for name, value in sorted(padded.items()))
        with self._lock:
            if shapes not in self._buffers:
                self._buffers[shapes] = _Buffers(
                    self._session,
                    padded,
                    self._output,
                    self._device,
                    len(self._buffers) if self._capture else -1,
                )
            return self._buffers[shapes](padded)[:rows]


class _Buffers:
    """Inputs and output of one shape on a device."""

    def __init__(
        self,
        session: ort.InferenceSession,
        feeds: dict[str, NDArray[Any]],
        output: str,
        device: str,
        number: int,
    ) -> None:
        """`number`: of the CUDA graph, -1 for none."""
        self._session = session
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))
        self._inputs = {
            name: ort.OrtValue.ortvalue_from_numpy(value, device, 0)
            for name, value in feeds.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        width = next(entry.shape[1] for entry in session.get_outputs() if entry.name == output)
        rows = len(next(iter(feeds.values())))
        self._result = ort.OrtValue.ortvalue_from_shape_and_type(
            (rows, width), np.float32, device, 0
        )
        self._binding.bind_ortvalue_output(output, self._result)

    def __call__(self, feeds: dict[str, NDArray[Any]]) -> Array:
        for name, value in feeds.items():
            self._inputs[name].update_inplace(value)
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._result.numpy(), dtype=np.float32)


def _pad(rows: NDArray[Any]) -> NDArray[Any]:
    """The batch filled up to a power of two with its last row."""
    missing = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


class OnnxEngine:
    """A bundle's graphs in onnxruntime. Thread-safe, as its sessions are."""

    def __init__(self, folder: Path, manifest: Manifest, provider: str, threads: int) -> None:
        """`provider` is cpu, cuda or tensorrt; `threads` are shared by the operators
        of one call.
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
            # process won nothing over that, and it forbids sessions of one's own beside it.
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
        """(B, 3, S, S) → (B, image_width)."""
        return self._shaped(
            self._image,
            (len(pixel_values), self.image_width),
            self._image(pixel_values=pixel_values),
        )

    def encode_texts(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Array:
        """(B, L), twice → (B, text_width)."""
        return self._shaped(
            self._text,
            (len(input_ids), self.text_width),
            self._text(input_ids=input_ids, attention_mask=attention_mask),
        )

    def logits(self, image_embeddings: Array, text_embeddings: Array) -> Array:
        """(B, image_width), (B, text_width) → (B,)."""
        logits = self._head(
            **dict(zip(self._sees, (image_embeddings, text_embeddings), strict=True))
        )
        return self._shaped(self._head, (len(image_embeddings),), logits)

    def _shaped(self, graph: Graph, shape: tuple[int, ...], output: Array) -> Array:
        """The output, if it has a row for each that was given: a stranger's graph may lose some
        that come together.
        """
        graph.check_shape(output, shape)
        return output

    def describe(self) -> dict[str, Any]:
        """What runs and where."""
        return {
            "engine": self.name,
            "onnxruntime": ort.__version__,
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
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < OLDEST:
        raise CheckpointError(
            f"onnxruntime {ort.__version__} gives wrong scores for bundles; upgrade it: pip install"
            f" 'onnxruntime>={'.'.join(map(str, OLDEST))}'"
        )
    folder = Path(path)
    manifest = read_manifest(folder)
    threads = threads or available_cpus()
    chosen = _choose_provider(provider, manifest.precision)
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


def _choose_provider(provider: str, precision: str) -> str:
    available = ort.get_available_providers()
    if precision == "int8":
        if provider in ("cuda", "tensorrt"):
            raise DeviceError(
                "this bundle is int8, whose operators run on CPUs only; use `provider='cpu'`, or"
                " export in fp16 or fp32 for GPUs"
            )
        available = [PROVIDERS["cpu"]]
    if provider == "auto":
        provider = "cuda" if PROVIDERS["cuda"] in available else "cpu"
    if provider not in PROVIDERS:
        raise DeviceError(
            f"provider {provider!r} is unknown; auto, {' or '.join(PROVIDERS)} is needed"
        )
    if provider == "cpu" and precision == "fp16":
        warnings.warn(
            "this bundle is fp16, for GPUs; a CPU computes it in fp32, slower than a bundle in fp32"
            " or int8",
            MismatchWarning,
            stacklevel=3,
        )
    if PROVIDERS[provider] not in available:
        if len(packages := _packages()) > 1:
            both = " and ".join(packages)
            raise DeviceError(
                f"{both} are both installed and share one folder, so that one has overwritten the"
                " other: uninstall both, then install one of them"
            )
        raise DeviceError(
            f"provider {provider} was asked for, but this onnxruntime offers {', '.join(available)}"
            " only; for GPUs: pip uninstall onnxruntime, then pip install onnxruntime-gpu; or use"
            " `provider='cpu'`"
        )
    return provider


def _packages() -> list[str]:
    """The distributions of onnxruntime that are installed; more than one spoil each other."""
    return [name for name in ("onnxruntime", "onnxruntime-gpu") if any(distributions(name=name))]


def _session(
    path: Path, provider: str, threads: int, spinning: bool, capture: bool, sha256: str | None
) -> tuple[ort.InferenceSession, int]:
    """A session of the file's content, and its size. Of bytes, as then there is no folder from
    which onnxruntime could open another file.
    """
    content = read_graph(path, sha256)
    options = _session_options(threads, spinning)
    disabled = SLOWER if provider == "cpu" else []

    def load() -> ort.InferenceSession:
        others = {"disabled_optimizers": disabled, "read_config_from_model": 0}
        return ort.InferenceSession(
            content, options, providers=_providers(provider, capture), **others
        )

    def stop() -> None:
        options.set_load_cancellation_flag(True)

    try:
        limit = None if provider == "tensorrt" else _seconds(LOADING, len(content))
        session = load() if limit is None else within(limit, load, stop)
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        if shortage := shortage_in(error):
            raise shortage from error
        raise CheckpointError(
            f"onnxruntime {ort.__version__} can't load {path}: {' '.join(str(error).split())}"
        ) from error
    # it would keep the whole file in memory, beside its own copy of the weights
    session._model_bytes = None
    if (got := session.get_providers()[0]) != PROVIDERS[provider]:
        raise DeviceError(
            f"provider {provider} was asked for, but onnxruntime fell back to {got}: its CUDA"
            " libraries or driver don't load; use `provider='cpu'` or repair them"
        )
    return session, len(content)


def _session_options(threads: int, spinning: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    # nothing but what was looked through, whatever its first bytes say
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3  # errors only; what went wrong is raised
    if not exact_int8_products():
        # kernels that don't overflow, at several times the price
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _seconds(limit: tuple[float, float], size: int) -> float:
    """For a graph of `size` bytes."""
    return limit[0] + limit[1] * size / 2**30


def _providers(provider: str, capture: bool) -> list[tuple[str, dict[str, str]]]:
    """The provider with its options, and those that take over what it can't do."""
    options = dict(OPTIONS[provider])
    if capture:
        options["enable_cuda_graph"] = "1"
    if provider != "tensorrt":
        return [(PROVIDERS[provider], options)]
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mismatch" / "tensorrt"
    )
    options |= {name: str(cache) for name in ("trt_engine_cache_path", "trt_timing_cache_path")}
    return [(PROVIDERS[provider], options), *_providers("cuda", capture=False)]


def _fingerprint(manifest: Manifest, engine: str) -> str:
    parts = [
        manifest.files,
        manifest.image_spec.to_dict(),
        manifest.text_spec.to_dict(),
        manifest.precision,
        engine,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
