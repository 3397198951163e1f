"""Does this text describe this image? The public names, each imported from its home when it is
first used.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mismatch.backbones.hookspecs import hookimpl
    from mismatch.backbones.registry import list_models, load_backbone
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
        MisuseError,
        ParityError,
    )
    from mismatch.jobs.audit import AuditReport, audit
    from mismatch.jobs.audit_labels import audit_labels
    from mismatch.jobs.benchmark import BenchmarkResult, benchmark
    from mismatch.jobs.calibrate import CalibrationResult, calibrate
    from mismatch.jobs.convert import ConvertResult, convert
    from mismatch.jobs.doctor import DoctorResult, doctor
    from mismatch.jobs.evaluate import evaluate
    from mismatch.jobs.evaluation_result import Evaluation
    from mismatch.jobs.explain import Explanation, explain
    from mismatch.jobs.explain_rows import ExplainRowsResult, RowExplanation, explain_rows
    from mismatch.jobs.export_onnx import ExportResult, TritonRepository, export_onnx
    from mismatch.jobs.fetch import FetchResult, fetch
    from mismatch.jobs.label_audit import LabelAudit
    from mismatch.jobs.make_negatives import NegativesResult, make_negatives
    from mismatch.jobs.predict_file import PredictFileResult, predict_file
    from mismatch.jobs.push import PushResult, push
    from mismatch.jobs.quickstart import QuickstartResult, quickstart
    from mismatch.jobs.serve import serve
    from mismatch.jobs.split import split
    from mismatch.jobs.split_result import SplitResult
    from mismatch.jobs.train import train
    from mismatch.jobs.tune_threshold import ThresholdResult, tune_threshold
    from mismatch.runtime.predictions import Predictions
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
    from mismatch.training.config import TrainConfig
    from mismatch.training.result import TrainResult

__all__ = [
    "AuditReport",
    "BackboneError",
    "BenchmarkResult",
    "Calibration",
    "CalibrationResult",
    "CheckpointError",
    "ConvertResult",
    "DeviceError",
    "DoctorResult",
    "Evaluation",
    "ExplainRowsResult",
    "Explanation",
    "ExportResult",
    "FetchResult",
    "HeadSpec",
    "ImageError",
    "ImageNotFoundError",
    "ImageRefusedError",
    "ImageSpec",
    "InputError",
    "LabelAudit",
    "LabelError",
    "MachineError",
    "MismatchError",
    "MissingExtraError",
    "MisuseError",
    "NegativesResult",
    "ParityError",
    "PredictFileResult",
    "Prediction",
    "Predictions",
    "Predictor",
    "PushResult",
    "QuickstartResult",
    "ReviewBand",
    "RowExplanation",
    "ScoreSpec",
    "SliceThresholds",
    "SplitResult",
    "TextSpec",
    "Threshold",
    "ThresholdResult",
    "TrainConfig",
    "TrainResult",
    "TritonRepository",
    "__version__",
    "audit",
    "audit_labels",
    "benchmark",
    "calibrate",
    "convert",
    "doctor",
    "evaluate",
    "explain",
    "explain_rows",
    "export_onnx",
    "fetch",
    "hookimpl",
    "list_models",
    "load",
    "load_backbone",
    "make_negatives",
    "predict_file",
    "push",
    "quickstart",
    "serve",
    "split",
    "train",
    "tune_threshold",
]

__version__ = "0.1.0"

# a library is silent until its user, or the command line, adds a handler
logging.getLogger("mismatch").addHandler(logging.NullHandler())

_HOMES = {
    "Prediction": "runtime.predictor",
    "Predictions": "runtime.predictions",
    "Predictor": "runtime.predictor",
    "load": "runtime.predictor",
}
_HOMES |= dict.fromkeys(("AuditReport", "audit"), "jobs.audit")
_HOMES |= dict.fromkeys(("CalibrationResult", "calibrate"), "jobs.calibrate")
_HOMES |= dict.fromkeys(("ConvertResult", "convert"), "jobs.convert")
_HOMES |= dict.fromkeys(("NegativesResult", "make_negatives"), "jobs.make_negatives")
_HOMES |= {"SplitResult": "jobs.split_result", "split": "jobs.split"}
_HOMES |= {"LabelAudit": "jobs.label_audit", "audit_labels": "jobs.audit_labels"}
_HOMES |= {"Evaluation": "jobs.evaluation_result", "evaluate": "jobs.evaluate"}
_HOMES |= dict.fromkeys(("ThresholdResult", "tune_threshold"), "jobs.tune_threshold")
_HOMES |= dict.fromkeys(("BenchmarkResult", "benchmark"), "jobs.benchmark")
_HOMES |= dict.fromkeys(("ExportResult", "TritonRepository", "export_onnx"), "jobs.export_onnx")
_HOMES |= dict.fromkeys(("PredictFileResult", "predict_file"), "jobs.predict_file")
_HOMES |= dict.fromkeys(
    ("ExplainRowsResult", "RowExplanation", "explain_rows"), "jobs.explain_rows"
)
_HOMES |= dict.fromkeys(("FetchResult", "fetch"), "jobs.fetch")
_HOMES |= dict.fromkeys(("Explanation", "explain"), "jobs.explain")
_HOMES |= dict.fromkeys(("PushResult", "push"), "jobs.push")
_HOMES |= dict.fromkeys(("QuickstartResult", "quickstart"), "jobs.quickstart")
_HOMES |= dict.fromkeys(("DoctorResult", "doctor"), "jobs.doctor")
_HOMES |= {"hookimpl": "backbones.hookspecs"}
_HOMES |= dict.fromkeys(("list_models", "load_backbone"), "backbones.registry")
_HOMES |= {"TrainConfig": "training.config", "TrainResult": "training.result"}
_HOMES |= {"serve": "jobs.serve", "train": "jobs.train"}
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
