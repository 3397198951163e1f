"""A trained model → a bundle: two encoders and a head as ONNX graphs, written only if they agree with torch."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from mismatch import __version__
from mismatch.errors import CheckpointError, InputError
from mismatch.export.parity import ParityReport, Progress, Tolerance, built_in_pairs, check, compare
from mismatch.files import atomic_directory, write_json
from mismatch.runtime.bundle import GRAPHS, MANIFEST, PARITY, TOKENIZER, Manifest, looks_like_bundle, write_manifest
from mismatch.runtime.pipeline import Pair
from mismatch.runtime.sessions import open_bundle
from mismatch.training.detector import Detector
from mismatch.training.engine import TorchEngine

__all__ = ["OPSET", "ExportResult", "export_bundle"]

OPSET = 20  # 23's Attention op is slower on CPU
MAX_GRAPH_BYTES = 2**31 - 2**20  # protobuf's limit for one file
PRECISIONS = ("fp32",)


@dataclass(frozen=True)
class ExportResult:
    """Where the bundle lies and what its comparison with torch showed."""

    folder: Path
    parity: ParityReport
    bytes: int  # of all files


class _ImageEncoder(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone = detector.backbone

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, image_dim)."""
        return self.backbone.encode_image(pixel_values)


class _TextEncoder(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone = detector.backbone

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, text_dim)."""
        return self.backbone.encode_text(input_ids, attention_mask)


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
    """The three graphs, traced with batch 2 on the CPU."""
    images, texts = detector.backbone.image_spec, detector.backbone.text_spec
    batch = Dim("batch")
    length = {1: Dim("length", min=2, max=texts.context_length)} if texts.padding == "longest" else {}
    tokens = min(8, texts.context_length) if length else texts.context_length
    ids = torch.arange(2 * tokens).reshape(2, tokens) % 7 + 1  # (2, L)
    size = images.size
    _export(
        _ImageEncoder(detector), {"pixel_values": torch.rand(2, 3, size, size)}, {"pixel_values": {0: batch}}, "image_embedding", folder / "image_encoder.onnx"
    )
    _export(
        _TextEncoder(detector),
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        {"input_ids": {0: batch, **length}, "attention_mask": {0: batch, **length}},
        "text_embedding",
        folder / "text_encoder.onnx",
    )
    _export(
        detector.head,
        {"image_embedding": torch.rand(2, detector.backbone.image_dim), "text_embedding": torch.rand(2, detector.backbone.text_dim)},
        {"image_embedding": {0: batch}, "text_embedding": {0: batch}},
        "logit",
        folder / "head.onnx",
    )


def _export(module: nn.Module, inputs: dict[str, Tensor], dynamic: dict[str, Any], output: str, path: Path) -> None:
    with torch.inference_mode(), _quiet(), _decomposed_attention():
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[output],
            verbose=False,
        )
    if program is None:
        raise CheckpointError(f"torch made no graph for {path.name}; this is a bug: please report it")
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value is not None)
    if size > MAX_GRAPH_BYTES:
        raise CheckpointError(f"{path.name} would be {size / 2**30:.1f} GiB; one ONNX file holds 2 at most: use a smaller backbone")
    _strip(program.model)
    program.save(path, external_data=False)


def _strip(model: Any) -> None:
    """Drop names of modules, source lines and folders of this machine, which torch writes beside every node."""
    for graph in model.graphs():
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
    model.metadata_props.clear()


@contextlib.contextmanager
def _on_cpu(detector: Detector) -> Iterator[Detector]:
    """The detector in eval mode on the CPU, where graphs are traced, and back where it was."""
    device = detector.backbone.device
    try:
        yield detector.eval().cpu()
    finally:
        detector.to(device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter warns of its own internals; none of it is for our users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _decomposed_attention() -> Iterator[None]:
    """nn.MultiheadAttention's fused fast path has no ONNX form."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


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
