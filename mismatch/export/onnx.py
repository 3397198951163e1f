"""A trained model → a bundle: two encoders and a head as ONNX graphs, written only if they agree with torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import Dim

from mismatch import __version__
from mismatch.backbones.graphs import OPSET, write_graph, write_image_encoder, write_text_encoder
from mismatch.errors import CheckpointError, InputError
from mismatch.export.parity import ParityReport, Progress, Tolerance, built_in_pairs, check, compare
from mismatch.files import atomic_directory, write_json
from mismatch.runtime.bundle import GRAPHS, MANIFEST, PARITY, TOKENIZER, Manifest, looks_like_bundle, seen_by, write_manifest
from mismatch.runtime.pipeline import Pair
from mismatch.runtime.sessions import open_bundle
from mismatch.training.detector import Detector
from mismatch.training.engine import TorchEngine

__all__ = ["ExportResult", "export_bundle"]

PRECISIONS = ("fp32",)


@dataclass(frozen=True)
class ExportResult:
    """Where the bundle lies and what its comparison with torch showed."""

    folder: Path
    parity: ParityReport
    bytes: int  # of all files


def export_bundle(
    engine: TorchEngine,
    output: Path,
    *,
    precision: str = "fp32",
    pairs: Sequence[Pair] | None = None,
    source: str = "built-in images and texts",
    tolerance: Tolerance = Tolerance(),  # noqa: B008 (frozen)
    provider: str = "cpu",
    progress: Progress | None = None,
) -> ExportResult:
    """Write a bundle to `output`, replacing one that is there. `pairs` (default: built-in ones) are scored by torch and by the bundle.

    Raises ParityError beyond `tolerance`; then, as after any error, nothing of the new bundle stays and an older one is untouched.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not available yet; use {' or '.join(PRECISIONS)}")
    _check_target(output)
    with atomic_directory(output) as folder:
        with _on_cpu(engine.detector) as detector:
            _write_graphs(detector, folder)
        (folder / TOKENIZER).write_text(engine.text_spec.tokenizer_json, encoding="utf-8")
        write_manifest(folder, _manifest(engine, precision))
        candidate = open_bundle(folder, provider=provider, threads=torch.get_num_threads())
        report = compare(
            engine,
            candidate,
            built_in_pairs() if pairs is None else pairs,
            source=source,
            threshold=engine.score.threshold_in_use,
            progress=progress,
        )
        check(report, tolerance)
        write_json(
            folder / PARITY, {**report.to_dict(), "tolerance": vars(tolerance), "versions": {**_versions(), "onnxruntime": candidate.describe()["onnxruntime"]}}
        )
        write_manifest(folder, _manifest(engine, precision))
    return ExportResult(output, report, sum(file.stat().st_size for file in output.iterdir()))


def _check_target(output: Path) -> None:
    """Only a bundle, with nothing else in its folder, or an empty folder is ever replaced."""
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output} is a file; choose another --output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not looks_like_bundle(output):
        raise CheckpointError(f"{output} exists and is not a bundle; choose another --output")
    if foreign := sorted({path.name for path in output.iterdir()} - {MANIFEST, TOKENIZER, PARITY, *GRAPHS}):
        raise CheckpointError(f"{output} is an older bundle with other files in it ({', '.join(foreign[:3])}), which would be lost; choose another --output")


def _write_graphs(detector: Detector, folder: Path) -> None:
    """The three graphs, traced on the CPU."""
    backbone, batch = detector.backbone, {0: Dim("batch")}
    head = detector.head.spec
    image, text = seen_by(head)
    write_image_encoder(backbone, folder / "image_encoder.onnx", head.image_features)
    write_text_encoder(backbone, folder / "text_encoder.onnx", head.text_features)
    inputs = {image: torch.rand(2, head.image_width), text: torch.rand(2, head.text_width)}
    write_graph(detector.head, inputs, dict.fromkeys(inputs, batch), ("logit",), folder / "head.onnx")


@contextlib.contextmanager
def _on_cpu(detector: Detector) -> Iterator[Detector]:
    """The detector in eval mode on the CPU, where graphs are traced, and back where it was."""
    device = detector.backbone.device
    try:
        yield detector.eval().cpu()
    finally:
        detector.to(device)


def _manifest(engine: TorchEngine, precision: str) -> Manifest:
    return Manifest(
        backbone=engine.meta.backbone,
        image_spec=engine.image_spec,
        text_spec=engine.text_spec,
        head=engine.detector.head.spec,
        score=engine.score,
        precision=precision,
        opset=OPSET,
        mismatch_version=__version__,
    )


def _versions() -> dict[str, str]:
    import onnx

    return {"torch": torch.__version__, "onnx": onnx.__version__, "mismatch": __version__}
