"""Does this text describe this image? The public names, each imported from its home when it is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mismatch.backbones.hookspecs import hookimpl
    from mismatch.backbones.registry import load_backbone
    from mismatch.errors import (
        BackboneError,
        CheckpointError,
        DeviceError,
        ImageError,
        ImageNotFoundError,
        ImageRefusedError,
        InputError,
        LabelError,
        MachineError,
        MismatchError,
        MissingExtraError,
        ParityError,
    )
    from mismatch.jobs.benchmark import BenchmarkResult, benchmark
    from mismatch.jobs.calibrate import CalibrationResult, calibrate
    from mismatch.jobs.explain_rows import ExplainRowsResult, RowExplanation, explain_rows
    from mismatch.jobs.export_onnx import ExportResult, TritonRepository, export_onnx
    from mismatch.jobs.predict_file import PredictFileResult, predict_file
    from mismatch.runtime.explain import Explanation, explain
    from mismatch.runtime.predictor import Prediction, Predictor, load
    from mismatch.specs import (
        Calibration,
        HeadSpec,
        ImageSpec,
        ReviewBand,
        ScoreSpec,
        SliceThresholds,
        TextSpec,
        Threshold,
    )

__all__ = [
    "BackboneError",
    "BenchmarkResult",
    "Calibration",
    "CalibrationResult",
    "CheckpointError",
    "DeviceError",
    "ExplainRowsResult",
    "Explanation",
    "ExportResult",
    "HeadSpec",
    "ImageError",
    "ImageNotFoundError",
    "ImageRefusedError",
    "ImageSpec",
    "InputError",
    "LabelError",
    "MachineError",
    "MismatchError",
    "MissingExtraError",
    "ParityError",
    "PredictFileResult",
    "Prediction",
    "Predictor",
    "ReviewBand",
    "RowExplanation",
    "ScoreSpec",
    "SliceThresholds",
    "TextSpec",
    "Threshold",
    "TritonRepository",
    "__version__",
    "benchmark",
    "calibrate",
    "explain",
    "explain_rows",
    "export_onnx",
    "hookimpl",
    "load",
    "load_backbone",
    "predict_file",
]

__version__ = "0.1.0"

_HOMES = {
    "Prediction": "runtime.predictor",
    "Predictor": "runtime.predictor",
    "load": "runtime.predictor",
}
_HOMES |= dict.fromkeys(("BenchmarkResult", "benchmark"), "jobs.benchmark")
_HOMES |= dict.fromkeys(("CalibrationResult", "calibrate"), "jobs.calibrate")
_HOMES |= dict.fromkeys(("ExportResult", "TritonRepository", "export_onnx"), "jobs.export_onnx")
_HOMES |= dict.fromkeys(("PredictFileResult", "predict_file"), "jobs.predict_file")
_HOMES |= dict.fromkeys(
    ("ExplainRowsResult", "RowExplanation", "explain_rows"), "jobs.explain_rows"
)
_HOMES |= {"Explanation": "runtime.explain", "explain": "runtime.explain"}
_HOMES |= {"hookimpl": "backbones.hookspecs", "load_backbone": "backbones.registry"}
_HOMES |= dict.fromkeys(
    (
        "Calibration",
        "HeadSpec",
        "ImageSpec",
        "ReviewBand",
        "ScoreSpec",
        "SliceThresholds",
        "TextSpec",
        "Threshold",
    ),
    "specs",
)
_HOMES |= {name: "errors" for name in __all__ if name.endswith("Error")}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562), so that `import mismatch` loads
    neither torch nor onnxruntime.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'mismatch' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"mismatch.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
