"""What makes an exported graph fast: attention and QuickGELU as the single operators that
onnxruntime has for them, weights cut and turned beforehand.

onnxruntime finds none of the attentions in the graphs that torch writes, so they are written as one
operator from the start. Its operators are in onnxruntime's domain com.microsoft, for CPU and CUDA;
before 1.22 it misread their masks on CPUs. Measured and left alone: its SkipLayerNormalization
takes ten times a LayerNormalization on a CPU, BiasGelu as long as Add and Gelu.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript
import torch
from onnx.defs import OpSchema
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
)
from onnxscript import opset20 as op
from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "DOMAIN",
    "TRANSLATIONS",
    "add_initializer",
    "constant",
    "fuse",
    "plain_attention_modules",
    "producer",
    "replace_node",
]

DOMAIN = "com.microsoft"
LOW = -3e38  # in place of -inf: a score that no softmax sees, and no nan where a row has no other


# --- attention: torch's operator becomes onnxruntime's


def _schema() -> OpSchema:
    """Return the part of com.microsoft's MultiHeadAttention that is used; onnx knows only its own
    operators.
    """
    optional = OpSchema.FormalParameterOption.Optional
    kinds = OpSchema.AttrType
    value = OpSchema.FormalParameter
    attribute = OpSchema.Attribute
    return OpSchema(
        "MultiHeadAttention",
        DOMAIN,
        1,
        inputs=[
            *(value(name, "T") for name in ("query", "key", "value")),
            value("bias", "T", param_option=optional),
            value("key_padding_mask", "M", param_option=optional),
            value("attention_bias", "T", param_option=optional),
        ],
        outputs=[value("output", "T")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)"], ""),
            ("M", ["tensor(int32)"], ""),
        ],
        attributes=[
            attribute("num_heads", kinds.INT, required=True),
            attribute("scale", kinds.FLOAT, required=False),
            attribute("unidirectional", kinds.INT, required=False),
        ],
    )


_attention = onnxscript.values.Op(
    onnxscript.values.Opset(DOMAIN, 1), "MultiHeadAttention", _schema()
)


def _scaled_dot_product_attention(  # torch's own signature  # noqa: PLR0913
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Map (B, H, L, D), three times → (B, H, L, D); leave what onnxruntime's operator can't do to
    torch's own decomposition.
    """
    heads = query.shape[1]
    width = query.shape[3]
    alike = all(isinstance(n, int) for n in (heads, width)) and all(
        (x.shape[1], x.shape[3]) == (heads, width) for x in (key, value)
    )
    if not alike or (attn_mask is not None and len(attn_mask.shape) > 4):
        return aten_scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    # (B, L, H · D)
    rows = [
        op.Reshape(
            op.Transpose(x, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, heads * width])
        )
        for x in (query, key, value)
    ]
    options = {} if scale is None else {"scale": float(scale)}
    mask = None if attn_mask is None else _additive(attn_mask)
    out = _attention(
        *rows, None, None, mask, num_heads=heads, unidirectional=int(is_causal), **options
    )
    return op.Transpose(
        op.Reshape(out, op.Constant(value_ints=[0, 0, heads, width])), perm=[0, 2, 1, 3]
    )


def _additive(mask: Any) -> Any:
    """Turn a mask of booleans, or of what is added to the scores, into the latter, finite, with
    four axes.
    """
    low = op.Constant(value_float=LOW)
    added = (
        op.Mul(op.Cast(op.Not(mask), to=ir.DataType.FLOAT), low)
        if mask.dtype == ir.DataType.BOOL
        else op.Max(mask, low)
    )
    missing = 4 - len(mask.shape)
    return op.Unsqueeze(added, op.Constant(value_ints=list(range(missing)))) if missing else added


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.scaled_dot_product_attention.default: _scaled_dot_product_attention
}


@contextlib.contextmanager
def plain_attention_modules() -> Iterator[None]:
    """Trace nn.MultiheadAttention, until the block ends, without its detour over (L, B, D) and
    packed reshapes: the same sums, a third of the nodes.
    """
    original = nn.MultiheadAttention.forward
    nn.MultiheadAttention.forward = _multi_head_attention  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.MultiheadAttention.forward = original  # type: ignore[method-assign]


