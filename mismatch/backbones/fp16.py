"""Half precision for GPUs: weights and activations in fp16, what adds up many numbers in fp32."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

__all__ = ["to_half"]

ISLANDS = ("Exp", "Log", "Pow", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt")  # overflow at 65,504, or lose what they sum up


def to_half(source: Path, target: Path) -> int:
    """Write `source`'s graph in fp16 to `target`, its inputs and outputs still in fp32; returns how many weights are in fp16."""
    blocked = sorted({*DEFAULT_OP_BLOCK_LIST, *ISLANDS})
    model = convert_float_to_float16(onnx.load(source), keep_io_types=True, disable_shape_infer=True, op_block_list=blocked)
    onnx.save(model, target)
    return sum(entry.data_type == onnx.TensorProto.FLOAT16 for entry in model.graph.initializer)
