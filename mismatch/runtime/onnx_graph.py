"""One ONNX graph in onnxruntime, which is imported here and nowhere else: its session, on which
provider, and how it is run.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import distributions
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.errors import CheckpointError, DeviceError, MismatchWarning
from mismatch.io.retries import shortage_in
from mismatch.runtime.graph_file import read_graph
from mismatch.runtime.hardware import exact_int8_products
from mismatch.runtime.libraries import send_nothing
from mismatch.runtime.time_limit import OverdueError, within

send_nothing("onnxruntime")
import onnxruntime as ort  # noqa: E402 - it reads its switch as it is loaded

__all__ = [
    "CAPTURE_ENV",
    "LOADING",
    "OLDEST",
    "OPTIONS",
    "PROVIDERS",
    "SLOWER",
    "VERSION",
    "Array",
    "BoundGraph",
    "Graph",
    "available_providers",
    "choose_provider",
    "installed_packages",
    "seconds_for",
]

Array = NDArray[np.float32]
VERSION: str = ort.__version__  # onnxruntime's
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
# onnxruntime's own rewriting that costs time on CPUs: its fused operator takes ten times a
# LayerNormalization
SLOWER = ["SkipLayerNormFusion"]
# seconds that a graph may take to load and to run once, and more for each GiB of it: ten times the
# usual
LOADING = (60.0, 120.0)
TRYING = (10.0, 60.0)
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
        """Load a graph. `output`: which one `()` gives, by default the graph's only one.
        `spinning`: whether its threads keep a CPU busy while they wait for work. `capture`: as a
        CUDA graph. `sha256`: that the file must have.

        Raises CheckpointError for a file that onnxruntime can't load, DeviceError where the
        provider is not to be had.
        """
        self._path = path
        self._provider = provider
        self._session, self._size = _session(path, provider, threads, spinning, capture, sha256)
        self._output = output or next((entry.name for entry in self._session.get_outputs()), "")
        self._inputs = {entry.name for entry in self._session.get_inputs()}

    def __call__(self, **feeds: NDArray[Any]) -> Array:
        """Return the output. Inputs that the graph doesn't have (a causal tower needs no mask) are
        left out. CheckpointError where the graph can't take them.
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
            output = within(seconds_for(TRYING, self._size), run, stop)
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
        """Refuse, by CheckpointError, an output of another shape."""
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

    `capture`: the GPU's work on a shape is recorded at its second call and replayed from then on.
    onnxruntime has no pinned buffers for Python.
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
        """Load a graph. `device`: where the buffers lie, cuda or cpu."""
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
        """Bind inputs and output to the device's memory. `number`: of the CUDA graph; -1: none."""
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
    """Fill the batch up to a power of two with its last row."""
    missing = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def available_providers() -> list[str]:
    """Return the providers that this onnxruntime has, the fastest first."""
    return list(ort.get_available_providers())


def choose_provider(provider: str, precision: str) -> str:
    """Return which provider runs a bundle: cpu, cuda or tensorrt; DeviceError for an absent one."""
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
        if len(packages := installed_packages()) > 1:
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


def installed_packages() -> list[str]:
    """Return the distributions of onnxruntime that are installed; two spoil each other."""
    return [name for name in ("onnxruntime", "onnxruntime-gpu") if any(distributions(name=name))]


def _session(
    path: Path, provider: str, threads: int, spinning: bool, capture: bool, sha256: str | None
) -> tuple[ort.InferenceSession, int]:
    """Open a session of the file's content; return it with the content's size, bytes. Opened of
    bytes, it has no folder from which onnxruntime could open another file.
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
        limit = None if provider == "tensorrt" else seconds_for(LOADING, len(content))
        session = load() if limit is None else within(limit, load, stop)
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        if shortage := shortage_in(error):
            raise shortage from error
        raise CheckpointError(
            f"onnxruntime {ort.__version__} can't load {path}: {' '.join(str(error).split())}"
        ) from error
    # it would keep the whole file in memory, next to its own copy of the weights
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


def seconds_for(limit: tuple[float, float], size: int) -> float:
    """Return the seconds for a graph of `size` bytes."""
    return limit[0] + limit[1] * size / 2**30


def _providers(provider: str, capture: bool) -> list[tuple[str, dict[str, str]]]:
    """Return the provider with its options, and those that take over what it can't do."""
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
