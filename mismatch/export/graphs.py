"""From a torch module to an ONNX file: the one way in which graphs are written, for bundles and for
the contract kit.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from mismatch.backbones.base import Backbone
from mismatch.backbones.faults import plugin_error, root_cause
from mismatch.backbones.features import encode_image, encode_text
from mismatch.errors import BackboneError, CheckpointError, MismatchError
from mismatch.export.fusion import TRANSLATIONS, fuse, plain_attention_modules
from mismatch.io.retries import shortage_in

__all__ = ["OPSET", "UNTRACEABLE", "write_graph", "write_image_encoder", "write_text_encoder"]

OPSET = 20  # 23's Attention op is slower on CPU
MAX_GRAPH_BYTES = 2**31 - 2**20  # protobuf's limit for one file
UNTRACEABLE = "avoid branches on values, python loops over tensors, and packed sequences"
BATCH = 2  # that is traced; 1 would be taken for a constant
TOKENS = 8  # length that is traced where it is dynamic


class _ImageGraph(nn.Module):
    """The embedding, and, where the head takes features, all that it sees."""

    def __init__(self, backbone: Backbone, features: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = features

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, S, S) → (B, image_dim), and (B, image_width) where that is more."""
        row = encode_image(self.backbone, pixel_values, self.features)
        return (row[:, : self.backbone.image_dim], row) if self.features else (row,)


class _TextGraph(_ImageGraph):
    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, ...]:
        """Map (B, L), twice → (B, text_dim), and (B, text_width) where that is more."""
        row = encode_text(self.backbone, input_ids, attention_mask, self.features)
        return (row[:, : self.backbone.text_dim], row) if self.features else (row,)


def write_image_encoder(backbone: Backbone, path: Path, features: tuple[str, ...] = ()) -> None:
    """Write the graph `pixel_values` (B, 3, S, S) → `image_embedding` (B, image_dim), B dynamic.
    With features it also gives `image_features`, the embedding with them behind it.

    The backbone is on the CPU.
    """
    size = backbone.image_spec.size
    inputs = {"pixel_values": torch.zeros(BATCH, 3, size, size)}
    outputs = ("image_embedding", "image_features") if features else ("image_embedding",)
    module = _ImageGraph(backbone, features)
    with _untraceable("encode_image"):
        write_graph(module, inputs, {"pixel_values": {0: Dim("batch")}}, outputs, path)


def write_text_encoder(backbone: Backbone, path: Path, features: tuple[str, ...] = ()) -> None:
    """Write the graph `input_ids`, `attention_mask` (B, L) → `text_embedding` (B, text_dim). With
    features it also gives `text_features`. B is dynamic, and L where the spec pads to the longest.
    """
    spec = backbone.text_spec
    dynamic = {0: Dim("batch")} | (
        {1: Dim("length", min=2, max=spec.context_length)} if spec.padding == "longest" else {}
    )
    tokens = min(TOKENS, spec.context_length) if spec.padding == "longest" else spec.context_length
    ids = torch.arange(BATCH * tokens).reshape(BATCH, tokens) % 7 + 1  # (2, L)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    outputs = ("text_embedding", "text_features") if features else ("text_embedding",)
    axes = {"input_ids": dynamic, "attention_mask": dynamic}
    with _untraceable("encode_text"):
        write_graph(_TextGraph(backbone, features), inputs, axes, outputs, path)


@contextlib.contextmanager
def _untraceable(tower: str) -> Iterator[None]:
    """Say what hinders an export, in a line with the author's own file and place."""
    try:
        yield
    except MismatchError:
        raise
    except Exception as error:
        if shortage_in(error) is not None:
            raise
        words = f"{tower} can't be exported to ONNX: {root_cause(error)}; {UNTRACEABLE}"
        raise plugin_error(error, words) or BackboneError(words) from error


def write_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic: Mapping[str, Mapping[int, Any]],
    outputs: Sequence[str],
    path: Path,
) -> None:
    """Trace `module` in eval mode and write it as one file; `inputs`: the arguments of its
    `forward`, in order, by their names in the graph; `dynamic` names the axes of each that may
    vary; `outputs` what it gives.

    Raises CheckpointError for a graph that one ONNX file can't hold; whatever torch raises where it
    can't trace the module.
    """
    with torch.inference_mode(), _quiet(), _decomposed_attention(), plain_attention_modules():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple(dynamic[name] for name in inputs),
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    if program is None:
        raise CheckpointError(
            f"torch made no graph for {path.name}; this is a bug: please report it"
        )
    size = sum(
        value.const_value.nbytes
        for value in program.model.graph.initializers.values()
        if value.const_value is not None
    )
    if size > MAX_GRAPH_BYTES:
        raise CheckpointError(
            f"{path.name} would be {size / 2**30:.1f} GiB; one ONNX file holds 2 at most: use a"
            " smaller backbone"
        )
    fuse(program.model)
    _strip(program.model)
    program.save(path, external_data=False)


def _strip(model: Any) -> None:
    """Drop names of modules, source lines and folders of this machine, which torch writes next to
    every node.
    """
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
    """Silence torch's exporter until the block ends: it warns of its own internals, and none of it
    is for our users.
    """
    names = (
        "torch.onnx",
        "torch.export",
        "torch.fx",
        "torch._dynamo",
        "torch.fx.experimental.symbolic_shapes",
        "onnxscript",
        "onnx_ir",
    )
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what fails is raised
    try:
        # torch prints the graph of what it can't trace
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _decomposed_attention() -> Iterator[None]:
    """Turn nn.MultiheadAttention's fused fast path off until the block ends: it has no ONNX form;
    then restore what was set.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
