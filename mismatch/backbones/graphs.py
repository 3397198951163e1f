"""From a torch module to an ONNX file: the one way in which graphs are written, for bundles and for the contract kit."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from mismatch.backbones.base import Backbone
from mismatch.errors import CheckpointError

__all__ = ["OPSET", "quantize", "write_graph", "write_image_encoder", "write_text_encoder"]

OPSET = 20  # 23's Attention op is slower on CPU
MAX_GRAPH_BYTES = 2**31 - 2**20  # protobuf's limit for one file
BATCH = 2  # that is traced; 1 would be taken for a constant
TOKENS = 8  # length that is traced where it is dynamic


class _ImageEncoder(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, image_dim)."""
        return self.backbone.encode_image(pixel_values)


class _TextEncoder(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), twice → (B, text_dim)."""
        return self.backbone.encode_text(input_ids, attention_mask)


def write_image_encoder(backbone: Backbone, path: Path) -> None:
    """`pixel_values` (B, 3, S, S) → `image_embedding` (B, image_dim), B dynamic. The backbone is on the CPU."""
    size = backbone.image_spec.size
    inputs = {"pixel_values": torch.rand(BATCH, 3, size, size)}
    write_graph(_ImageEncoder(backbone), inputs, {"pixel_values": {0: Dim("batch")}}, "image_embedding", path)


def write_text_encoder(backbone: Backbone, path: Path) -> None:
    """`input_ids`, `attention_mask` (B, L) → `text_embedding` (B, text_dim), B dynamic, and L where the spec pads to the longest."""
    spec = backbone.text_spec
    dynamic = {0: Dim("batch")} | ({1: Dim("length", min=2, max=spec.context_length)} if spec.padding == "longest" else {})
    tokens = min(TOKENS, spec.context_length) if spec.padding == "longest" else spec.context_length
    ids = torch.arange(BATCH * tokens).reshape(BATCH, tokens) % 7 + 1  # (2, L)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    write_graph(_TextEncoder(backbone), inputs, {"input_ids": dynamic, "attention_mask": dynamic}, "text_embedding", path)


def write_graph(module: nn.Module, inputs: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, Any]], output: str, path: Path) -> None:
    """Trace `module` in eval mode and write it as one file; `dynamic` names the axes of each input that may vary.

    Raises CheckpointError for a graph that one ONNX file can't hold; whatever torch raises where it can't trace the module.
    """
    with torch.inference_mode(), _quiet(), _decomposed_attention():
        program = torch.onnx.export(
            module.eval(),
            (),
            kwargs=dict(inputs),
            dynamo=True,
            dynamic_shapes=dict(dynamic),
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


def quantize(source: Path, target: Path) -> None:
    """Dynamic int8 quantisation of a graph's MatMul and Gemm, weights signed and per channel; convolutions stay in fp32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8)


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
def _quiet() -> Iterator[None]:
    """torch's exporter and onnxruntime's quantiser warn of their own internals; none of it is for our users."""
    names = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    logging.getLogger().addFilter(_not_quantizers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeFilter(_not_quantizers)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _not_quantizers(record: logging.LogRecord) -> bool:
    """onnxruntime's quantiser advises through the root logger, which is the host's: only its own lines are held back."""
    return "quantization" not in record.pathname


@contextlib.contextmanager
def _decomposed_attention() -> Iterator[None]:
    """nn.MultiheadAttention's fused fast path has no ONNX form."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