def _multi_head_attention(  # noqa: PLR0913
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute what torch does, with its own signature and result, weights left out. A mask that is
    given decides, as `is_causal` is only a hint.
    """
    supported = query.dim() == 3 and key_padding_mask is None and not need_weights
    if attn_mask is not None and attn_mask.dim() == 3:
        supported = False
    if not supported or self.in_proj_bias is None or not _is_plain(self):
        return _ORIGINAL(
            self,
            query,
            key,
            value,
            key_padding_mask,
            need_weights,
            attn_mask,
            average_attn_weights,
            is_causal,
        )
    # (B, L, D) each
    sides = (
        (query, key, value)
        if self.batch_first
        else [x.transpose(0, 1) for x in (query, key, value)]
    )
    projections = zip(sides, self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
    shape = (self.num_heads, self.head_dim)
    # (B, H, L, D / H) each
    q, k, v = (
        torch.unflatten(F.linear(*parts), -1, shape).transpose(1, 2) for parts in projections
    )
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=attn_mask, is_causal=is_causal and attn_mask is None
    )
    out = self.out_proj(out.transpose(1, 2).flatten(2))  # (B, L, D)
    return (out if self.batch_first else out.transpose(0, 1)), None


def _is_plain(module: nn.MultiheadAttention) -> bool:
    """Return whether all of its inputs have one width, and nothing is added to keys and values."""
    same_width: bool = module._qkv_same_embed_dim
    return same_width and module.bias_k is None and not module.add_zero_attn


_ORIGINAL = nn.MultiheadAttention.forward


# --- the rest: found in the written graph


def fuse(model: ir.Model) -> None:
    """Rewrite a graph in place; what it computes stays the same but for rounding."""
    graph = model.graph
    _fold_weights(graph)
    CommonSubexpressionEliminationPass()(model)
    IdentityEliminationPass()(model)
    for node in list(graph):
        if node.op_type == "MultiHeadAttention":
            _attention_rows(graph, node)
        elif node.op_type == "Mul":
            _quick_gelu(graph, node)
    RemoveUnusedNodesPass()(model)
    for node in list(graph):
        if node.op_type == "MultiHeadAttention":
            _fold_biases(graph, node)
    RemoveUnusedNodesPass()(model)
    if any(node.domain == DOMAIN for node in graph):
        model.opset_imports[DOMAIN] = 1


def _fold_weights(graph: ir.Graph) -> None:
    """Cut and turn weights now, which torch leaves to each start where they are large."""
    for node in list(graph):
        array = constant(node.inputs[0]) if node.op_type in ("Split", "Transpose") else None
        if array is None:
            continue
        values = {name: attribute.value for name, attribute in node.attributes.items()}
        if node.op_type == "Transpose":
            parts = [array.transpose(values.get("perm"))]
        else:
            axis = values.get("axis", 0)
            sizes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            if sizes is None and array.shape[axis] % len(node.outputs):
                continue
            parts = np.split(
                array, len(node.outputs) if sizes is None else np.cumsum(sizes)[:-1], axis=axis
            )
        for part, output in zip(parts, node.outputs, strict=True):
            ir.convenience.replace_all_uses_with(
                output, add_initializer(graph, f"{output.name}_folded", np.ascontiguousarray(part))
            )
        graph.remove(node, safe=True)  # so that what it cut is unused, and left out of the file


def _attention_rows(graph: ir.Graph, node: ir.Node) -> None:
    """Leave out reshapes to heads and back on either side of attention."""
    rows = [_whole(value) for value in node.inputs[:3]]
    fused = ir.node("MultiHeadAttention", [*rows, *node.inputs[3:]], node.attributes, domain=DOMAIN)
    replace_node(graph, node, fused)
    [out] = fused.outputs
    _same_type(rows[0], out)
    width = _shape(rows[0])[2:]  # [H · D]
    # (B, L, H · D) → (B, L, H, D) → (B, L, H · D)
    for reshape in [user for user, _ in out.uses() if user.op_type == "Reshape"]:
        for again in [user for user, _ in reshape.outputs[0].uses()]:
            if (
                again.op_type == "Reshape"
                and _shape(again.outputs[0])[2:] == width
                and not again.outputs[0].is_graph_output()
            ):
                ir.convenience.replace_all_uses_with(again.outputs[0], out)


def _fold_biases(graph: ir.Graph, node: ir.Node) -> None:
    """Drop the bias of attention's keys, which adds the same to all scores of a query. Fold its
    values' bias into what follows, as weights sum to 1.
    """
    if (key := _biased(node.inputs[1])) is not None:
        node.replace_input_with(1, key[0])
    value = _biased(node.inputs[2])
    products = [user for user, _ in node.outputs[0].uses()]
    if (
        value is None
        or len(products) != 1
        or products[0].op_type != "MatMul"
        or (weights := constant(products[0].inputs[1])) is None
    ):
        return
    adds = [user for user, _ in products[0].outputs[0].uses()]
    if (
        len(adds) == 1
        and (last := _biased(adds[0].outputs[0])) is not None
        and last[0] is products[0].outputs[0]
    ):
        bias = add_initializer(
            graph,
            f"{adds[0].outputs[0].name}_folded",
            (last[1] + value[1].astype(np.float64) @ weights).astype(last[1].dtype),
        )
        adds[0].replace_input_with(list(adds[0].inputs).index(last[0]) ^ 1, bias)
        node.replace_input_with(2, value[0])


def _biased(value: Any) -> tuple[ir.Value, Any] | None:
    """Return what a constant row is added to, and that row; None where there is none."""
    add = producer(value, "Add")
    for x, other in () if add is None else (add.inputs, add.inputs[::-1]):
        if (row := constant(other)) is not None and row.ndim == 1:
            return x, row
    return None


def _whole(value: Any) -> Any:
    """Return what a chain of reshapes, to (B, L, heads, D) and back to (B, L, heads · D), began
    with. Without one that is the value itself.
    """
    node = producer(value, "Reshape")
    before = node and producer(node.inputs[0], "Reshape")
    first = before and before.inputs[0]
    return (
        first if first is not None and _shape(first) and _shape(first) == _shape(value) else value
    )


def _quick_gelu(graph: ir.Graph, node: ir.Node) -> None:
    """Write x · sigmoid(a · x) as one operator."""
    for x, gate in (node.inputs, node.inputs[::-1]):
        sigmoid = producer(gate, "Sigmoid")
        scaled = sigmoid and producer(sigmoid.inputs[0], "Mul")
        if not scaled or x not in scaled.inputs:
            continue
        [factor] = [value for value in scaled.inputs if value is not x] or [None]
        if factor is not None and (alpha := constant(factor)) is not None and alpha.size == 1:
            replace_node(
                graph,
                node,
                ir.node("QuickGelu", [x], {"alpha": float(alpha.reshape(()))}, domain=DOMAIN),
            )
            return


def replace_node(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Replace one node by another, whose first output takes over."""
    old_output = old.outputs[0]
    new_output = new.outputs[0]
    _same_type(old_output, new_output)
    graph.insert_before(old, new)
    if old_output.is_graph_output():
        new_output.name = old_output.name
        old_output.name = None
    ir.convenience.replace_all_uses_with(old_output, new_output, replace_graph_outputs=True)


def _same_type(source: ir.Value, target: ir.Value) -> None:
    target.shape = source.shape
    if source.type is not None:
        target.type = source.type


def add_initializer(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    """Add a new constant to the graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def producer(value: Any, op_type: str) -> Any:
    """Return the node that makes a value, if it is of this type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def constant(value: Any) -> Any:
    """Return a value's numpy array where it is known at export, else None."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _shape(value: Any) -> list[Any]:
    """Return the axes, numbers or names; none where they are not known."""
    return [] if value is None or value.shape is None else list(value.shape)
