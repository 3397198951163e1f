"""Half precision for GPUs: weights and activations in fp16, what adds up many numbers in fp32."""

from __future__ import annotations

from pathlib import Path

import onnx

from mismatch.runtime.libraries import send_nothing

send_nothing("onnxruntime")
# onnxruntime reads that switch as it is loaded
from onnxruntime.transformers.float16 import (  # noqa: E402
    DEFAULT_OP_BLOCK_LIST,
    convert_float_to_float16,
)

__all__ = ["to_half"]

# operators that overflow at 65,504, or lose what they sum up
ISLANDS = ("Exp", "Log", "Pow", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Sqrt")


def to_half(source: Path, target: Path) -> int:
    """Write `source`'s graph in fp16 to `target`, its inputs and outputs still in fp32; return how
    many weights are in fp16.
    """
    blocked = sorted({*DEFAULT_OP_BLOCK_LIST, *ISLANDS})
    model = convert_float_to_float16(
        onnx.load(source), keep_io_types=True, disable_shape_infer=True, op_block_list=blocked
    )
    _join_islands(model.graph)
    onnx.save(model, target)
    return sum(entry.data_type == onnx.TensorProto.FLOAT16 for entry in model.graph.initializer)


def _join_islands(graph: onnx.GraphProto) -> None:
    """Keep in fp32 what went from fp32 to fp16 and back to fp32. The converter casts between any
    two operators of an island, where numbers overflow.
    """
    kinds = onnx.TensorProto
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    target = {name: node.attribute[0].i for name, node in casts.items()}
    inputs = {
        entry.name for entry in graph.input if entry.type.tensor_type.elem_type == kinds.FLOAT
    }
    for node in graph.node:
        for position, name in enumerate(node.input):
            before = casts[name].input[0] if target.get(name) == kinds.FLOAT else ""
            if target.get(before) == kinds.FLOAT16 and (
                (source := casts[before].input[0]) in inputs or source.endswith("_cast_to_fp16")
            ):
                node.input[position] = source
    results = {entry.name for entry in graph.output}
    while unread := [
        node
        for node in graph.node
        if node.op_type == "Cast"
        and node.output[0] not in {*results, *(x for n in graph.node for x in n.input)}
    ]:
        for node in unread:
            graph.node.remove(node)
